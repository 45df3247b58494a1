// Whisper: an encoder over a recording's features, and a decoder that writes the transcript and looks at what the
// encoder made.
//
// Source   Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356, section 2.2
// Given    features [frames, bands], two frames a position of the encoder; transformers' names of tensors
// Result   the stream holds the rows of the encoder, then those of the decoder; behind the last branch the decoder's alone
// Checked  WhisperTests: the encoder's result and the logits equal those of transformers

public import Checkpoints
import Encodings
import JSONDocuments
public import Tensors

/// Whisper over a checkpoint's weights.
///
/// The convolutions and the positions of the encoder are small and feed every later layer: no stage compresses them.
public final class WhisperNetwork: SpeechRecognizer, ModelFamily {
  /// The values of `model_type` that belong here.
  public static let modelTypes = ["whisper"]
  /// The norms' ε, PyTorch's default: no configuration names it.
  fileprivate static let epsilon: Float = 1e-5

  /// The family's name.
  public let family = "whisper"
  /// What it reads: frames and bands.
  public let input: SampleShape
  /// The longest transcript that there are positions for.
  public let contextLimit: Int
  /// Ids are below this.
  public let vocabularySize: Int
  /// Whether head and embedding are one matrix.
  public let isTied: Bool
  /// The token embedding.
  public let embedding: Linear
  /// The output layer; the embedding itself when they are tied.
  public let head: Linear
  /// The branches: those of the encoder, then those of the decoder.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  private let firstConvolution, secondConvolution: Linear
  /// Of the encoder, `[positions, width]`.
  private let encoderPositions: Matrix
  private let positions: Linear
  private var finalNorm: LayerNorm

  /// Positions of the decoder are rows of a table.
  public var hasPositionTable: Bool { true }
  /// The positions of the decoder.
  public var tables: [Linear] { [positions] }

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    try WhisperNetwork(checkpoint)
  }

  private init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let reader = ConfigurationReader(checkpoint)
    vocabularySize = try reader.size("vocab_size")
    contextLimit = try reader.size("max_target_positions", default: 448)
    let width = try reader.size("d_model")
    let bands = try reader.size("num_mel_bins", default: 80)
    let places = try reader.size("max_source_positions", default: 1500)
    let activation = try reader.activation("activation_function", default: "gelu")
    isTied = try reader.flag("tie_word_embeddings", default: true)
    // WhisperModel alone has no prefix.
    let root = checkpoint.holds("model.decoder.embed_tokens.weight") ? "model." : ""
    var parts = PartReader(checkpoint, root: root)

    let frames = 2 * places
    firstConvolution = try parts.convolution(
      "encoder.conv1", width, of: SampleShape([frames, bands]), stride: 1)
    secondConvolution = try parts.convolution(
      "encoder.conv2", width, of: SampleShape([frames, width]), stride: 2)
    input = SampleShape([frames, bands])
    let table = root + "encoder.embed_positions.weight"
    parts.leaveAlone([table])
    encoderPositions = Matrix(
      rows: places, columns: width, values: try checkpoint.floats(table, shape: [places, width]))

    var sublayers: [any Sublayer] = []
    let encoder = try Tower(reader, "encoder"), decoder = try Tower(reader, "decoder")
    for layer in 0..<encoder.layers {
      let prefix = "encoder.layers.\(layer)."
      sublayers.append(
        EncoderBranch(try parts.attention(prefix, encoder, mask: .full), positions: places))
      let isLast = layer == encoder.layers - 1
      sublayers.append(
        EncoderBranch(
          try parts.mlp(prefix, encoder, activation), positions: places,
          finalNorm: isLast
            ? try parts.layerNorm("encoder.layer_norm", width, epsilon: Self.epsilon) : nil))
    }
    for layer in 0..<decoder.layers {
      let prefix = "decoder.layers.\(layer)."
      sublayers.append(
        DecoderBranch(
          try parts.attention(prefix, decoder, mask: .causal(window: nil)), positions: places))
      sublayers.append(try parts.crossAttention(prefix, decoder, positions: places))
      sublayers.append(
        DecoderBranch(
          try parts.mlp(prefix, decoder, activation), positions: places,
          isLast: layer == decoder.layers - 1))
    }
    self.sublayers = sublayers
    embedding = try parts.linear("decoder.embed_tokens", vocabularySize, width, bias: false)
    positions = try parts.linear("decoder.embed_positions", contextLimit, width, bias: false)
    finalNorm = try parts.layerNorm("decoder.layer_norm", width, epsilon: Self.epsilon)
    var headParts = PartReader(checkpoint)
    head =
      isTied ? embedding : try headParts.linear("proj_out", vocabularySize, width, bias: false)
    // Some writers store the tied head a second time.
    parts.leaveAlone(["proj_out.weight"])
    tensorNames = parts.names
  }

  /// The sizes of encoder or decoder.
  fileprivate struct Tower {
    let layers, width, innerWidth, heads: Int

    init(_ reader: ConfigurationReader, _ name: String) throws(CheckpointError) {
      layers = try reader.size(name + "_layers")
      width = try reader.size("d_model")
      innerWidth = try reader.size(name + "_ffn_dim")
      heads = try reader.size(name + "_attention_heads")
      guard width % heads == 0 else {
        throw reader.wrong(
          "d_model", .integer(width), expected: "a multiple of \(heads) heads of the \(name)")
      }
    }

    func attention(_ mask: Attention.Mask) -> Attention {
      Attention(
        heads: heads, keyHeads: heads, headSize: width / heads, mask: mask,
        scale: 1 / Float(width / heads).squareRoot())
    }
  }

  /// The stream before the first branch: convolved features with their positions, then tokens with theirs.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    precondition(batch.tape == nil, "gradients of a speech recognizer")
    var tokens = embedding.gather(batch.tokens, tape: nil)
    let ids = batch.sequences.flatMap { sequence in
      (0..<sequence.count).map { Int32(position + $0) }
    }
    tokens.add(positions.gather(ids, tape: nil))
    guard let features = batch.features else { return tokens }
    var convolved = firstConvolution.apply(features)
    Activation.gelu.apply(&convolved)
    convolved = secondConvolution.apply(convolved)
    Activation.gelu.apply(&convolved)
    let all = encoderPositions.values.count
    ParallelLoop.overRows(of: &convolved.values, rowLength: all, blockRows: 1) { _, part in
      for i in 0..<all { part[i] += encoderPositions.values[i] }
    }
    return Matrix.stack([convolved, tokens])
  }

  /// The decoder's final norm; the encoder's belongs to its last branch.
  public var outerVectors: [VectorParameter] { VectorParameter.of(finalNorm, self, \.finalNorm) }

  /// The decoder's final norm.
  public func normalize(_ hidden: Matrix) -> Matrix { finalNorm.applied(to: hidden) }
}

extension PartReader {
  /// A convolution over time with windows of three frames, stored as `[width, channels, 3]`.
  fileprivate mutating func convolution(
    _ name: String, _ width: Int, of signal: SampleShape, stride: Int
  ) throws(CheckpointError) -> Linear {
    let name = root + name, weight = name + ".weight"
    guard
      let layout = MatrixLayout(shape: [width, signal.channels, 3], axes: [0, 2, 1]),
      let geometry = PatchGeometry(
        height: signal.rows, width: 1, channels: signal.channels, kernel: (3, 1),
        stride: (stride, 1), padding: (1, 1, 0, 0))
    else {
      throw CheckpointError(
        path: checkpoint.path, tensor: weight, .unsupported("windows of 3 frames of \(signal)"))
    }
    leaveAlone([weight, name + ".bias"])
    return Linear(
      name: name, matrix: try checkpoint.weight(weight, layout: layout),
      bias: try checkpoint.vector(name + ".bias", count: width), layout: layout,
      windows: ImageWindows(geometry))
  }

  /// Queries, keys, values and the output of an attention; keys have no bias.
  private mutating func projections(
    _ name: String, _ width: Int
  ) throws(CheckpointError) -> (query: Linear, key: Linear, value: Linear, output: Linear) {
    (
      try linear(name + "q_proj", width, width, bias: true),
      try linear(name + "k_proj", width, width, bias: false),
      try linear(name + "v_proj", width, width, bias: true),
      try linear(name + "out_proj", width, width, bias: true)
    )
  }

  fileprivate mutating func attention(
    _ prefix: String, _ tower: WhisperNetwork.Tower, mask: Attention.Mask
  ) throws(CheckpointError) -> PreNormAttention {
    let all = try projections(prefix + "self_attn.", tower.width)
    return PreNormAttention(
      norm: try layerNorm(
        prefix + "self_attn_layer_norm", tower.width, epsilon: WhisperNetwork.epsilon),
      projections: Projections(
        layers: [all.query, all.key, all.value], queryWidth: tower.width, keyWidth: tower.width),
      output: all.output, attention: tower.attention(mask))
  }

  fileprivate mutating func crossAttention(
    _ prefix: String, _ tower: WhisperNetwork.Tower, positions: Int
  ) throws(CheckpointError) -> CrossAttention {
    let all = try projections(prefix + "encoder_attn.", tower.width)
    return CrossAttention(
      norm: try layerNorm(
        prefix + "encoder_attn_layer_norm", tower.width, epsilon: WhisperNetwork.epsilon),
      query: all.query,
      key: all.key, value: all.value, output: all.output, attention: tower.attention(.full),
      positions: positions)
  }

  fileprivate mutating func mlp(
    _ prefix: String, _ tower: WhisperNetwork.Tower, _ activation: Activation
  ) throws(CheckpointError) -> PreNormMLP {
    PreNormMLP(
      norm: try layerNorm(
        prefix + "final_layer_norm", tower.width, epsilon: WhisperNetwork.epsilon),
      inner: try linear(prefix + "fc1", tower.innerWidth, tower.width, bias: true),
      outer: try linear(prefix + "fc2", tower.width, tower.innerWidth, bias: true),
      activation: activation)
  }
}

// GPT-2: learned positions, LayerNorm before each branch, one matrix for queries, keys and values.
//
// Source   Radford et al., "Language Models are Unsupervised Multitask Learners", 2019
// Given    linear layers stored as [inputs, outputs], which `MatrixLayout` turns
// Checked  FamilyFixtureTests: logits equal those of transformers

public import Checkpoints
import Encodings
import JSONDocuments
public import Tensors

/// A GPT-2 decoder over a checkpoint's weights.
public final class GPT2Network: LanguageModel, ModelFamily {
  /// The values of `model_type` that belong here.
  public static let modelTypes = ["gpt2"]

  /// The family's name.
  public let family = "gpt2"
  /// The longest sequence that there are positions for.
  public let contextLimit: Int
  /// Ids are below this.
  public let vocabularySize: Int
  /// Whether head and embedding are one matrix.
  public let isTied: Bool
  /// The token embedding.
  public let embedding: Linear
  /// The output layer; the embedding itself when they are tied.
  public let head: Linear
  /// The branches in the order of the stream.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  private let positions: Linear
  private var finalNorm: LayerNorm

  /// Positions are rows of a table.
  public var hasPositionTable: Bool { true }
  /// The positions.
  public var tables: [Linear] { [positions] }

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    try GPT2Network(checkpoint)
  }

  private init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let reader = ConfigurationReader(checkpoint)
    vocabularySize = try reader.size("vocab_size")
    contextLimit = try reader.size("n_positions", default: 1024)
    let width = try reader.size("n_embd"), heads = try reader.size("n_head")
    let inner = try reader.size("n_inner", default: 4 * width)
    guard width % heads == 0 else {
      throw reader.wrong("n_embd", .integer(width), expected: "a multiple of \(heads) heads")
    }
    let epsilon = Float(try reader.number("layer_norm_epsilon", default: 1e-5))
    let activation = try reader.activation("activation_function", default: "gelu_new")
    isTied = try reader.flag("tie_word_embeddings", default: true)
    let isScaled = try reader.flag("scale_attn_weights", default: true)
    let isScaledByLayer = try reader.flag("scale_attn_by_inverse_layer_idx", default: false)
    if try reader.flag("add_cross_attention", default: false) {
      throw reader.wrong("add_cross_attention", .bool(true), expected: "false: there is no encoder")
    }

    // GPT2Model alone has no prefix.
    let root = checkpoint.holds("transformer.wte.weight") ? "transformer." : ""
    var parts = PartReader(checkpoint, root: root)
    embedding = try parts.linear("wte", vocabularySize, width, bias: false)
    positions = try parts.linear("wpe", contextLimit, width, bias: false)
    var sublayers: [any Sublayer] = []
    for layer in 0..<(try reader.size("n_layer")) {
      let prefix = "h.\(layer)."
      // Masks that old checkpoints store.
      parts.leaveAlone(["attn.bias", "attn.masked_bias"].map { root + prefix + $0 })
      let scale = isScaled ? 1 / Float(width / heads).squareRoot() : 1
      sublayers.append(
        PreNormAttention(
          norm: try parts.layerNorm(prefix + "ln_1", width, epsilon: epsilon),
          projections: Projections(
            layers: [try parts.turnedLinear(prefix + "attn.c_attn", 3 * width, width)],
            queryWidth: width, keyWidth: width),
          output: try parts.turnedLinear(prefix + "attn.c_proj", width, width),
          attention: Attention(
            heads: heads, keyHeads: heads, headSize: width / heads, mask: .causal(window: nil),
            scale: isScaledByLayer ? scale / Float(layer + 1) : scale)))
      sublayers.append(
        PreNormMLP(
          norm: try parts.layerNorm(prefix + "ln_2", width, epsilon: epsilon),
          inner: try parts.turnedLinear(prefix + "mlp.c_fc", inner, width),
          outer: try parts.turnedLinear(prefix + "mlp.c_proj", width, inner),
          activation: activation))
    }
    finalNorm = try parts.layerNorm("ln_f", width, epsilon: epsilon)
    var headParts = PartReader(checkpoint)
    head =
      isTied ? embedding : try headParts.linear("lm_head", vocabularySize, width, bias: false)
    // Some writers store the tied head a second time.
    parts.leaveAlone(["lm_head.weight"])
    self.sublayers = sublayers
    tensorNames = parts.names
  }

  /// The stream before the first branch.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    var hidden = embedding.gather(batch.tokens, tape: batch.tape)
    let ids = batch.sequences.flatMap { sequence in
      (0..<sequence.count).map { Int32(position + $0) }
    }
    hidden.add(positions.gather(ids, tape: batch.tape))
    return hidden
  }

  /// The final norm's weight and bias.
  public var outerVectors: [VectorParameter] { VectorParameter.of(finalNorm, self, \.finalNorm) }

  /// The final norm.
  public func normalize(_ hidden: Matrix) -> Matrix { finalNorm.applied(to: hidden) }
}

// Vision transformers: patches of a picture as tokens, and one token more whose vector stands for the whole, or a query
// that attends to all.
//
// Source   Dosovitskiy et al., "An Image Is Worth 16x16 Words", arXiv:2010.11929; Radford et al., "CLIP",
//          arXiv:2103.00020; Zhai et al., "SigLIP", ICCV 2023, arXiv:2303.15343
// Checked  VisionTests: outputs equal those of transformers

public import Checkpoints
import Encodings
import JSONDocuments
public import Tensors

/// ViT, and the vision towers of CLIP and SigLIP, over a checkpoint's weights.
///
/// The matrix of the patches and the positions are small and feed every later layer: no stage compresses them.
public final class VisionTransformer: SampleNetwork, ModelFamily {
  /// The values of `model_type` that belong here.
  public static let modelTypes = [
    "vit", "clip", "clip_vision_model", "siglip", "siglip_vision_model",
  ]

  private let layout: VisionLayout
  /// The branches in the order of the stream.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  /// The convolution that makes a vector of each patch.
  private let patches: Linear
  /// `[tokens, width]`, the first the class token's.
  private let positions: Matrix
  /// Nil where every token is a patch.
  private let classToken: [Float]?
  private var firstNorm: LayerNorm?
  private var finalNorm: LayerNorm
  private let head: Linear?

  /// The family's name.
  public let family: String
  /// What it reads.
  public var inputs: [SampleInput] { [SampleInput("input", layout.picture)] }
  /// What makes its input of bytes.
  public var normalization: SampleNormalization { layout.normalization }
  /// Logits of labels, or the picture's embedding.
  public var results: [SampleResult] {
    [SampleResult("output", count: head?.matrix.outputs ?? layout.width, kind: layout.output)]
  }
  /// The matrix behind the final norm.
  public var tables: [Linear] { head.map { [$0] } ?? [] }

  /// A state dict of the package vit-pytorch, by its tensors.
  public static func recognizes(_ checkpoint: any Checkpoint) -> Bool {
    VisionLayout(stateDictOf: checkpoint) != nil
  }

  /// Pictures and texts, where both are there.
  public static func towers(_ checkpoint: any Checkpoint) -> [String] {
    let type = checkpoint.configuration["model_type"]?.string
    return type == "clip" || type == "siglip" ? ["vision", "text"] : []
  }

  /// What is stored in binary16 where all else becomes small: patches and positions.
  public var halvedTensors: Set<String> {
    [patches.weightName, layout.root + layout.names.positions]
  }

  /// Builds the network of a checkpoint: the vision tower, unless it is seen as the other one.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    if checkpoint.tower == "text" { return try ContrastiveTextNetwork.build(checkpoint) }
    if checkpoint.configuration["model_type"]?.string == nil,
      let layout = VisionLayout(stateDictOf: checkpoint)
    {
      return try VisionTransformer(layout, family: "vit", checkpoint)
    }
    return try VisionTransformer(
      try VisionLayout(configurationOf: checkpoint),
      family: checkpoint.configuration["model_type"]?.string ?? "vit", checkpoint)
  }

  private init(
    _ l: VisionLayout, family: String, _ checkpoint: any Checkpoint
  ) throws(CheckpointError) {
    layout = l
    self.family = family
    let names = l.names, width = l.width, all = l.heads * l.headSize
    var parts = PartReader(checkpoint, root: l.root)
    func floats(_ name: String, _ count: Int) throws(CheckpointError) -> [Float] {
      let name = l.root + name
      guard let shape = checkpoint.tensorType(name)?.shape else {
        throw CheckpointError(path: checkpoint.path, tensor: name, .tensorNotFound)
      }
      guard shape.reduce(1, *) == count else {
        throw CheckpointError(
          path: checkpoint.path, tensor: name,
          .shapeMismatch(found: shape, expected: [count / width, width]))
      }
      parts.leaveAlone([name])
      return try checkpoint.floats(name, shape: shape)
    }
    patches = try Self.patches(l, checkpoint)
    parts.leaveAlone([patches.weightName] + (l.hasPatchBias ? [patches.biasName] : []))
    classToken = try names.classToken.map { (name) throws(CheckpointError) in
      try floats(name, width)
    }
    positions = Matrix(
      rows: l.tokenCount, columns: width,
      values: try floats(names.positions, l.tokenCount * width))
    firstNorm = try names.firstNorm.map { (name) throws(CheckpointError) in
      try parts.layerNorm(name, width, epsilon: l.epsilon)
    }
    var sublayers: [any Sublayer] = []
    for layer in 0..<l.layers {
      let prefix = names.layer + "\(layer)."
      let rows = names.projections.count == 1 ? 3 * all : all
      var projections: [Linear] = []
      for name in names.projections {
        projections.append(
          try parts.linear(prefix + name, rows, width, bias: l.hasProjectionBias))
      }
      sublayers.append(
        PreNormAttention(
          norm: try parts.layerNorm(prefix + names.attentionNorm, width, epsilon: l.epsilon),
          projections: Projections(layers: projections, queryWidth: all, keyWidth: all),
          output: try parts.linear(prefix + names.attentionOutput, width, all, bias: true),
          attention: Attention(
            heads: l.heads, keyHeads: l.heads, headSize: l.headSize, mask: .full,
            scale: 1 / Float(l.headSize).squareRoot())))
      sublayers.append(
        PreNormMLP(
          norm: try parts.layerNorm(prefix + names.innerNorm, width, epsilon: l.epsilon),
          inner: try parts.linear(prefix + names.inner, l.innerWidth, width, bias: true),
          outer: try parts.linear(prefix + names.outer, width, l.innerWidth, bias: true),
          activation: l.activation))
    }
    finalNorm = try parts.layerNorm(names.finalNorm, width, epsilon: l.epsilon)
    if l.poolsByAttention {
      sublayers += try Self.pooling(l, finalNorm, probe: floats("head.probe", width), &parts)
    }
    self.sublayers = sublayers
    if let name = l.head {
      var outside = PartReader(checkpoint)
      let outputs = checkpoint.shape(name + ".weight")?.first ?? 0
      head = try outside.linear(
        name, outputs, width, bias: checkpoint.holds(name + ".bias"))
      parts.leaveAlone(outside.names)
    } else {
      head = nil
    }
    parts.leaveAlone(
      checkpoint.logicalTensors.map(\.name).filter { name in
        name.hasSuffix("position_ids") || l.others.contains { name.hasPrefix($0) }
      })
    tensorNames = parts.names
  }

  /// The branches that make one vector of a picture's tokens: SigLIP's head.
  private static func pooling(
    _ l: VisionLayout, _ norm: LayerNorm, probe: [Float], _ parts: inout PartReader
  ) throws(CheckpointError) -> [any Sublayer] {
    let width = l.width, checkpoint = parts.checkpoint
    let name = l.root + "head.attention.in_proj", weight = name + "_weight", bias = name + "_bias"
    parts.leaveAlone([weight, bias])
    let projection = Linear(
      name: name, matrix: try checkpoint.weight(weight, outputs: 3 * width, inputs: width),
      bias: try checkpoint.vector(bias, count: 3 * width), weightName: weight, biasName: bias)
    return [
      AttentionPooling(
        norm: norm, projection: projection,
        output: try parts.linear("head.attention.out_proj", width, width, bias: true),
        attention: Attention(
          heads: l.heads, keyHeads: l.heads, headSize: l.headSize, mask: .full,
          scale: 1 / Float(l.headSize).squareRoot()), probe: probe),
      PreNormMLP(
        norm: try parts.layerNorm("head.layernorm", width, epsilon: l.epsilon),
        inner: try parts.linear("head.mlp.fc1", l.innerWidth, width, bias: true),
        outer: try parts.linear("head.mlp.fc2", width, l.innerWidth, bias: true),
        activation: l.activation),
    ]
  }

  /// The norms outside the branches.
  public var outerVectors: [VectorParameter] {
    layout.poolsByAttention ? [] : VectorParameter.of(finalNorm, self, \.finalNorm)
  }

  /// The stream before the first branch: for each picture the class token, then its patches by rows.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    guard let pixels = batch.features else { preconditionFailure("a batch without pictures") }
    let count = layout.tokenCount, width = layout.width, samples = batch.sequences.count
    let before = count - layout.patchCount
    let projected = patches.apply(pixels)
    var hidden = Matrix(rows: samples * count, columns: width)
    for sample in 0..<samples {
      for token in 0..<count {
        let to = (sample * count + token) * width
        let from = (sample * (count - before) + token - before) * width
        for column in 0..<width {
          hidden.values[to + column] =
            (token < before ? classToken?[column] ?? 0 : projected.values[from + column])
            + positions.values[token * width + column]
        }
      }
    }
    firstNorm?.apply(&hidden)
    // Training changes what stands behind the patches.
    return batch.tape.map { $0.leaf(hidden) { _, _ in } } ?? hidden
  }

  /// A convolution whose windows lie side by side: stored as one, or, by vit-pytorch, as its matrix.
  private static func patches(
    _ l: VisionLayout, _ checkpoint: any Checkpoint
  ) throws(CheckpointError) -> Linear {
    let name = l.root + l.names.patches, weight = name + ".weight"
    let channels = l.picture.channels, side = (y: l.patch, x: l.patch)
    guard
      let geometry = PatchGeometry(
        height: l.picture.dimensions[0], width: l.picture.dimensions[1], channels: channels,
        kernel: side, stride: side),
      let layout = MatrixLayout(
        shape: [l.width, channels, l.patch, l.patch], axes: [0, 2, 3, 1])
    else {
      throw CheckpointError(
        path: checkpoint.path, tensor: weight,
        .unsupported("patches of \(l.patch) pixels of \(l.picture)"))
    }
    return Linear(
      name: name,
      matrix: l.storesConvolution
        ? try checkpoint.weight(weight, layout: layout)
        : try checkpoint.weight(weight, outputs: l.width, inputs: layout.inputs),
      bias: l.hasPatchBias ? try checkpoint.vector(name + ".bias", count: l.width) : nil,
      layout: l.storesConvolution ? layout : nil, windows: ImageWindows(geometry))
  }

  /// The logits, or the embedding, of the class token; what the query made where there is none.
  public func outputs(of hidden: Matrix, _ batch: TokenBatch) -> Matrix {
    if layout.poolsByAttention { return hidden }
    let count = layout.tokenCount
    let first = hidden.gathered((0..<batch.sequences.count).map { $0 * count })
    let normalized = finalNorm.applied(to: first)
    return head?.apply(normalized) ?? normalized
  }
}

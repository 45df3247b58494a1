// What every model family is made of. Evaluation, calibration, training and inference all run this graph;
// what differs is the matrix inside each linear layer.

public import Checkpoints
import JSONDocuments
public import Tensors

/// A linear layer: a matrix in any encoding, which a stage may replace, and its bias.
public final class Linear {
  /// The module's name, such as `model.layers.0.mlp.up_proj`.
  public let name: String
  /// The weight `[outputs, inputs]`.
  public var matrix: any LinearOperator
  /// The bias `[outputs]`, or nil.
  public var bias: [Float]?

  /// The weight's name in the checkpoint.
  public let weightName: String
  /// The bias's name in the checkpoint.
  public let biasName: String
  /// How the weight's tensor is the matrix; nil when it is the matrix itself.
  public let layout: MatrixLayout?
  /// What a convolution multiplies: windows of images; nil where whole rows are multiplied.
  public let windows: ImageWindows?

  /// A layer over its parts.
  ///
  /// - Parameters:
  ///   - weightName: The weight's name, where it is not the module's with `.weight`.
  ///   - biasName: The bias's name, where it is not the module's with `.bias`.
  public init(
    name: String, matrix: any LinearOperator, bias: [Float]?, weightName: String? = nil,
    biasName: String? = nil, layout: MatrixLayout? = nil, windows: ImageWindows? = nil
  ) {
    self.name = name
    self.matrix = matrix
    self.bias = bias
    self.weightName = weightName ?? name + ".weight"
    self.biasName = biasName ?? name + ".bias"
    self.layout = layout
    self.windows = windows
  }

  /// The rows that the matrix multiplies, `[rows, inputs]`: x itself, or a convolution's windows.
  public func operands(of x: Matrix) -> Matrix {
    windows.map { x.patches($0.geometry, groups: $0.groups) } ?? x
  }

  /// `x Wᵀ + b`: `[tokens, inputs]` to `[tokens, outputs]`; a convolution: `[images * pixels, channels]` to
  /// `[images * outPixels, outputs]`.
  public func apply(_ x: Matrix) -> Matrix {
    if let windows { return apply(toWindows: windows, of: x) }
    var result = matrix.apply(to: x, bias: bias)
    guard let record = x.record else { return result }
    let x = x.unrecorded, matrix = matrix, weightName = weightName
    let biasName = bias == nil ? nil : biasName
    result.record = GradientRecord(of: [record]) { gradient, observer in
      if observer.wants(weightName) {
        observer.receive(weightName, .product(inputs: x, outputs: gradient))
      }
      if let biasName, observer.wants(biasName) {
        observer.receive(biasName, .vector(gradient.columnSums()))
      }
      return [matrix.applyTransposed(to: gradient)]
    }
    record.tape.offer(name, result)
    return result
  }

  /// Rows of the weight as an embedding reads them, `[tokens, inputs]`.
  ///
  /// - Parameter tape: Where to record, or nil.
  public func gather(_ tokens: [Int32], tape: GradientTape?) -> Matrix {
    let rows = matrix.gather(tokens)
    guard let tape else { return rows }
    let weightName = weightName
    return tape.leaf(rows) { gradient, observer in
      guard observer.wants(weightName) else { return }
      observer.receive(weightName, .rows(tokens: tokens, gradients: gradient))
    }
  }
}

/// One residual branch of a model: attention or MLP, with its norm and its addition to the stream.
///
/// Groups are the linear layers that read one and the same input; they are what a quantizer sees
/// together. Going up to a group gives that input. Most branches are a `ChainedSublayer`.
public protocol Sublayer: AnyObject {
  /// The linear layers, by shared input, in the order in which they run.
  var groups: [[Linear]] { get }
  /// What makes the inputs of each group.
  var sources: [InputSource] { get }
  /// The vectors of its norms.
  var vectors: [VectorParameter] { get }
  /// Matrices that no stage compresses, such as routers.
  var keptLayers: [Linear] { get }
  /// Whether a group reads only the tokens that a router sends it.
  func isRouted(_ group: Int) -> Bool
  /// From the residual stream `[tokens, width]` to what the first group reads.
  ///
  /// - Parameter cache: Keys and values of earlier tokens, which are extended; nil when the batch starts at
  ///   position 0.
  func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState
  /// From what one group reads to what the next one does.
  func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState
  /// The new stream, from what the last group reads and the stream before the branch.
  func finish(_ last: BranchState, hidden: Matrix) -> Matrix
}

extension Sublayer {
  /// None, unless a branch says otherwise.
  public var keptLayers: [Linear] { [] }
  /// No group is, unless a branch says otherwise.
  public func isRouted(_ group: Int) -> Bool { false }

  /// Runs the branch on the residual stream `[tokens, width]`.
  ///
  /// - Parameters:
  ///   - cache: Keys and values of earlier tokens, which are extended; nil when the batch starts at
  ///     position 0.
  ///   - group: When given, the result is the input of that group instead of the new stream.
  public func run(
    _ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?, inputOf group: Int?
  ) -> Matrix {
    var state = start(hidden, batch, cache: cache)
    for step in 1..<max(1, (group ?? groups.count - 1) + 1) {
      state = self.step(toGroup: step, from: state, batch, cache: cache)
    }
    return group == nil ? finish(state, hidden: hidden) : state.input
  }
}

/// A model as a graph: embedding, residual branches, final norm or pooling.
public protocol Network: AnyObject {
  /// The family's name, such as `llama`.
  var family: String { get }
  /// The branches in the order of the stream.
  var sublayers: [any Sublayer] { get }
  /// The stream before the first branch: `[tokens, width]`.
  func embed(_ batch: TokenBatch, position: Int) -> Matrix
  /// Tensors of the checkpoint that the graph reads, or knows and leaves alone.
  var tensorNames: Set<String> { get }
  /// Tables beside the embedding whose rows are added to the stream, such as positions.
  var tables: [Linear] { get }
  /// Tables whose rows stand for ids, which stages compress where a rule names them.
  var embeddings: [Linear] { get }
  /// The vectors of norms outside the branches.
  var outerVectors: [VectorParameter] { get }
  /// Tensors outside the branches that are stored in binary16 where the branches' matrices are quantized, unless a rule
  /// says otherwise: patch embeddings and positions.
  var halvedTensors: Set<String> { get }
}

extension Network {
  /// None, unless a family says otherwise.
  public var tables: [Linear] { [] }
  /// None, unless a family says otherwise.
  public var halvedTensors: Set<String> { [] }
  /// None, unless a family says otherwise.
  public var embeddings: [Linear] { [] }

  /// The stream after the last branch.
  ///
  /// - Parameter visit: Called with the stream after each branch.
  public func hidden(
    _ batch: TokenBatch, cache: KeyValueCache? = nil,
    visit: (_ branch: Int, _ hidden: Matrix) -> Void = { _, _ in }
  ) -> Matrix {
    var hidden = embed(batch, position: cache?.count ?? 0)
    for (index, sublayer) in sublayers.enumerated() {
      cache?.sublayer = index
      if batch.recomputes, batch.tape != nil {
        hidden = sublayer.recomputed(hidden, batch)
      } else {
        hidden = sublayer.run(hidden, batch, cache: cache, inputOf: nil)
      }
      visit(index, hidden)
    }
    cache?.advance(by: batch.tokens.count)
    return hidden
  }

  /// Every matrix that training may change; a tied head once.
  public var matrices: [Linear] {
    var all = tables + linearLayers + sublayers.flatMap { $0.keptLayers }
    if let network = self as? any TokenNetwork { all.insert(network.embedding, at: 0) }
    if let model = self as? any TokenPredictor, !model.isTied { all.append(model.head) }
    return all
  }

  /// Every vector that training may change: norms and biases.
  public var vectors: [VectorParameter] {
    outerVectors + sublayers.flatMap { $0.vectors }
      + matrices.filter { $0.bias != nil }.map(VectorParameter.init(biasOf:))
  }

  /// The linear layers of all branches, in order.
  public var linearLayers: [Linear] { sublayers.flatMap { $0.groups.flatMap { $0 } } }
}

/// A family of architectures that share one forward pass.
public protocol ModelFamily {
  /// The values of `model_type` that belong to the family.
  static var modelTypes: [String] { get }
  /// Whether a checkpoint without a `model_type` is of the family, by its tensors.
  static func recognizes(_ checkpoint: any Checkpoint) -> Bool
  /// What keeps a checkpoint that looks like one of the family from being run, in one line; nil when nothing does, or it
  /// looks like another's.
  static func obstacle(_ checkpoint: any Checkpoint) -> String?
  /// The names of a checkpoint's towers; none where it is one network.
  static func towers(_ checkpoint: any Checkpoint) -> [String]
  /// What a checkpoint's network reads, does and gives, in one line, where its name does not say it; nil where it does.
  static func summary(_ checkpoint: any Checkpoint) -> String?
  /// Builds the network of a checkpoint whose `model_type` is one of them.
  static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network
}

extension ModelFamily {
  /// By its `model_type` alone, unless a family says otherwise.
  public static func recognizes(_ checkpoint: any Checkpoint) -> Bool { false }
  /// None, unless a family says otherwise.
  public static func towers(_ checkpoint: any Checkpoint) -> [String] { [] }
  /// Nothing, unless a family says otherwise.
  public static func obstacle(_ checkpoint: any Checkpoint) -> String? { nil }
  /// It does, unless a family says otherwise.
  public static func summary(_ checkpoint: any Checkpoint) -> String? { nil }
}

/// The model families. A new one is a file and a line here.
public enum FamilyRegistry {
  /// The families.
  public static var all: [any ModelFamily.Type] {
    [
      DecoderNetwork.self,
      GPT2Network.self,
      BertNetwork.self,
      ResidualNetwork.self,
      VisionTransformer.self,
      ContrastiveTextNetwork.self,
      WhisperNetwork.self,
      KerasNetwork.self,
    ]
  }

  /// The family of a checkpoint; nil when none knows its `model_type`.
  public static func family(of checkpoint: any Checkpoint) -> (any ModelFamily.Type)? {
    guard let type = checkpoint.configuration["model_type"]?.string else {
      return all.first { $0.recognizes(checkpoint) }
    }
    return all.first { $0.modelTypes.contains(type) }
  }

  /// What the network of a checkpoint reads and gives, or why it cannot be run, in one line; nil where nothing is to be
  /// said.
  public static func summary(of checkpoint: any Checkpoint) -> String? {
    if let family = family(of: checkpoint) { return family.summary(checkpoint) }
    return all.lazy.compactMap { $0.obstacle(checkpoint) }.first.map { "not run: " + $0 }
  }

  /// The network of a checkpoint.
  ///
  /// - Throws: `CheckpointError` when no family knows it, or when configuration and tensors disagree.
  public static func network(of checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    guard let family = family(of: checkpoint) else {
      if let obstacle = all.lazy.compactMap({ $0.obstacle(checkpoint) }).first {
        throw CheckpointError(path: checkpoint.path, .unsupported(obstacle))
      }
      let type = checkpoint.configuration["model_type"]?.string ?? "none"
      let known = all.flatMap { $0.modelTypes }.joined(separator: ", ")
      throw CheckpointError(
        path: checkpoint.path, .unsupported("the architecture '\(type)' (known: \(known))"))
    }
    let network = try family.build(checkpoint)
    for tensor in checkpoint.logicalTensors where !network.tensorNames.contains(tensor.name) {
      throw CheckpointError(
        path: checkpoint.path, tensor: tensor.name,
        .unsupported("a tensor that the configuration of this \(network.family) model does not use")
      )
    }
    return network
  }
}

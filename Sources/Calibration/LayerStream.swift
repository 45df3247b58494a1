// Walks a network branch by branch with the activations of a calibration set, so that only one branch's
// inputs exist at a time, and later branches see what earlier ones have become. A second stream may go
// beside it through the same branches with the matrices that they had before they were changed.

public import LinearAlgebra
public import Networks
public import Tensors

/// The residual streams of a calibration set on their way through a network.
public struct LayerStream {
  private let network: any Network
  private let batches: [TokenBatch]
  private var hidden: [Matrix]
  /// The streams through the unchanged branches; nil when nobody asked for them.
  private var originalHidden: [Matrix]?
  /// The matrices of the branch that comes next, by group, as they were when the stream came to it.
  private var originals: [[any LinearOperator]] = []
  /// The branch that comes next.
  public private(set) var position = 0

  /// Tokens of a batch.
  public static let batchTokens = 2048

  /// The streams before the first branch.
  ///
  /// - Parameter originalEmbedding: The embedding before it was changed, for a second stream through the
  ///   original network; without it there is one stream. No branch may have been changed yet.
  public init(
    network: any Network, set: CalibrationSet, originalEmbedding: (any LinearOperator)? = nil
  ) {
    self.network = network
    let batches = set.batches(tokens: Self.batchTokens).map {
      TokenBatch(Array(set.sequences[$0]))
    }
    self.batches = batches
    hidden = batches.map { network.embed($0, position: 0) }
    if let originalEmbedding {
      originalHidden = Self.with([originalEmbedding], in: [network.embedding]) {
        batches.map { network.embed($0, position: 0) }
      }
      keepOriginals()
    }
  }

  /// The second moments of what one group of the next branch reads.
  public func inputs(ofGroup group: Int) -> SecondMoment {
    let sublayer = network.sublayers[position]
    var moment = SecondMoment(width: sublayer.groups[group][0].matrix.inputs)
    for (batch, hidden) in zip(batches, hidden) {
      moment.add(sublayer.run(hidden, batch, cache: nil, inputOf: group))
    }
    return moment
  }

  /// The largest size of each input of one group of the next branch.
  public func largestInputs(ofGroup group: Int) -> [Float] {
    let sublayer = network.sublayers[position]
    var largest = [Float](repeating: 0, count: sublayer.groups[group][0].matrix.inputs)
    for (batch, hidden) in zip(batches, hidden) {
      let x = sublayer.run(hidden, batch, cache: nil, inputOf: group)
      for row in 0..<x.rows {
        for (column, index) in x.range(ofRow: row).enumerated() {
          largest[column] = max(largest[column], abs(x.values[index]))
        }
      }
    }
    return largest
  }

  /// The moments of what one group of the next branch reads, as the branch is by now and as it was.
  ///
  /// The stream was made with `originalEmbedding`.
  public func pairedInputs(ofGroup group: Int) -> PairedMoments {
    let sublayer = network.sublayers[position]
    var moments = PairedMoments(width: sublayer.groups[group][0].matrix.inputs)
    for (index, batch) in batches.enumerated() {
      let original = inOriginalBranch {
        sublayer.run($0[index], batch, cache: nil, inputOf: group)
      }
      moments.add(
        original: original,
        current: sublayer.run(hidden[index], batch, cache: nil, inputOf: group))
    }
    return moments
  }

  /// Runs the next branch, as it is now, and moves behind it.
  public mutating func advance() {
    let sublayer = network.sublayers[position]
    if originalHidden != nil {
      for (index, batch) in batches.enumerated() {
        let next = inOriginalBranch { sublayer.run($0[index], batch, cache: nil, inputOf: nil) }
        originalHidden?[index] = next
      }
    }
    for index in batches.indices {
      hidden[index] = sublayer.run(hidden[index], batches[index], cache: nil, inputOf: nil)
    }
    position += 1
    if originalHidden != nil { keepOriginals() }
  }

  /// The second moments of what the head reads; all branches have run.
  public func headInputs(of model: any LanguageModel) -> SecondMoment {
    precondition(position == network.sublayers.count)
    var moment = SecondMoment(width: model.head.matrix.inputs)
    for hidden in hidden { moment.add(model.normalize(hidden)) }
    return moment
  }

  /// The moments of what the head reads behind the changed branches and behind the original ones; all have run.
  ///
  /// The stream was made with `originalEmbedding`.
  public func pairedHeadInputs(of model: any LanguageModel) -> PairedMoments {
    precondition(position == network.sublayers.count)
    guard let originalHidden else { preconditionFailure("a stream without the original network") }
    var moments = PairedMoments(width: model.head.matrix.inputs)
    for (original, current) in zip(originalHidden, hidden) {
      moments.add(original: model.normalize(original), current: model.normalize(current))
    }
    return moments
  }

  // MARK: - The original network

  private mutating func keepOriginals() {
    guard position < network.sublayers.count else { return }
    originals = network.sublayers[position].groups.map { $0.map(\.matrix) }
  }

  /// Calls `body` with the original streams while the next branch has the matrices that it had.
  private func inOriginalBranch<Result>(_ body: ([Matrix]) -> Result) -> Result {
    guard let originalHidden else { preconditionFailure("a stream without the original network") }
    let layers = network.sublayers[position].groups.flatMap { $0 }
    return Self.with(originals.flatMap { $0 }, in: layers) { body(originalHidden) }
  }

  /// Calls `body` while layers have other matrices.
  private static func with<Result>(
    _ matrices: [any LinearOperator], in layers: [Linear], _ body: () -> Result
  ) -> Result {
    let current = layers.map(\.matrix)
    for (layer, matrix) in zip(layers, matrices) { layer.matrix = matrix }
    defer { for (layer, matrix) in zip(layers, current) { layer.matrix = matrix } }
    return body()
  }
}

/// What a layer reads in two states of the model, at the same tokens: y by now, x in the original one.
public struct PairedMoments: Sendable {
  private var current: SecondMoment
  private var drift: CrossMoment

  /// Empty sums.
  init(width: Int) {
    current = SecondMoment(width: width)
    drift = CrossMoment(width: width)
  }

  mutating func add(original: Matrix, current: Matrix) {
    self.current.add(current)
    drift.add(original: original, current: current)
  }

  /// The means of y yᵀ and of x yᵀ.
  public consuming func means() -> (moment: DoubleMatrix, cross: DoubleMatrix) {
    let moment = current.mean()
    var cross = drift.mean()
    for i in cross.values.indices { cross.values[i] += moment.values[i] }
    return (moment, cross)
  }
}

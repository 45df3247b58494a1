// Walks a network branch by branch with the activations of a calibration set, so that only one branch's
// inputs exist at a time, and later branches see what earlier ones have become. A second stream may go
// beside it through the same branches with the matrices that they had before they were changed.

public import LinearAlgebra
public import Networks
public import Tensors

/// The residual streams of a calibration set on their way through a network.
///
/// Groups of a branch are asked for in their order, each before its own layers change: what the last one that was asked
/// for reads is kept, and the branch goes on from there. Who changes layers in another order calls `restart`.
public final class LayerStream {
  private let network: any Network
  private let batches: [TokenBatch]
  private var current: Course
  /// The streams through the unchanged branches; nil when nobody asked for them.
  private var original: Course?
  /// The matrices of the branch that comes next, by group, as they were when the stream came to it.
  private var originals: [[any LinearOperator]] = []
  /// The branch that comes next.
  public private(set) var position = 0
  /// Tokens that the last group whose moments were asked for reads.
  public private(set) var tokens = 0

  /// Tokens of a batch.
  public static let batchTokens = 2048
  /// Values of kept inputs, of one course: batches beyond run again from the branch's start.
  private static let keptValues = 1 << 26

  /// The streams before one branch, and how far in it they have come.
  private struct Course {
    var hidden: [Matrix]
    /// By batch, how far the branch is: at the last group that was asked for.
    var reached: [Int: (group: Int, state: BranchState)] = [:]
    private var kept = 0

    init(_ hidden: [Matrix]) { self.hidden = hidden }

    /// The branch at a group, in a batch.
    mutating func state(
      atGroup group: Int, of index: Int, _ batch: TokenBatch, in sublayer: any Sublayer
    ) -> BranchState {
      var step: Int, state: BranchState
      if let last = reached[index], last.group <= group {
        (step, state) = (last.group + 1, last.state)
      } else {
        (step, state) = (1, sublayer.start(hidden[index], batch, cache: nil))
      }
      while step <= group {
        state = sublayer.step(toGroup: step, from: state, batch, cache: nil)
        step += 1
      }
      let before = reached[index]?.state.valueCount ?? 0
      if kept - before + state.valueCount <= LayerStream.keptValues {
        kept += state.valueCount - before
        reached[index] = (group, state)
      }
      return state
    }

    /// Runs the branch to its end.
    mutating func advance(_ index: Int, _ batch: TokenBatch, in sublayer: any Sublayer) {
      let last = state(atGroup: sublayer.groups.count - 1, of: index, batch, in: sublayer)
      hidden[index] = sublayer.finish(last, hidden: hidden[index])
      if let before = reached.removeValue(forKey: index) { kept -= before.state.valueCount }
    }

    mutating func restart() {
      reached = [:]
      kept = 0
    }
  }

  /// The streams before the first branch.
  ///
  /// - Parameters:
  ///   - keepsOriginal: Whether a second stream goes through the original network. No branch may have been changed yet.
  ///   - originalEmbeddings: The embeddings before they were changed; empty where they were not.
  public init(
    network: any Network, set: CalibrationSet, keepsOriginal: Bool = false,
    originalEmbeddings: [any LinearOperator] = []
  ) {
    self.network = network
    let batches = set.inputBatches(tokens: Self.batchTokens)
    self.batches = batches
    current = Course(batches.map { network.embed($0, position: 0) })
    if keepsOriginal {
      original =
        originalEmbeddings.isEmpty
        ? current
        : Self.with(originalEmbeddings, in: network.embeddings) {
          Course(batches.map { network.embed($0, position: 0) })
        }
      keepOriginals()
    }
  }

  /// Forgets how far in the next branch the streams are.
  public func restart() { current.restart() }

  private func currentInput(ofGroup group: Int, _ index: Int) -> Matrix {
    operands(
      ofGroup: group,
      current.state(atGroup: group, of: index, batches[index], in: network.sublayers[position])
        .input)
  }

  /// The rows that the matrices of a group multiply.
  private func operands(ofGroup group: Int, _ x: Matrix) -> Matrix {
    network.sublayers[position].groups[group][0].operands(of: x)
  }

  private func width(ofGroup group: Int) -> Int {
    network.sublayers[position].groups[group][0].matrix.inputs
  }

  /// Whether a group of the next branch reads only the tokens that a router sends it.
  public func isRouted(_ group: Int) -> Bool { network.sublayers[position].isRouted(group) }

  /// The second moments of what one group of the next branch reads.
  public func inputs(ofGroup group: Int) -> SecondMoment {
    var moment = SecondMoment(width: width(ofGroup: group))
    tokens = 0
    for index in batches.indices {
      let input = currentInput(ofGroup: group, index)
      tokens += input.rows
      moment.add(input)
    }
    return moment
  }

  /// The largest size of each input of one group of the next branch.
  public func largestInputs(ofGroup group: Int) -> [Float] {
    var largest = [Float](repeating: 0, count: width(ofGroup: group))
    for index in batches.indices {
      let x = currentInput(ofGroup: group, index)
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
  /// The stream was made with `keepsOriginal`. A routed group may read other tokens by now than it did: for it both are
  /// what it reads now.
  public func pairedInputs(ofGroup group: Int) -> PairedMoments {
    var moments = PairedMoments(width: width(ofGroup: group))
    let sublayer = network.sublayers[position]
    tokens = 0
    for index in batches.indices {
      let now = currentInput(ofGroup: group, index)
      let before =
        sublayer.isRouted(group)
        ? now
        : operands(
          ofGroup: group,
          inOriginalBranch {
            $0.state(atGroup: group, of: index, self.batches[index], in: sublayer).input
          })
      tokens += now.rows
      moments.add(original: before, current: now)
    }
    return moments
  }

  /// Runs the next branch, as it is now, and moves behind it.
  public func advance() {
    let sublayer = network.sublayers[position]
    if original != nil {
      for index in batches.indices {
        inOriginalBranch { $0.advance(index, self.batches[index], in: sublayer) }
      }
    }
    for index in batches.indices { current.advance(index, batches[index], in: sublayer) }
    position += 1
    if original != nil { keepOriginals() }
  }

  /// The second moments of what the head reads; all branches have run.
  public func headInputs(of model: any TokenPredictor) -> SecondMoment {
    precondition(position == network.sublayers.count)
    var moment = SecondMoment(width: model.head.matrix.inputs)
    for hidden in current.hidden { moment.add(model.normalize(hidden)) }
    return moment
  }

  /// The moments of what the head reads behind the changed branches and behind the original ones; all have run.
  ///
  /// The stream was made with `keepsOriginal`.
  public func pairedHeadInputs(of model: any TokenPredictor) -> PairedMoments {
    precondition(position == network.sublayers.count)
    guard let original else { preconditionFailure("a stream without the original network") }
    var moments = PairedMoments(width: model.head.matrix.inputs)
    for (original, current) in zip(original.hidden, current.hidden) {
      moments.add(original: model.normalize(original), current: model.normalize(current))
    }
    return moments
  }

  // MARK: - The original network

  private func keepOriginals() {
    guard position < network.sublayers.count else { return }
    originals = network.sublayers[position].groups.map { $0.map(\.matrix) }
  }

  /// Calls `body` with the original streams while the next branch has the matrices that it had.
  private func inOriginalBranch<Result>(_ body: (inout Course) -> Result) -> Result {
    guard var course = original.take() else {
      preconditionFailure("a stream without the original network")
    }
    defer { original = course }
    let layers = network.sublayers[position].groups.flatMap { $0 }
    return Self.with(originals.flatMap { $0 }, in: layers) { body(&course) }
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

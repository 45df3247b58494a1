// How far a forward pass has come inside a branch.

public import Tensors

/// What a group of linear layers reads, and what later groups of the branch need beside it.
public struct BranchState: Sendable {
  /// What the group reads, `[tokens, inputs]`; a routed group reads the rows of its own tokens.
  public var input: Matrix
  /// What the branch keeps for later groups.
  var carried: [Matrix]

  /// A state.
  init(_ input: Matrix, carried: [Matrix] = []) {
    self.input = input
    self.carried = carried
  }

  /// Values of all matrices.
  public var valueCount: Int {
    carried.reduce(input.values.count) { $0 + $1.values.count }
  }
}

/// A branch whose groups follow from each other: what a group reads is all that the next one needs.
public protocol ChainedSublayer: Sublayer {
  /// What a group reads, `[tokens, inputs]`.
  ///
  /// - Parameters:
  ///   - previous: What the group before it reads; for group 0 the residual stream `[tokens, width]`.
  ///   - cache: Keys and values of earlier tokens, which are extended; nil when the batch starts at
  ///     position 0.
  func input(ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?)
    -> Matrix
  /// The new stream.
  ///
  /// - Parameters:
  ///   - last: What the last group reads.
  ///   - hidden: The stream before the branch.
  func output(from last: Matrix, hidden: Matrix) -> Matrix
}

extension ChainedSublayer {
  /// The first group's input.
  public func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState {
    BranchState(input(ofGroup: 0, from: hidden, batch, cache: cache))
  }

  /// The next group's input.
  public func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState {
    BranchState(input(ofGroup: group, from: previous.input, batch, cache: cache))
  }

  /// The new stream.
  public func finish(_ last: BranchState, hidden: Matrix) -> Matrix {
    output(from: last.input, hidden: hidden)
  }
}

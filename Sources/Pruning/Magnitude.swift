// Magnitude pruning: the smallest weights go.
//
// Source   Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015,
//          arXiv:1506.02626, section 3, without retraining
// Given    W [outputs, inputs]
// Result   W with zeros for its least |w|, of the matrix or of each N:M group; blocks go by their sum of squares
// Checked  MagnitudeTests: equals sorting

public import LinearAlgebra
public import Tensors

/// Magnitude pruning; it knows nothing of inputs.
public struct Magnitude: WeightPruner, Equatable {
  /// The method.
  public init() {}

  /// `magnitude`.
  public static let method = PruningMethod.magnitude

  /// Removes the smallest weights; statistics serve only to tell the error.
  public func prune(
    _ weight: Matrix, statistics: InputStatistics, goal: SparsityGoal
  ) throws(PruningError) -> PrunedWeight {
    try check(weight, statistics, goal)
    let scale = weight.squareScale
    var worth = weight
    for index in worth.values.indices {
      let value = weight.values[index] * scale
      worth.values[index] = weight.values[index] == 0 ? MaskSelection.ofZero : value * value
    }
    let removed = MaskSelection.removed(worth, goal: goal, scope: .matrix)
    return PrunedWeight(weight.without(removed), of: weight, statistics, method: Self.method)
  }
}

// Wanda: the weights go whose product with the size of their input is smallest, output by output.
//
// Source   Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024,
//          arXiv:2306.11695, Algorithm 1
// Given    W [outputs, inputs]; the mean square of each input, H_jj
// Result   W with zeros for the least |W_ij| ||x_j|| of each row or N:M group; what stays is not changed
//          swaps, when asked for, refine the mask (DSnoT)
// Differs  an input that calibration never saw counts as if it had 1e-10 of the mean square, so that its weights go by size;
//          blocks go by their sum of squares
// Checked  WandaTests: equals sorting in Double

import Encodings
public import LinearAlgebra
public import Tensors

/// Wanda.
public struct Wanda: WeightPruner, Equatable {
  /// Swaps of a row's removed weights against kept ones, at most; see `WeightSwaps`.
  public let swaps: Int

  /// The method; swaps need H, and cannot hold blocks together.
  public init(swaps: Int = 0) {
    precondition(swaps >= 0)
    self.swaps = swaps
  }

  /// `wanda`.
  public static let method = PruningMethod.wanda

  /// Removes the weights of each row that add least to its output.
  public func prune(
    _ weight: Matrix, statistics: InputStatistics, goal: SparsityGoal
  ) throws(PruningError) -> PrunedWeight {
    try check(weight, statistics, goal)
    guard let diagonal = statistics.diagonal else {
      throw .needsStatistics(method: Self.method.rawValue)
    }
    let worth = Self.worth(of: weight, diagonal: diagonal)
    var removed = MaskSelection.removed(worth, goal: goal, scope: .row)
    if swaps > 0 {
      if case .blocks = goal.pattern { throw .cannotSwap(pattern: goal.pattern.name) }
      guard let moment = statistics.moment else {
        throw .needsStatistics(method: "swapping weights")
      }
      removed = WeightSwaps.refine(
        weight, removed, moment: moment, pattern: goal.pattern, limit: swaps)
    }
    return PrunedWeight(weight.without(removed), of: weight, statistics, method: Self.method)
  }

  /// W_ij² H_jj up to a factor, and `MaskSelection.ofZero` for zeros.
  static func worth(of weight: Matrix, diagonal: [Double]) -> Matrix {
    let columns = weight.columns
    let mean = diagonal.reduce(0, +) / Double(max(1, columns))
    let squares = diagonal.map { Float(mean > 0 ? max($0 / mean, 1e-10) : 1) }
    let scale = weight.squareScale
    var worth = weight
    ParallelLoop.overRows(of: &worth.values, rowLength: columns, blockRows: 64) { rows, part in
      for row in 0..<rows.count {
        for column in 0..<columns {
          let own = part[row * columns + column]
          part[row * columns + column] =
            own == 0 ? MaskSelection.ofZero : own * scale * (own * scale) * squares[column]
        }
      }
    }
    return worth
  }
}

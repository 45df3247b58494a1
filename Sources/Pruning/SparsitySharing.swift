// Which tensor gets how many zeros: the least predicted drift for a number of zeros in all.
//
// Source   Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9),
//          1988: on convex curves, all slopes are equal at the optimum
// Given    of each tensor its weights, its drift at some sparsities, and the zeros in all
// Result   zeros of each tensor, whose sum is exact: the optimum for the curves' lower convex hulls, logarithms of drift
//          taken for linear between the measured sparsities
// Checked  SparsitySharingTests: no zeros can be moved between two tensors for the better; the sum is exact

import Glibc

/// Shares zeros among tensors.
public enum SparsitySharing {
  /// What zeros cost a tensor.
  public struct Curve: Sendable, Equatable {
    /// Its weights.
    public let weights: Int
    /// Zeros come in whole blocks of so many.
    public let block: Int
    /// Sparsities that were measured, from the least on, and the drift that each is predicted to cause.
    public let points: [(sparsity: Double, drift: Double)]

    /// A curve with at least two points.
    public init(weights: Int, block: Int, points: [(sparsity: Double, drift: Double)]) {
      precondition(points.count > 1 && block > 0 && weights % block == 0)
      self.weights = weights
      self.block = block
      self.points = points.sorted { $0.sparsity < $1.sparsity }
    }

    /// Whether weights and points are equal.
    public static func == (a: Curve, b: Curve) -> Bool {
      a.weights == b.weights && a.block == b.block
        && a.points.elementsEqual(b.points, by: { $0 == $1 })
    }

    /// The drift at a sparsity between the first and the last point.
    public func drift(at sparsity: Double) -> Double {
      let upper = max(1, points.firstIndex { $0.sparsity >= sparsity } ?? points.count - 1)
      let (a, b) = (points[upper - 1], points[upper])
      let share = (sparsity - a.sparsity) / max(b.sparsity - a.sparsity, 1e-12)
      let (low, high) = (log(max(a.drift, 1e-30)), log(max(b.drift, 1e-30)))
      return exp(low + share * (high - low))
    }
  }

  /// Steps of a curve between its first and last point.
  private static let steps = 256

  /// The zeros of each tensor; nil when the curves do not reach so few or so many.
  public static func zeros(_ curves: [Curve], total: Int) -> [Int]? {
    let low = curves.map { Double($0.weights) * $0.points[0].sparsity }
    let high = curves.map { Double($0.weights) * ($0.points.last?.sparsity ?? 0) }
    guard low.reduce(0, +) <= Double(total), Double(total) <= high.reduce(0, +) else { return nil }
    // Pieces of the hulls by their slopes: each curve's own pieces come in order, as its slopes rise.
    var pieces: [(slope: Double, curve: Int, zeros: Double)] = []
    for (index, curve) in curves.enumerated() {
      var hull: [(zeros: Double, drift: Double)] = []
      for step in 0...steps {
        let share = Double(step) / Double(steps)
        let zeros = low[index] + share * (high[index] - low[index])
        let point = (zeros: zeros, drift: curve.drift(at: zeros / Double(curve.weights)))
        while hull.count >= 2,
          slope(hull[hull.count - 2], hull[hull.count - 1]) >= slope(hull[hull.count - 1], point)
        {
          hull.removeLast()
        }
        hull.append(point)
      }
      for (a, b) in zip(hull, hull.dropFirst()) {
        pieces.append((slope(a, b), index, b.zeros - a.zeros))
      }
    }
    pieces.sort { ($0.slope, $0.curve) < ($1.slope, $1.curve) }
    var zeros = low
    var left = Double(total) - low.reduce(0, +)
    for piece in pieces where left > 0 {
      let own = min(left, piece.zeros)
      zeros[piece.curve] += own
      left -= own
    }
    return exact(zeros, curves, total: total)
  }

  /// Whole blocks whose sum comes nearest to the total: exact where a block is one weight.
  static func exact(_ zeros: [Double], _ curves: [Curve], total: Int) -> [Int] {
    exact(zeros, weights: curves.map(\.weights), blocks: curves.map(\.block), total: total)
  }

  /// See `exact(_:_:total:)`.
  public static func exact(
    _ zeros: [Double], weights: [Int], blocks: [Int], total: Int
  ) -> [Int] {
    var counts = zip(zeros, blocks).map { Int(($0 / Double($1)).rounded(.down)) * $1 }
    // What rounding down left goes to the largest remainders, again and again where rows are short of room.
    let order = zeros.indices.sorted {
      (Double(counts[$0]) - zeros[$0], $0) < (Double(counts[$1]) - zeros[$1], $1)
    }
    var left = total - counts.reduce(0, +)
    var isMoving = true
    while isMoving {
      isMoving = false
      for index in order
      where 2 * left >= blocks[index] && counts[index] + blocks[index] <= weights[index] {
        counts[index] += blocks[index]
        left -= blocks[index]
        isMoving = true
      }
    }
    return counts
  }

  private static func slope(
    _ a: (zeros: Double, drift: Double), _ b: (zeros: Double, drift: Double)
  ) -> Double {
    (b.drift - a.drift) / max(b.zeros - a.zeros, 1e-9)
  }
}

// The matrix behind what was removed, fitted again to give what it gave.
//
// Source   He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168,
//          section 3.1 (ii); for transformers: An et al., "FLAP", AAAI 2024, arXiv:2312.11983 (there the bias alone)
// Given    W [outputs, inputs] as the cut has left it; M = mean of y y^T [inputs, inputs] of what it reads now; C = mean
//          of t y^T [outputs, inputs], t what it should give
// Result   W + (C - W M) (M + damping I)^-1: the minimum of mean ||W' y - t||^2 + damping ||W' - W||^2
// Cost     inputs^3 / 3 + 3 outputs * inputs^2 operations in double
// Differs  the damping pulls towards W and not towards 0, so that a layer that is right already stays as it is
// Checked  LeastSquaresRepairTests: normal equations solved by elimination in Double; no target is met worse

public import LinearAlgebra
public import Tensors

/// Fits the weight behind a cut.
public struct LeastSquaresRepair: Sendable, Equatable {
  /// Added to M's diagonal, as a share of its mean.
  public let damping: Double

  /// - Parameter damping: Above 0, so that inputs that are always zero or each other's copies stay solvable.
  public init(damping: Double = 0.01) {
    precondition(damping > 0)
    self.damping = damping
  }

  /// The fitted weight.
  ///
  /// - Parameters:
  ///   - weight: W, `[outputs, inputs]`.
  ///   - moment: M, `[inputs, inputs]`.
  ///   - targets: C, row-major `[outputs, inputs]`.
  /// - Throws: `FactorizationError` when M holds infinities or NaN.
  public func fit(
    _ weight: Matrix, moment: DoubleMatrix, targets: [Double]
  ) throws(FactorizationError) -> Matrix {
    let n = weight.columns
    precondition(moment.size == n && targets.count == weight.rows * n)
    let trace = moment.diagonal.reduce(0, +)
    // Inputs that are all zero tell nothing, and read nothing.
    if trace == 0 { return weight }
    var rest = BLAS.product(
      weight.values.map(Double.init), moment.values, rows: weight.rows, depth: n, columns: n)
    for i in rest.indices { rest[i] = targets[i] - rest[i] }
    var damped = moment
    for i in 0..<n { damped[i, i] += damping * trace / Double(n) }
    let change = try solve(rest, positive: damped)
    var result = weight
    for i in result.values.indices {
      result.values[i] = Float(Double(result.values[i]) + change[i])
    }
    return result
  }

  /// mean ‖W y − t‖², the fit's error.
  ///
  /// - Parameter energy: mean ‖t‖².
  public static func error(
    of weight: Matrix, moment: DoubleMatrix, targets: [Double], energy: Double
  ) -> Double {
    let n = weight.columns
    precondition(moment.size == n && targets.count == weight.values.count)
    let w = weight.values.map(Double.init)
    var sum = quadratic(w, moment)
    for i in w.indices { sum -= 2 * w[i] * targets[i] }
    // Rounding may leave less than nothing.
    return max(0, energy + sum)
  }

  /// mean ‖W x‖² for inputs of a moment, over some rows.
  public static func energy(of weight: Matrix, rows: [Int], moment: DoubleMatrix) -> Double {
    quadratic(rows.flatMap { weight.values[weight.range(ofRow: $0)].map(Double.init) }, moment)
  }

  /// tr(W M Wᵀ).
  private static func quadratic(_ w: [Double], _ moment: DoubleMatrix) -> Double {
    let n = moment.size
    let product = BLAS.product(
      w, moment.values, rows: w.count / max(1, n), depth: n, columns: n)
    return zip(w, product).reduce(0.0) { $0 + $1.0 * $1.1 }
  }
}

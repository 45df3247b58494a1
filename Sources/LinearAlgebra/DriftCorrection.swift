// The weights that best give the original model's outputs from inputs that have drifted.
//
// Source   the objective is that of Li et al., "GPTAQ", ICML 2025, arXiv:2504.02692; the target that of Zhang et al.,
//          "Qronos", 2025, arXiv:2505.11695
// Given    W [outputs, inputs]; H = mean of y y^T and C = mean of x y^T [inputs, inputs], y what the layer reads by now, x
//          what it reads in the original model
// Result   W' = W + W (C - H) (H + damping I)^-1, the minimum of ||W' y - W x||^2 + damping ||W' - W||^2
// Cost     3 outputs * inputs^2 multiply-adds
// Checked  QronosTests: normal equations in Double

public import Tensors

/// W + W (C − H) Uᵀ U.
///
/// - Parameters:
///   - moment: H.
///   - cross: C.
///   - factor: `[columns, columns]`, U of the damped H in an order of columns.
///   - order: That order.
public func driftCorrected(
  _ weight: Matrix, moment: DoubleMatrix, cross: DoubleMatrix, factor: [Float], order: [Int]
) -> Matrix {
  let n = weight.columns
  // Columns of C - H in the order of the factor; its rows meet W's columns as they are. A power of four that brings H
  // near 1 goes into it and, as two square roots, out of U.
  let unit = powerOfFour(near: moment.diagonal.max() ?? 0)
  let root = Float(unit.squareRoot())
  var drift = [Float](repeating: 0, count: n * n), u = drift, turned = drift
  for i in 0..<n {
    for j in 0..<n {
      drift[i * n + j] = Float((cross[i, order[j]] - moment[i, order[j]]) / unit)
      u[i * n + j] = factor[i * n + j] * root
      turned[j * n + i] = u[i * n + j]
    }
  }
  guard drift.contains(where: { $0 != 0 }) else { return weight }
  let upper = u, transposed = turned, difference = drift
  var target = weight
  ParallelLoop.overRows(of: &target.values, rowLength: n, blockRows: 64) { rows, part in
    let own = weight.values.span.extracting(rows.lowerBound * n..<rows.upperBound * n)
    var product = multiply(own, difference, rows: rows.count, size: n)
    product = multiply(product.span, transposed, rows: rows.count, size: n)
    product = multiply(product.span, upper, rows: rows.count, size: n)
    for row in 0..<rows.count {
      for (position, column) in order.enumerated() {
        part[row * n + column] += product[row * n + position]
      }
    }
  }
  return target
}

/// The product of some rows with a square matrix.
private func multiply(
  _ rows: Span<Float>, _ matrix: [Float], rows count: Int, size n: Int
) -> [Float] {
  var result = [Float](repeating: 0, count: count * n)
  var span = result.mutableSpan
  BLAS.addProduct(
    scale: 1, rows, transposed: false, aStride: n, matrix.span, bStride: n, to: &span,
    cStride: n, rows: count, columns: n, depth: n)
  return result
}

private func powerOfFour(near value: Double) -> Double {
  guard value > 0, value.isNormal else { return 1 }
  return Double(sign: .plus, exponent: 2 * (Int(value.exponent) >> 1), significand: 1)
}

// The error of a layer's outputs, from the second moment of its inputs alone.

public import Tensors

/// ‖(W−Ŵ)X‖² / ‖WX‖² = tr(D H Dᵀ) / tr(W H Wᵀ) with D = W − Ŵ. Of H only the diagonal counts where no more is
/// known; H = I without statistics.
public func relativeError(
  _ weight: Matrix, _ changed: Matrix, statistics: InputStatistics
) -> Double {
  let columns = weight.columns
  guard !weight.values.isEmpty else { return 0 }
  // Powers of two cancel in the quotient; they keep products of tiny weights from becoming zero.
  let scale = powerOfTwo(near: weight.values.reduce(0) { max($0, abs($1)) })
  let inputScale = powerOfTwo(near: Float(statistics.diagonal?.max() ?? 0))
  let factor = statistics.moment.map { $0.values.map { Float($0 * Double(inputScale)) } }
  let squares = factor == nil ? statistics.diagonal?.map { $0 * Double(inputScale) } : nil
  let blockRows = 64
  let blocks = (weight.rows + blockRows - 1) / blockRows
  let sums = ParallelLoop.map(blocks) { block -> (error: Double, total: Double) in
    let range =
      block * blockRows * columns..<min((block + 1) * blockRows, weight.rows) * columns
    let original = weight.values[range].map { $0 * scale }
    let difference = range.map { (weight.values[$0] - changed.values[$0]) * scale }
    if let squares {
      return (energy(difference, squares: squares), energy(original, squares: squares))
    }
    return (energy(difference, factor, columns), energy(original, factor, columns))
  }
  let error = sums.reduce(0.0) { $0 + $1.error }, total = sums.reduce(0.0) { $0 + $1.total }
  return total > 0 ? max(0, error) / total : 0
}

/// Σ d_j r_ij² of some rows.
private func energy(_ rows: [Float], squares: [Double]) -> Double {
  var sum = 0.0
  for start in stride(from: 0, to: rows.count, by: squares.count) {
    for (column, square) in squares.enumerated() {
      let value = Double(rows[start + column])
      sum += square * value * value
    }
  }
  return sum
}

/// A power of two that brings a largest value near 1.
private func powerOfTwo(near largest: Float) -> Float {
  guard largest > 0, largest.isFinite else { return 1 }
  return Float(sign: .plus, exponent: -min(max(Int(largest.exponent), -120), 120), significand: 1)
}

/// tr(R H Rᵀ) of some rows.
///
/// - Parameters:
///   - rows: R, rows of `columns` values.
///   - moment: H `[columns, columns]`; nil for the identity.
public func energy(_ rows: [Float], _ moment: [Float]?, _ columns: Int) -> Double {
  guard let moment else { return rows.reduce(0.0) { $0 + Double($1) * Double($1) } }
  var product = [Float](repeating: 0, count: rows.count)
  var target = product.mutableSpan
  BLAS.addProduct(
    scale: 1, rows.span, transposed: false, aStride: columns, moment.span, bStride: columns,
    to: &target, cStride: columns, rows: rows.count / columns, columns: columns, depth: columns)
  var sum = 0.0
  for start in stride(from: 0, to: rows.count, by: columns) {
    sum += Double(
      dot(
        rows.span.extracting(start..<start + columns),
        product.span.extracting(start..<start + columns)))
  }
  return sum
}

// The best weights on given places: every row's least squares with some weights held at zero.
//
// Given    W [outputs, inputs]; G = H + damping I [inputs, inputs], positive definite; the places that stay zero
// Result   Q, zero on those places, with the least (w - q) G (w - q)^T in each row: G_SS q_S = (G w)_S on the others, S
// Cost     |S|^3 / 3 operations in double for each row, through LAPACK (dposv)
// Checked  SupportLeastSquaresTests: the gradient vanishes on S

import CLAPACKE
public import Tensors

/// Least squares on supports.
public enum SupportLeastSquares {
  /// The best weights.
  ///
  /// - Parameters:
  ///   - target: W.
  ///   - metric: G.
  ///   - removed: Row-major, `outputs * inputs` places, true where zero is.
  /// - Returns: Q; nil when some part of G is not positive definite.
  public static func solve(
    _ target: Matrix, metric: DoubleMatrix, removed: [Bool]
  ) -> Matrix? {
    let n = target.columns
    precondition(metric.size == n && removed.count == target.values.count)
    var result = Matrix(rows: target.rows, columns: n)
    var failed = [Bool](repeating: false, count: target.rows)
    let rows = ParallelLoop.map(target.rows) { row in
      self.row(
        target.values[row * n..<(row + 1) * n], metric, removed[row * n..<(row + 1) * n])
    }
    for (row, values) in rows.enumerated() {
      guard let values else {
        failed[row] = true
        continue
      }
      result.values.replaceSubrange(row * n..<(row + 1) * n, with: values)
    }
    return failed.contains(true) ? nil : result
  }

  private static func row(
    _ target: ArraySlice<Float>, _ metric: DoubleMatrix, _ removed: ArraySlice<Bool>
  ) -> [Float]? {
    let n = metric.size
    let support = (0..<n).filter { !removed[removed.startIndex + $0] }
    var result = [Float](repeating: 0, count: n)
    guard !support.isEmpty else { return result }
    let count = support.count
    var a = [Double](repeating: 0, count: count * count)
    var b = [Double](repeating: 0, count: count)
    let w = target.map(Double.init)
    for (index, i) in support.enumerated() {
      let row = metric.values.span.extracting(i * n..<(i + 1) * n)
      var sum = 0.0
      for j in 0..<n { sum += row[j] * w[j] }
      b[index] = sum
      // The lower triangle by rows is the upper one by columns.
      for other in 0...index { a[index * count + other] = row[support[other]] }
    }
    let status = unsafe a.withUnsafeMutableBufferPointer { a in
      unsafe b.withUnsafeMutableBufferPointer { b in
        unsafe LAPACKE_dposv(
          LAPACK_COL_MAJOR, 0x55, Int32(count), 1, a.baseAddress, Int32(count), b.baseAddress,
          Int32(count))
      }
    }
    guard status == 0 else { return nil }
    for (index, i) in support.enumerated() { result[i] = Float(b[index]) }
    return result
  }
}

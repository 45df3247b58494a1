// DSnoT with the true error: swap a removed weight against a kept one while the layer's output error falls.
//
// Source   Zhang et al., "Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs", ICLR 2024,
//          arXiv:2310.08915, Algorithm 1 (prune and regrow, row by row)
// Given    W [outputs, inputs]; Q, W with some weights removed; H = mean of x x^T [inputs, inputs]
// Result   Q with as many zeros in each row (for N:M in each group), and at most so much (w - q) H (w - q)^T in each row
// Cost     3 inputs for each swap of a row, inputs^2 to begin
// Differs  the paper regrows by the expected error of an output and the variance of its inputs, and prunes by Wanda's
//          worth, which can raise the error; with H at hand the error of a swap is exact: removing i and regrowing j
//          changes it by 2 (w_i g_i - w_j g_j) + w_i^2 H_ii + w_j^2 H_jj - 2 w_i w_j H_ij, g = H (w - q). The best j is
//          taken, then the best i for it; weights keep their values
// Checked  WeightSwapsTests: every swap lowers the error; at the end no pair that the search would take does

import Encodings
import LinearAlgebra
import Tensors

/// Swaps of removed weights against kept ones.
enum WeightSwaps {
  /// Refines a mask.
  ///
  /// - Parameters:
  ///   - weight: W.
  ///   - removed: Row-major; what W's zeros are stays removed.
  ///   - limit: Swaps of a row at most.
  static func refine(
    _ weight: Matrix, _ removed: [Bool], moment: DoubleMatrix, pattern: SparsityPattern,
    limit: Int
  ) -> [Bool] {
    let n = weight.columns
    let moment = moment.values.map { Float($0) }
    let group: Int? = if case .groups(_, let size) = pattern { size } else { nil }
    let rows = ParallelLoop.map(weight.rows) { row in
      let range = weight.range(ofRow: row)
      return refine(
        Array(weight.values[range]), Array(removed[range]), moment, columns: n, group: group,
        limit: limit)
    }
    return rows.flatMap { $0 }
  }

  private static func refine(
    _ w: [Float], _ start: [Bool], _ moment: [Float], columns n: Int, group: Int?, limit: Int
  ) -> [Bool] {
    var removed = start
    // g = H (w - q), whose rest is w where it is removed.
    var g = [Float](repeating: 0, count: n)
    func add(_ scale: Float, _ column: Int) {
      let own = moment.span.extracting(column * n..<(column + 1) * n)
      for i in 0..<n { g[i] += scale * own[i] }
    }
    for column in 0..<n where removed[column] && w[column] != 0 { add(w[column], column) }
    for _ in 0..<limit {
      // Regrowing j changes the error by this; the most is saved first.
      var best = -1, least = Float(0)
      for j in 0..<n where removed[j] && w[j] != 0 {
        let change = w[j] * (w[j] * moment[j * n + j] - 2 * g[j])
        if change < least { (best, least) = (j, change) }
      }
      guard best >= 0 else { break }
      let places = group.map { best / $0 * $0..<(best / $0 + 1) * $0 } ?? 0..<n
      var gone = -1, total = Float(0)
      for i in places where !removed[i] && i != best {
        let change =
          least + w[i] * (2 * g[i] + w[i] * moment[i * n + i] - 2 * w[best] * moment[best * n + i])
        // The saving must stand clear of float's rounding of the sums.
        if change < total - 1e-6 * abs(least) { (gone, total) = (i, change) }
      }
      guard gone >= 0 else { break }
      removed[best] = false
      removed[gone] = true
      add(-w[best], best)
      add(w[gone], gone)
    }
    return removed
  }
}

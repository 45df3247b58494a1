// ALPS: the support and the weights on it are found together, by alternating between the best dense weights and the
// nearest sparse ones.
//
// Source   Meng, Behdin, Wang, Mazumder, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language
//          Models", NeurIPS 2024, arXiv:2406.07831: ADMM of section 3.1, its choice of rho of section 3.2 and appendix B
// Given    W [outputs, inputs]; H = mean of x x^T [inputs, inputs]
// Result   Q with the asked zeros and the least ||(W - Q) X||^2 + damping ||W - Q||^2 that the alternation finds:
//          B = (G + rho I)^-1 (G W - V + rho D), D = the nearest matrix to B + V / rho with these zeros,
//          V += rho (B - D), in columns scaled so that G = H + damping I has ones on its diagonal
// Cost     9 inputs^3 for the eigenvectors, 4 outputs * inputs^2 for each of at most 300 iterations, and the least squares
//          of SupportLeastSquares
// Differs  the weights on the support that is found are exact least squares by Cholesky, where the paper takes some
//          steps of conjugate gradients; with statistics of the original model's inputs the target is `driftCorrected`;
//          a weight that was zero stays zero
// Checked  ALPSTests: the alternation against its definition with explicit inverses in Double; less error than SparseGPT

import Encodings
public import LinearAlgebra
public import Tensors

/// ALPS and its options.
public struct ALPS: WeightPruner, Equatable {
  /// This share of H's mean diagonal is added to the diagonal.
  public let damping: Double
  /// At most so many iterations.
  public let iterations: Int

  /// ALPS with its options.
  public init(damping: Double = 0.01, iterations: Int = 300) {
    precondition(damping >= 0 && iterations > 0)
    self.damping = damping
    self.iterations = iterations
  }

  /// `alps`.
  public static let method = PruningMethod.alps

  /// The penalty of the first iterations, for a diagonal of ones.
  static let firstPenalty = 0.1
  /// Iterations with one penalty.
  static let stride = 3

  /// Prunes by the alternating direction method of multipliers.
  public func prune(
    _ weight: Matrix, statistics: InputStatistics, goal: SparsityGoal
  ) throws(PruningError) -> PrunedWeight {
    try check(weight, statistics, goal)
    guard let moment = statistics.moment else {
      throw .needsStatistics(method: Self.method.rawValue)
    }
    let factor = try feedbackFactor(of: moment, damping: damping)
    let target = try correctedTarget(weight, statistics, factor)
    let metric = Self.metric(moment, damping: factor.damping)
    guard let problem = Alternation(target, metric: metric) else {
      throw .singular(damping: damping)
    }
    let fixed = weight.values.map { $0 == 0 }
    let removed = problem.support(goal, fixed: fixed, iterations: iterations)
    guard let pruned = SupportLeastSquares.solve(target, metric: metric, removed: removed) else {
      throw .singular(damping: damping)
    }
    return PrunedWeight(
      pruned, of: weight, .moment(moment), method: Self.method, fallbacks: factor.fallbacks)
  }

  /// H + damping I; a dead input has the mean of the diagonal.
  static func metric(_ moment: DoubleMatrix, damping: Double) -> DoubleMatrix {
    let diagonal = moment.diagonal
    var mean = diagonal.reduce(0, +) / Double(max(1, moment.size))
    if mean == 0 { mean = 1 }
    var metric = moment
    for i in 0..<metric.size {
      metric[i, i] = (diagonal[i] == 0 ? mean : diagonal[i]) + damping
    }
    return metric
  }

  /// The next penalty: it grows faster while the support still changes much.
  ///
  /// - Parameters:
  ///   - changed: Weights that came into the support or left it in the last iterations.
  ///   - kept: Weights of the support.
  static func growth(changed: Int, kept: Int) -> Double {
    if Double(changed) >= 0.1 * Double(kept) { return 1.3 }
    return Double(changed) >= 0.005 * Double(kept) ? 1.2 : 1.1
  }
}

/// The alternation on one matrix, in scaled columns.
private struct Alternation {
  let rows: Int
  let columns: Int
  /// W G in scaled columns, `[rows, columns]`.
  private let product: [Float]
  /// W in scaled columns.
  private let weight: [Float]
  /// Eigenvalues of the scaled G, and its eigenvectors in rows and in columns.
  private let eigenvalues: [Double]
  private let vectorRows: [Float]
  private let vectorColumns: [Float]

  private static let rowsAtOnce = 64

  /// Scales G to ones on its diagonal; nil when it has no eigenvectors.
  init?(_ target: Matrix, metric: DoubleMatrix) {
    let n = target.columns
    rows = target.rows
    columns = n
    let sizes = metric.diagonal.map { $0.squareRoot() }
    var scaled = metric
    for i in 0..<n { for j in 0..<n { scaled[i, j] /= sizes[i] * sizes[j] } }
    let dense = scaled.values.map { Float($0) }
    guard let (values, vectors) = LinearAlgebra.eigenvectors(of: scaled) else { return nil }
    eigenvalues = values
    vectorRows = vectors.values.map { Float($0) }
    var turned = vectorRows
    for i in 0..<n { for j in 0..<n { turned[j * n + i] = vectorRows[i * n + j] } }
    vectorColumns = turned
    // Only relations of weights matter: the largest size of an input counts as 1.
    let unit = sizes.max() ?? 1
    let factors = sizes.map { Float($0 / unit) }
    let scale = target.squareScale
    var w = target.values
    for index in w.indices { w[index] *= scale * factors[index % n] }
    weight = w
    product = Self.multiply(w, dense, columns: n)
  }

  /// Rows times a square matrix.
  private static func multiply(
    _ values: [Float], _ matrix: [Float], columns n: Int
  ) -> [Float] {
    var result = [Float](repeating: 0, count: values.count)
    ParallelLoop.overRows(of: &result, rowLength: n, blockRows: rowsAtOnce) { rows, part in
      BLAS.addProduct(
        scale: 1, values.span.extracting(rows.lowerBound * n..<rows.upperBound * n),
        transposed: false, aStride: n, matrix.span, bStride: n, to: &part, cStride: n,
        rows: rows.count, columns: n, depth: n)
    }
    return result
  }

  /// Runs until the support stands still; returns what is removed.
  ///
  /// With z = B + V / rho, D is z where it stays, and V is rho z where it goes: one array holds both.
  func support(_ goal: SparsityGoal, fixed: [Bool], iterations: Int) -> [Bool] {
    var z = weight
    var removed = [Bool](repeating: false, count: z.count)
    var last = Self.project(z, goal, fixed)
    var penalty = ALPS.firstPenalty, before = penalty
    for iteration in 1...iterations {
      z = step(z, removed, penalty: penalty, before: before)
      removed = Self.project(z, goal, fixed)
      before = penalty
      guard iteration % ALPS.stride == 0 else { continue }
      let changed = zip(removed, last).count { $0 != $1 }
      guard changed > 0 else { break }
      penalty *= ALPS.growth(changed: changed, kept: z.count - goal.zeros)
      last = removed
    }
    return removed
  }

  /// The next B + V / rho.
  private func step(
    _ z: [Float], _ removed: [Bool], penalty: Double, before: Double
  ) -> [Float] {
    let n = columns
    let inverse = eigenvalues.map { Float(1 / (max($0, 0) + penalty)) }
    let stays = Float(penalty), goes = Float(before), carried = Float(before / penalty)
    var next = [Float](repeating: 0, count: z.count)
    ParallelLoop.overRows(of: &next, rowLength: n, blockRows: Self.rowsAtOnce) { rows, part in
      let range = rows.lowerBound * n..<rows.upperBound * n
      var right = Array(product[range])
      for (index, place) in range.enumerated() {
        right[index] += removed[place] ? -goes * z[place] : stays * z[place]
      }
      var turned = [Float](repeating: 0, count: right.count)
      var span = turned.mutableSpan
      BLAS.addProduct(
        scale: 1, right.span, transposed: false, aStride: n, vectorColumns.span, bStride: n,
        to: &span, cStride: n, rows: rows.count, columns: n, depth: n)
      for row in 0..<rows.count {
        for column in 0..<n { turned[row * n + column] *= inverse[column] }
      }
      BLAS.addProduct(
        scale: 1, turned.span, transposed: false, aStride: n, vectorRows.span, bStride: n,
        to: &part, cStride: n, rows: rows.count, columns: n, depth: n)
      for (index, place) in range.enumerated() where removed[place] {
        part[index] += carried * z[place]
      }
    }
    return next
  }

  /// What the nearest matrix with the asked zeros leaves out.
  private static func project(_ z: [Float], _ goal: SparsityGoal, _ fixed: [Bool]) -> [Bool] {
    var worth = Matrix(rows: goal.outputs, columns: goal.inputs, values: z)
    for index in z.indices {
      worth.values[index] = fixed[index] ? MaskSelection.ofZero : z[index] * z[index]
    }
    var removed = MaskSelection.removed(worth, goal: goal, scope: .matrix)
    for index in removed.indices where fixed[index] { removed[index] = true }
    return removed
  }
}

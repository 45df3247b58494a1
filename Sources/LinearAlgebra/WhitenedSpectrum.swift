// The singular values of a matrix on the inputs that it reads, and its best approximation of a rank.
//
// Source   Wang et al., "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression",
//          ICLR 2025, arXiv:2403.07378, section 3.1: W L = U S Vᵀ with H = L Lᵀ, truncated, is W with the least error of
//          its outputs
// Given    W [outputs, inputs]; H = mean of x xᵀ [inputs, inputs]
// Result   A [outputs, r], B [r, inputs] with A B of rank r nearest to W: tr((W − A B) H (W − A B)ᵀ) is the sum of the
//          squares of the singular values of W L from the r-th on
// Cost     outputs · inputs · (outputs + inputs) + 9 outputs^3 operations in double; for more outputs than inputs
//          2 outputs · inputs² + 20 inputs³
// Differs  A B = U_r S_r V_rᵀ L⁻¹ = U_r U_rᵀ W: U is all that is needed, no inverse, so that H may be singular. Few outputs:
//          U are the eigenvectors of W H Wᵀ. Few inputs: with L = Q Λ^½ from H = Q Λ Qᵀ, V are the eigenvectors of
//          Lᵀ Wᵀ W L, and U S = W L V. Each pair of a column of A and a row of B is balanced
// Checked  LowRankTests: the error equals the tail of the singular values by Jacobi's method in Double, on both sides; no
//          other factors of that rank are nearer

public import Tensors

/// Truncated factors of a matrix.
public struct LowRankFactors: Sendable {
  /// A, `[outputs, rank]`.
  public let left: Matrix
  /// B, `[rank, inputs]`.
  public let right: Matrix
  /// tr((W − A B) H (W − A B)ᵀ) over tr(W H Wᵀ).
  public let relativeError: Double

  /// Factors with their error.
  public init(left: Matrix, right: Matrix, relativeError: Double) {
    self.left = left
    self.right = right
    self.relativeError = relativeError
  }

  /// A column of A or a row of B.
  public var rank: Int { left.columns }
}

/// The spectrum of a weight on its inputs.
public struct WhitenedSpectrum: Sendable {
  private let weight: Matrix
  /// Columns of U in rows, the largest singular value first; zero where that vanishes.
  private let vectors: [[Double]]
  /// Squares of the singular values of W L, the largest first, `min(outputs, inputs)` of them.
  public let squares: [Double]

  /// Below this share of the largest square a direction is made of rounding errors.
  private static let leastShare = 1e-13

  /// Decomposes a weight.
  ///
  /// - Parameters:
  ///   - weight: W, `[outputs, inputs]`, finite.
  ///   - moment: H, `[inputs, inputs]`.
  /// - Returns: Nil when H holds infinite or NaN values, or LAPACK does not converge.
  public init?(of weight: Matrix, moment: DoubleMatrix) {
    precondition(moment.size == weight.columns)
    let found =
      weight.rows <= weight.columns
      ? Self.fewOutputs(weight, moment) : Self.fewInputs(weight, moment)
    guard let found else { return nil }
    self.weight = weight
    squares = found.squares
    vectors = found.vectors
  }

  /// Eigenvectors of W H Wᵀ.
  private static func fewOutputs(
    _ weight: Matrix, _ moment: DoubleMatrix
  ) -> (squares: [Double], vectors: [[Double]])? {
    let n = weight.rows
    // In double: small eigenvalues lie far below large ones.
    let w = weight.values.map(Double.init)
    let product = BLAS.product(
      w, moment.values, rows: n, depth: weight.columns, columns: weight.columns)
    let square = BLAS.product(
      product, w, transposed: true, rows: n, depth: weight.columns, columns: n)
    guard let (values, vectors) = eigenvectors(of: symmetric(square, size: n)) else { return nil }
    let order = (0..<n).map { n - 1 - $0 }
    return (
      order.map { max(0, values[$0]) },
      order.map { Array(vectors.values[$0 * n..<($0 + 1) * n]) }
    )
  }

  /// W L V, each column of length 1, V being the eigenvectors of Lᵀ Wᵀ W L.
  private static func fewInputs(
    _ weight: Matrix, _ moment: DoubleMatrix
  ) -> (squares: [Double], vectors: [[Double]])? {
    let n = weight.columns
    guard let (values, basis) = eigenvectors(of: moment) else { return nil }
    // Rows of Lᵀ = Λ^½ Qᵀ.
    var root = basis.values
    for k in 0..<n {
      let scale = max(0, values[k]).squareRoot()
      for i in 0..<n { root[k * n + i] *= scale }
    }
    // (W L)ᵀ, a row an eigenvector of H.
    let whitened = BLAS.product(
      root, weight.values.map(Double.init), transposed: true, rows: n, depth: n,
      columns: weight.rows)
    let square = BLAS.product(
      whitened, whitened, transposed: true, rows: n, depth: weight.rows, columns: n)
    guard let (squares, vectors) = eigenvectors(of: symmetric(square, size: n)) else { return nil }
    let products = BLAS.product(
      vectors.values, whitened, rows: n, depth: n, columns: weight.rows)
    let largest = max(0, squares.last ?? 0)
    let order = (0..<n).map { n - 1 - $0 }
    return (
      order.map { max(0, squares[$0]) },
      order.map { k in
        let line = products[k * weight.rows..<(k + 1) * weight.rows]
        let length = line.reduce(0.0) { $0 + $1 * $1 }.squareRoot()
        let vanishes = squares[k] <= leastShare * largest || length == 0
        return line.map { vanishes ? 0 : $0 / length }
      }
    )
  }

  /// The factors of a rank of at least 1, at most `squares.count`.
  public func factors(rank: Int) -> LowRankFactors {
    precondition((1...squares.count).contains(rank))
    let outputs = weight.rows, inputs = weight.columns
    var left = Matrix(rows: outputs, columns: rank), right = Matrix(rows: rank, columns: inputs)
    let products = BLAS.product(
      vectors[..<rank].flatMap { $0 }, weight.values.map(Double.init), rows: rank, depth: outputs,
      columns: inputs)
    for i in products.indices { right.values[i] = Float(products[i]) }
    for k in 0..<rank {
      // Both of one length, so that half floats hold them alike.
      let row = right.range(ofRow: k)
      let length = right.values[row].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      let scale = length > 0 ? Float(length.squareRoot()) : 1
      for i in row { right.values[i] /= scale }
      for o in 0..<outputs { left.values[o * rank + k] = Float(vectors[k][o]) * scale }
    }
    let all = squares.reduce(0, +), tail = squares[rank...].reduce(0, +)
    return LowRankFactors(left: left, right: right, relativeError: all > 0 ? tail / all : 0)
  }
}

/// The mean of a matrix and its transpose.
private func symmetric(_ values: [Double], size: Int) -> DoubleMatrix {
  var matrix = DoubleMatrix(size: size, values: values)
  for i in 0..<size {
    for j in 0..<i {
      let mean = (matrix[i, j] + matrix[j, i]) / 2
      matrix[i, j] = mean
      matrix[j, i] = mean
    }
  }
  return matrix
}

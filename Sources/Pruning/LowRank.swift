// The best product of two thin matrices in place of one, for the inputs that it reads.
//
// Source   Wang et al., "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression",
//          ICLR 2025, arXiv:2403.07378, section 3.1: W L = U S Vᵀ with H = L Lᵀ, truncated, is W with the least error of
//          its outputs; on a drifted prefix, reduced-rank regression: Izenman, "Reduced-rank regression for the
//          multivariate linear model", J. Multivariate Analysis 5, 1975
// Given    W [outputs, inputs]; H = mean of x xᵀ [inputs, inputs]
// Result   A [outputs, r], B [r, inputs] with A B of rank r nearest to W: tr((W − A B) H (W − A B)ᵀ) is the sum of the
//          squares of the singular values of W L from the r-th on
// Cost     outputs · inputs · (outputs + inputs) + 9 outputs^3 operations in double
// Differs  A B = U_r S_r V_rᵀ L⁻¹ = U_r U_rᵀ W: the eigenvectors of W H Wᵀ are U, its eigenvalues the squares, and neither
//          L nor its inverse is needed, so that H may be singular. Each pair of a column of A and a row of B is balanced
// Checked  LowRankTests: the error equals the tail of the singular values by Jacobi's method in Double; no other
//          factors of that rank are nearer

public import LinearAlgebra
public import Tensors

/// How many singular values are kept.
public enum RankRule: Sendable, Equatable {
  /// The fewest with this share of the sum of squares.
  case energy(Double)
  /// This share of the smaller side of the matrix.
  case ratio(Double)
}

/// Truncated factors of a matrix.
public struct LowRankFactors: Sendable {
  /// A, `[outputs, rank]`.
  public let left: Matrix
  /// B, `[rank, inputs]`.
  public let right: Matrix
  /// tr((W − A B) H (W − A B)ᵀ) over tr(W H Wᵀ).
  public let relativeError: Double

  /// A column of A or a row of B.
  public var rank: Int { left.columns }
}

/// The spectrum of a weight on its inputs.
public struct WhitenedSpectrum: Sendable {
  private let weight: Matrix
  /// Eigenvectors of W H Wᵀ in rows, the largest first.
  private let vectors: [[Double]]
  /// Squares of the singular values of W L, the largest first, `min(outputs, inputs)` of them.
  public let squares: [Double]

  /// Decomposes a weight.
  ///
  /// - Parameters:
  ///   - weight: W, `[outputs, inputs]`.
  ///   - moment: H, `[inputs, inputs]`.
  /// - Throws: `PruningError.badStatistics` when H holds infinite or NaN values.
  public init(_ weight: Matrix, moment: DoubleMatrix) throws(PruningError) {
    let outputs = weight.rows, inputs = weight.columns
    precondition(moment.size == inputs)
    let count = countNotFinite(weight.values.span)
    guard count == 0 else { throw .notFinite(count: count, total: weight.values.count) }
    // W H, then its product with Wᵀ, in double: small eigenvalues lie far below large ones.
    var product = [Double](repeating: 0, count: outputs * inputs)
    ParallelLoop.parts(of: &product, count: outputs, range: { $0 * inputs..<($0 + 1) * inputs }) {
      row, part in
      for i in 0..<inputs {
        let scale = Double(weight.values[row * inputs + i])
        let line = moment.values.span.extracting(i * inputs..<(i + 1) * inputs)
        for j in line.indices { part[j] += scale * line[j] }
      }
    }
    var gram = DoubleMatrix(size: outputs)
    ParallelLoop.parts(
      of: &gram.values, count: outputs, range: { $0 * outputs..<($0 + 1) * outputs }
    ) { row, part in
      let line = product.span.extracting(row * inputs..<(row + 1) * inputs)
      for other in 0..<outputs {
        let own = weight.values.span.extracting(weight.range(ofRow: other))
        var sum = 0.0
        for i in line.indices { sum += line[i] * Double(own[i]) }
        part[other] = sum
      }
    }
    for i in 0..<outputs {
      for j in 0..<i {
        let mean = (gram[i, j] + gram[j, i]) / 2
        gram[i, j] = mean
        gram[j, i] = mean
      }
    }
    guard let (values, vectors) = eigenvectors(of: gram) else { throw .badStatistics }
    let order = (0..<min(outputs, inputs)).map { outputs - 1 - $0 }
    self.weight = weight
    squares = order.map { max(0, values[$0]) }
    self.vectors = order.map { row in
      Array(vectors.values[row * outputs..<(row + 1) * outputs])
    }
  }

  /// The rank that a rule gives, at least 1.
  public func rank(_ rule: RankRule) -> Int {
    switch rule {
    case .ratio(let ratio): return max(1, Int((ratio * Double(squares.count)).rounded()))
    case .energy(let share):
      let all = squares.reduce(0, +)
      var sum = 0.0
      for (index, square) in squares.enumerated() {
        sum += square
        if sum >= share * all { return index + 1 }
      }
      return max(1, squares.count)
    }
  }

  /// The factors of a rank of at least 1, at most `squares.count`.
  public func factors(rank: Int) -> LowRankFactors {
    precondition((1...squares.count).contains(rank))
    let outputs = weight.rows, inputs = weight.columns
    var left = Matrix(rows: outputs, columns: rank), right = Matrix(rows: rank, columns: inputs)
    ParallelLoop.parts(of: &right.values, count: rank, range: { $0 * inputs..<($0 + 1) * inputs }) {
      k, part in
      var line = [Double](repeating: 0, count: inputs)
      for row in 0..<outputs {
        let scale = vectors[k][row]
        for i in 0..<inputs { line[i] += scale * Double(weight.values[row * inputs + i]) }
      }
      for i in 0..<inputs { part[i] = Float(line[i]) }
    }
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

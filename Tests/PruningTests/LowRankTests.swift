import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct LowRankTests {
  /// Singular values by one-sided Jacobi rotations of columns, in Double, the largest first.
  static func singularValues(_ matrix: [[Double]]) -> [Double] {
    var a = matrix
    let columns = a[0].count
    for _ in 0..<60 {
      for p in 0..<columns {
        for q in p + 1..<max(p + 1, columns) {
          var alpha = 0.0, beta = 0.0, gamma = 0.0
          for row in a.indices {
            alpha += a[row][p] * a[row][p]
            beta += a[row][q] * a[row][q]
            gamma += a[row][p] * a[row][q]
          }
          guard abs(gamma) > 1e-15 * (alpha * beta).squareRoot(), gamma != 0 else { continue }
          let zeta = (beta - alpha) / (2 * gamma)
          let t = (zeta < 0 ? -1.0 : 1.0) / (abs(zeta) + (1 + zeta * zeta).squareRoot())
          let c = 1 / (1 + t * t).squareRoot(), s = c * t
          for row in a.indices {
            let x = a[row][p], y = a[row][q]
            a[row][p] = c * x - s * y
            a[row][q] = s * x + c * y
          }
        }
      }
    }
    return (0..<columns).map { column in
      a.reduce(0.0) { $0 + $1[column] * $1[column] }.squareRoot()
    }.sorted(by: >)
  }

  /// L with L Lᵀ = H, by the definition.
  static func cholesky(_ h: DoubleMatrix) -> DoubleMatrix {
    var l = DoubleMatrix(size: h.size)
    for i in 0..<h.size {
      for j in 0...i {
        let rest = (0..<j).reduce(h[i, j]) { $0 - l[i, $1] * l[j, $1] }
        l[i, j] = i == j ? rest.squareRoot() : rest / l[j, j]
      }
    }
    return l
  }

  /// tr((W − V) H (W − V)ᵀ).
  static func error(_ w: Matrix, _ v: Matrix, _ h: DoubleMatrix) -> Double {
    let n = w.columns
    return (0..<w.rows).reduce(0.0) { sum, row in
      let d = (0..<n).map { Double(w.values[row * n + $0]) - Double(v.values[row * n + $0]) }
      return sum
        + (0..<n).reduce(0.0) { inner, i in
          inner + d[i] * (0..<n).reduce(0.0) { $0 + h[i, $1] * d[$1] }
        }
    }
  }

  static func product(_ factors: LowRankFactors) -> Matrix {
    let a = factors.left, b = factors.right
    var result = Matrix(rows: a.rows, columns: b.columns)
    for row in 0..<a.rows {
      for column in 0..<b.columns {
        result.values[row * b.columns + column] = Float(
          (0..<a.columns).reduce(0.0) {
            $0 + Double(a.values[row * a.columns + $1]) * Double(b.values[$1 * b.columns + column])
          })
      }
    }
    return result
  }

  /// Squares are those of the singular values of W L, and the error of a rank is the sum of its tail.
  @Test(arguments: [(6, 10), (10, 6), (8, 8)])
  func errorsAreTails(_ size: (outputs: Int, inputs: Int)) throws {
    var stream = RandomStream(test: "spectrum")
    let w = stream.matrix(rows: size.outputs, columns: size.inputs)
    let h = correlatedMoment(size.inputs), l = Self.cholesky(h)
    let whitened = (0..<size.outputs).map { row in
      (0..<size.inputs).map { column in
        (0..<size.inputs).reduce(0.0) {
          $0 + Double(w.values[row * size.inputs + $1]) * l[$1, column]
        }
      }
    }
    let values = Self.singularValues(whitened), all = values.reduce(0.0) { $0 + $1 * $1 }
    let spectrum = try WhitenedSpectrum(w, moment: h)
    #expect(spectrum.squares.count == min(size.outputs, size.inputs))
    for (found, expected) in zip(spectrum.squares, values) {
      #expect(abs(found - expected * expected) < 1e-9 * all)
    }
    for rank in 1...spectrum.squares.count {
      let factors = spectrum.factors(rank: rank)
      let tail = values[rank...].reduce(0.0) { $0 + $1 * $1 }
      let own = Self.error(w, Self.product(factors), h)
      #expect(abs(own - tail) < 1e-5 * all)
      #expect(abs(factors.relativeError - tail / all) < 1e-9)
      // No neighbour of that rank is nearer.
      for step in [-0.01, 0.01] as [Float] {
        var moved = factors.left
        for i in moved.values.indices where i % 3 == 0 { moved.values[i] *= 1 + step }
        let other = LowRankFactors(left: moved, right: factors.right, relativeError: 0)
        #expect(Self.error(w, Self.product(other), h) > own - 1e-5 * all)
      }
    }
  }

  @Test func rulesChooseRanks() throws {
    var stream = RandomStream(test: "rules")
    let w = stream.matrix(rows: 12, columns: 9)
    let spectrum = try WhitenedSpectrum(w, moment: correlatedMoment(9))
    let all = spectrum.squares.reduce(0, +)
    for share in [0.1, 0.5, 0.9, 0.999] {
      let rank = spectrum.rank(.energy(share))
      #expect(spectrum.squares[..<rank].reduce(0, +) >= share * all)
      #expect(rank == 1 || spectrum.squares[..<(rank - 1)].reduce(0, +) < share * all)
    }
    #expect(spectrum.rank(.ratio(0.5)) == 5)
    #expect(spectrum.rank(.ratio(0.01)) == 1)
  }

  /// H without an inverse, a weight of zeros, numbers that are none.
  @Test func hardCases() throws {
    var stream = RandomStream(test: "hard")
    let w = stream.matrix(rows: 4, columns: 6)
    let h = correlatedMoment(6, samples: 2, dead: [1])
    let factors = try WhitenedSpectrum(w, moment: h).factors(rank: 2)
    #expect(
      Self.error(w, Self.product(factors), h) < 1e-6 * Self.error(w, Matrix(rows: 4, columns: 6), h)
    )
    let zero = try WhitenedSpectrum(Matrix(rows: 3, columns: 6), moment: h)
    #expect(
      Self.product(zero.factors(rank: zero.rank(.energy(0.9)))) == Matrix(rows: 3, columns: 6))
    var bad = h
    bad[2, 2] = .nan
    #expect(throws: PruningError.badStatistics) { try WhitenedSpectrum(w, moment: bad) }
    var infinite = w
    infinite.values[3] = .infinity
    #expect(throws: PruningError.notFinite(count: 1, total: 24)) {
      try WhitenedSpectrum(infinite, moment: h)
    }
  }
}

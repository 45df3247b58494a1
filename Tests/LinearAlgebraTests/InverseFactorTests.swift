import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite struct InverseFactorTests {
  /// A well conditioned second moment.
  static func moment(_ size: Int) -> DoubleMatrix {
    var stream = RandomStream(test: "factor")
    let samples = 2 * size + 3
    let x = (0..<samples * size).map { _ in stream.normal() }
    var h = DoubleMatrix(size: size)
    for i in 0..<size {
      for j in 0..<size {
        h[i, j] =
          (0..<samples).reduce(0) { $0 + x[$1 * size + i] * x[$1 * size + j] } / Double(samples)
      }
    }
    return h
  }

  @Test(arguments: [1, 2, 3, 17, 64, 100], [0, 0.3]) func theFactorInverts(
    _ size: Int, _ damping: Double
  ) throws {
    let h = Self.moment(size)
    let u = try inverseFactor(of: h, damping: damping)
    for i in 0..<size {
      #expect(u[i, i] > 0)
      for j in 0..<i { #expect(u[i, j] == 0, "not upper triangular") }
    }
    // UᵀU (H + damping I) = I.
    var worst = 0.0
    for i in 0..<size {
      var row = [Double](repeating: 0, count: size)
      for k in 0...i { for j in k..<size { row[j] += u[k, i] * u[k, j] } }
      for j in 0..<size {
        let damped = (0..<size).map { h[$0, j] + ($0 == j ? damping : 0) }
        let product = zip(row, damped).reduce(0) { $0 + $1.0 * $1.1 }
        worst = max(worst, abs(product - (i == j ? 1 : 0)))
      }
    }
    #expect(worst < 1e-11)
  }

  @Test func aDiagonalMatrix() throws {
    var h = DoubleMatrix(size: 3)
    for (index, value) in [4.0, 1, 0.25].enumerated() { h[index, index] = value }
    let u = try inverseFactor(of: h, damping: 0)
    #expect(u.values == [0.5, 0, 0, 0, 1, 0, 0, 0, 2])
    #expect(try inverseFactor(of: DoubleMatrix(size: 0), damping: 1).values == [])
  }

  @Test func singularMatrices() throws {
    let ones = DoubleMatrix(size: 4, values: [Double](repeating: 1, count: 16))
    #expect(throws: FactorizationError.self) { try inverseFactor(of: ones, damping: 0) }
    #expect(throws: FactorizationError.self) {
      try inverseFactor(of: DoubleMatrix(size: 5), damping: 0)
    }
    _ = try inverseFactor(of: ones, damping: 1e-3)
    var indefinite = DoubleMatrix(size: 2, values: [1, 0, 0, -1])
    let error = #expect(throws: FactorizationError.self) {
      try inverseFactor(of: indefinite, damping: 0)
    }
    #expect(error?.size == 2)
    indefinite[1, 1] = .nan
    #expect(throws: FactorizationError.self) { try inverseFactor(of: indefinite, damping: 0) }
  }
}

import LinearAlgebra
import TestSupport
import Tensors
import Testing

@Suite struct EigenvaluesTests {
  @Test func knownMatrices() throws {
    #expect(try #require(eigenvalues(of: DoubleMatrix(size: 0))) == [])
    let pair = try #require(eigenvalues(of: DoubleMatrix(size: 2, values: [2, 1, 1, 2])))
    #expect(abs(pair[0] - 1) < 1e-14 && abs(pair[1] - 3) < 1e-14)
    #expect(eigenvalues(of: DoubleMatrix(size: 1, values: [.nan])) == nil)
  }

  /// The trace and the sum of squares of a random symmetric matrix.
  @Test func traceAndSquares() throws {
    var stream = RandomStream(test: "eigenvalues")
    let n = 37
    var matrix = DoubleMatrix(size: n)
    for i in 0..<n {
      for j in 0...i {
        matrix[i, j] = stream.normal()
        matrix[j, i] = matrix[i, j]
      }
    }
    let values = try #require(eigenvalues(of: matrix))
    let trace = matrix.diagonal.reduce(0, +)
    let squares = matrix.values.reduce(0) { $0 + $1 * $1 }
    #expect(abs(values.reduce(0, +) - trace) < 1e-11)
    #expect(abs(values.reduce(0) { $0 + $1 * $1 } - squares) < 1e-9)
    #expect(values == values.sorted())
  }
}

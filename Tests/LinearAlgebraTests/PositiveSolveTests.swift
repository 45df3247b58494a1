import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite struct PositiveSolveTests {
  /// A = R Rᵀ + I.
  static func positive(_ n: Int) -> DoubleMatrix {
    var stream = RandomStream(test: "positive solve")
    let r = (0..<n * n).map { _ in stream.normal() }
    var a = DoubleMatrix(size: n)
    for i in 0..<n {
      for j in 0..<n {
        a[i, j] = (0..<n).reduce(i == j ? 1 : 0) { $0 + r[i * n + $1] * r[j * n + $1] }
      }
    }
    return a
  }

  @Test(arguments: [1, 2, 17, 40], [1, 5])
  func solutionsSolve(_ n: Int, _ rows: Int) throws {
    let a = Self.positive(n)
    var stream = RandomStream(test: "right-hand side")
    let b = (0..<rows * n).map { _ in stream.normal() }
    let x = try solve(b, positive: a)
    for row in 0..<rows {
      for j in 0..<n {
        let product = (0..<n).reduce(0.0) { $0 + x[row * n + $1] * a[$1, j] }
        #expect(abs(product - b[row * n + j]) < 1e-9)
      }
    }
  }

  @Test func whatIsNotPositiveIsAnError() {
    let a = DoubleMatrix(size: 2, values: [1, 2, 2, 1])
    #expect(throws: FactorizationError.self) { try solve([1, 1], positive: a) }
  }

  @Test func nothingIsNothing() throws {
    #expect(try solve([], positive: DoubleMatrix(size: 0)) == [])
    #expect(try solve([], positive: Self.positive(3)) == [])
  }
}

import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite struct SupportTests {
  private func definite(_ size: Int) -> DoubleMatrix {
    var stream = RandomStream(test: "definite")
    let a = (0..<size * size).map { _ in stream.normal() }
    var h = DoubleMatrix(size: size)
    for i in 0..<size {
      for j in 0..<size {
        h[i, j] = (0..<size).reduce(i == j ? 0.1 : 0) { $0 + a[i * size + $1] * a[j * size + $1] }
      }
    }
    return h
  }

  @Test(arguments: [0, 1, 2, 17, 40]) func eigenvectorsGiveTheMatrixBack(_ size: Int) throws {
    let h = definite(size)
    let (values, q) = try #require(eigenvectors(of: h))
    #expect(values == values.sorted())
    for i in 0..<size {
      for j in 0..<size {
        let back = (0..<size).reduce(0.0) { $0 + values[$1] * q[$1, i] * q[$1, j] }
        let one = (0..<size).reduce(0.0) { $0 + q[i, $1] * q[j, $1] }
        #expect(abs(back - h[i, j]) < 1e-11 * Double(size) * (values.last ?? 1))
        #expect(abs(one - (i == j ? 1 : 0)) < 1e-12 * Double(size))
      }
    }
    var broken = definite(3)
    broken[1, 0] = .nan
    #expect(eigenvectors(of: broken) == nil)
  }

  @Test func theGradientVanishesOnTheSupport() throws {
    let n = 23, rows = 9
    var stream = RandomStream(test: "support")
    let target = stream.matrix(rows: rows, columns: n)
    let h = definite(n)
    // One row keeps everything, one nothing.
    let removed = (0..<rows * n).map { index in
      index / n == 0 ? false : index / n == 1 ? true : stream.unit() < 0.6
    }
    let result = try #require(
      SupportLeastSquares.solve(target, metric: h, removed: removed))
    for row in 0..<rows {
      for j in 0..<n {
        guard !removed[row * n + j] else {
          #expect(result.values[row * n + j] == 0)
          continue
        }
        let gradient = (0..<n).reduce(0.0) {
          $0 + (Double(result.values[row * n + $1]) - Double(target.values[row * n + $1]))
            * h[$1, j]
        }
        #expect(abs(gradient) < 1e-4)
      }
    }
    #expect(
      SupportLeastSquares.solve(target, metric: DoubleMatrix(size: n), removed: removed) == nil)
  }
}

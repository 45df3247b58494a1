import Tensors
import TestSupport
import Testing

@testable import Quantization

@Suite struct HadamardRotationTests {
  private static func matrix(_ size: Int, seed: UInt64 = 0) -> [[Double]] {
    var stream = RandomStream(seed: seed, name: "rotation")
    let rotation = HadamardRotation(size: size, stream: &stream)
    var identity = Matrix(rows: size, columns: size)
    for i in 0..<size { identity.values[i * size + i] = 1 }
    let result = rotation.applied(toRowsOf: identity)
    return (0..<size).map { result.row($0).map(Double.init) }
  }

  /// R Rᵀ = I for powers of two, for each of Paley's constructions, and where there is none.
  @Test(arguments: [1, 2, 8, 12, 20, 24, 28, 36, 40, 52, 72, 3, 6, 23, 46, 288, 480])
  func rowsAreOrthonormal(_ size: Int) {
    let rows = Self.matrix(size)
    for i in 0..<size {
      for j in i..<size {
        let product = zip(rows[i], rows[j]).reduce(0) { $0 + $1.0 * $1.1 }
        #expect(abs(product - (i == j ? 1 : 0)) < 1e-5, "\(i), \(j)")
      }
    }
  }

  /// Every channel goes into every other one with the same weight.
  @Test(arguments: [8, 12, 20, 28, 36, 44, 72, 288]) func entriesAreOfOneSize(_ size: Int) {
    let size = Double(size).squareRoot()
    for entry in Self.matrix(Int((size * size).rounded())).flatMap({ $0 }) {
      #expect(abs(abs(entry) - 1 / size) < 1e-6)
    }
  }

  @Test func theSeedChoosesTheSigns() {
    #expect(Self.matrix(16) == Self.matrix(16))
    #expect(Self.matrix(16) != Self.matrix(16, seed: 1))
  }

  /// Rᵀ M by a plain product.
  @Test func theTransposeIsThat() {
    var stream = RandomStream(seed: 0, name: "rotation"), numbers = RandomStream(test: "turned")
    let rotation = HadamardRotation(size: 12, stream: &stream)
    let matrix = numbers.matrix(rows: 12, columns: 5), full = Self.matrix(12)
    let found = rotation.appliedTransposed(to: matrix)
    for row in 0..<12 {
      for column in 0..<5 {
        let expected = (0..<12).reduce(0.0) {
          $0 + full[$1][row] * Double(matrix.values[$1 * 5 + column])
        }
        #expect(abs(Double(found.values[row * 5 + column]) - expected) < 1e-5)
      }
    }
  }
}

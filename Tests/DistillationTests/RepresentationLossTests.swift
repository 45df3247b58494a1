import Foundation
import Tensors
import TestSupport
import Testing

@testable import Distillation

@Suite struct RepresentationLossTests {
  /// Relative slopes of a function of a matrix by central differences, along random directions.
  static func check(
    _ matrix: Matrix, gradient: Matrix, _ f: (Matrix) -> Double, tolerance: Double
  ) {
    var stream = RandomStream(test: "directions")
    for _ in 0..<6 {
      let direction = stream.matrix(rows: matrix.rows, columns: matrix.columns, deviation: 1)
      let expected = zip(gradient.values, direction.values).reduce(0.0) {
        $0 + Double($1.0) * Double($1.1)
      }
      func moved(_ step: Float) -> Double {
        var other = matrix
        for i in other.values.indices { other.values[i] += step * direction.values[i] }
        return f(other)
      }
      let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3
      #expect(abs(slope - expected) < tolerance * (1 + abs(expected)), "\(slope) \(expected)")
    }
  }

  @Test func projectedStream() throws {
    var stream = RandomStream(test: "streams")
    let student = stream.matrix(rows: 7, columns: 5, deviation: 1)
    let teacher = stream.matrix(rows: 7, columns: 8, deviation: 2)
    let projection = stream.matrix(rows: 8, columns: 5, deviation: 0.5)
    func loss(_ s: Matrix, _ p: Matrix) -> Double {
      var sum = 0.0
      for row in 0..<7 {
        var error = 0.0, size = 0.0
        for i in 0..<8 {
          var own = 0.0
          for j in 0..<5 { own += Double(p.values[i * 5 + j]) * Double(s.values[row * 5 + j]) }
          let t = Double(teacher.values[row * 8 + i])
          error += (own - t) * (own - t)
          size += t * t
        }
        sum += error / size
      }
      return 0.7 * sum
    }
    let result = StreamLoss.apply(
      student: student, teacher: teacher, projection: projection, scale: 0.7)
    #expect(abs(result.value - loss(student, projection)) < 1e-4)
    Self.check(student, gradient: result.student, { loss($0, projection) }, tolerance: 2e-3)
    let slope = try #require(result.projection)
    Self.check(projection, gradient: slope, { loss(student, $0) }, tolerance: 2e-3)
  }

  @Test(arguments: [true, false]) func relations(_ isCausal: Bool) {
    var stream = RandomStream(test: "relations")
    let student = stream.matrix(rows: 9, columns: 6, deviation: 1)
    let teacher = stream.matrix(rows: 9, columns: 10, deviation: 1)
    let sequences = [0..<4, 4..<9]
    func table(_ m: Matrix, _ rows: Range<Int>, _ head: Int) -> [[Double]] {
      let size = m.columns / 2
      return rows.map { i in
        let seen = isCausal ? rows.lowerBound...i : rows.lowerBound...rows.upperBound - 1
        let scores = seen.map { j in
          (0..<size).reduce(0.0) {
            $0 + Double(m.values[i * m.columns + head * size + $1])
              * Double(m.values[j * m.columns + head * size + $1])
          } / Double(size).squareRoot()
        }
        return DivergenceTests.softmax(scores, 1)
      }
    }
    func loss(_ s: Matrix) -> Double {
      var sum = 0.0
      for rows in sequences {
        for head in 0..<2 {
          for (p, q) in zip(table(teacher, rows, head), table(s, rows, head)) {
            sum += DivergenceTests.definition(.forward, p, q)
          }
        }
      }
      return 0.5 * sum
    }
    let result = RelationLoss.apply(
      student: student, teacher: teacher, sequences: sequences, heads: 2, isCausal: isCausal,
      scale: 0.5)
    #expect(abs(result.value - loss(student)) < 1e-4)
    Self.check(student, gradient: result.student, loss, tolerance: 3e-3)
  }
}

import TestSupport
import Tensors
import Testing

/// A matrix that must be decoded.
private struct StoredElsewhere: LinearOperator {
  let matrix: Matrix
  var outputs: Int { matrix.rows }
  var inputs: Int { matrix.columns }
  var storedBits: Int { 16 * matrix.values.count }
  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    for (index, value) in matrix.rows(rows).values.enumerated() { target[index] = value }
  }
}

/// A matrix whose rows lie in memory; decoding it would be a mistake.
private struct InPlace: LinearOperator {
  let matrix: Matrix
  var outputs: Int { matrix.rows }
  var inputs: Int { matrix.columns }
  var storedBits: Int { 32 * matrix.values.count }
  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) { fatalError("in place") }
  func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool {
    body(matrix.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs))
    return true
  }
}

@Suite(.serialized) struct LinearOperatorTests {
  /// The largest one needs more panels than are packed at once.
  static let sizes = [(1, 1), (33, 7), (64, 100), (70, 257), (129, 31), (65, 20_000)]

  @Test(arguments: [1, 2, 3, 4, 5, 11, 12, 13, 30, 250]) func productsAgainstThreeLoops(
    _ tokens: Int
  ) throws {
    var stream = RandomStream(test: "operator")
    for (outputs, inputs) in Self.sizes where tokens <= 13 || inputs < 1000 {
      let weight = stream.matrix(rows: outputs, columns: inputs)
      let x = stream.matrix(rows: tokens, columns: inputs)
      let bias = stream.floats(outputs)
      let found = withThreads(2) { StoredElsewhere(matrix: weight).apply(to: x, bias: bias) }
      try #require(found.rows == tokens && found.columns == outputs)
      var wrong = 0
      for token in 0..<tokens {
        for output in 0..<outputs {
          var sum = Double(bias[output]), size = abs(sum)
          for p in 0..<inputs {
            let term =
              Double(x.values[token * inputs + p]) * Double(weight.values[output * inputs + p])
            sum += term
            size += abs(term)
          }
          let distance = abs(Double(found.values[token * outputs + output]) - sum)
          if !(distance <= Double(inputs + 1) * roundoff * size) { wrong += 1 }
        }
      }
      #expect(wrong == 0, "\(outputs) x \(inputs)")
      let alone = withThreads(1) { StoredElsewhere(matrix: weight).apply(to: x, bias: bias) }
      #expect(found == alone, "the number of threads changes bits")
      #expect(InPlace(matrix: weight).apply(to: x, bias: bias) == alone)
      var plain = StoredElsewhere(matrix: weight).apply(to: x)
      for index in plain.values.indices { plain.values[index] += bias[index % outputs] }
      #expect(plain == alone)
    }
  }

  @Test func decodingAndGathering() {
    var stream = RandomStream(test: "gather")
    let weight = stream.matrix(rows: 150, columns: 5)
    let matrix = StoredElsewhere(matrix: weight)
    for threads in [1, 2] {
      withThreads(threads) {
        #expect(matrix.decoded() == weight)
        let rows = (0..<200).map { Int32($0 * 37 % 150) }
        #expect(
          matrix.gather(rows) == Matrix.stack(rows.map { weight.rows(Int($0)..<Int($0) + 1) }))
        #expect(matrix.gather([]).rows == 0)
      }
    }
    #expect(matrix.bitsPerWeight == 16)
  }

  @Test func emptyMatrices() {
    let none = Matrix(rows: 0, columns: 5)
    #expect(StoredElsewhere(matrix: none).apply(to: Matrix(rows: 7, columns: 5)).values == [])
    let noInputs = StoredElsewhere(matrix: Matrix(rows: 3, columns: 0))
    for rows in [0, 1, 2, 9] {
      let found = noInputs.apply(to: Matrix(rows: rows, columns: 0), bias: [1, 2, 3])
      #expect(found.values == (0..<rows).flatMap { _ in [1, 2, 3] as [Float] })
    }
  }
}

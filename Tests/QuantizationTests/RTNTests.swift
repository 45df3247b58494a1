import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

@Suite(.serialized) struct RTNTests {
  static let encodings = [
    "int2-g16", "int2-g32-sym", "int3-g64", "int4-g32", "int4-g128-sym", "int5-channel",
    "int8-g256", "int8-channel-sym",
  ]

  /// No other code of the grid is nearer to the weight; ties and the rounded 1 / scale are allowed for.
  @Test(arguments: encodings, GridSearch.allCases)
  func everyCodeIsTheNearest(_ name: String, _ search: GridSearch) throws {
    let encoding = try #require(GroupIntegers.named(name))
    var stream = RandomStream(test: "rtn")
    for columns in [1, 15, 100] {
      let weight = stream.matrix(rows: 20, columns: columns)
      let quantized = try RTN(search: search).quantize(weight, moment: nil, encoding: encoding)
      let parts = QuantizedParts(quantized, encoding)
      var worst = 0.0
      for row in 0..<20 {
        for column in 0..<columns {
          let position = parts.position(Double(weight.values[row * columns + column]), row, column)
          worst = max(worst, abs(position - Double(parts.codes[row * columns + column])))
        }
      }
      #expect(worst <= 0.5 + (parts.top + 1) * 0x1p-22)
      #expect(quantized.fallbacks == 0 && quantized.deadInputs == 0)
    }
  }

  @Test func threadsChangeNoByte() throws {
    var stream = RandomStream(test: "rtn threads")
    let weight = stream.matrix(rows: 70, columns: 50)
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let results = try [1, 2, 5].map { threads in
      try withThreads(threads) {
        try RTN().quantize(weight, moment: correlatedMoment(50), encoding: encoding)
      }
    }
    for result in results.dropFirst() {
      #expect(result.relativeError == results[0].relativeError)
      for (a, b) in zip(result.encoded.parts, results[0].encoded.parts) {
        #expect(
          a.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
            == b.withBytes { $0.withUnsafeBytes { [UInt8]($0) } })
      }
    }
  }

  /// Σ importance (w − ŵ)², group by group, in Double.
  private static func groupErrors(
    _ weight: Matrix, _ parts: QuantizedParts, importance: [Float]
  ) -> [Double] {
    var errors = [Double](repeating: 0, count: parts.rows * parts.groups)
    for row in 0..<parts.rows {
      for column in 0..<parts.columns {
        let error = Double(weight.values[row * parts.columns + column]) - parts.point(row, column)
        errors[row * parts.groups + column / parts.groupSize] +=
          Double(importance[column]) * error * error
      }
    }
    return errors
  }

  @Test(arguments: encodings) func theSearchIsNeverWorseThanTheRange(_ name: String) throws {
    let encoding = try #require(GroupIntegers.named(name))
    var stream = RandomStream(test: "search")
    var weight = stream.matrix(rows: 60, columns: 100)
    // Outliers, and rows of one sign.
    for index in stride(from: 0, to: 6000, by: 97) { weight.values[index] *= 8 }
    for index in 0..<500 { weight.values[index] = abs(weight.values[index]) + 0.2 }
    let h = correlatedMoment(100)
    for moment in [nil, h] {
      let importance = Quantization.importance(
        moment.map { .moment($0) } ?? .none, columns: 100)
      let searched = QuantizedParts(
        try RTN(search: .mse).quantize(weight, moment: moment, encoding: encoding), encoding)
      let plain = QuantizedParts(
        try RTN(search: .minmax).quantize(weight, moment: moment, encoding: encoding), encoding)
      let least = Self.groupErrors(weight, searched, importance: importance)
      let range = Self.groupErrors(weight, plain, importance: importance)
      for (a, b) in zip(least, range) { #expect(a <= b * (1 + 1e-5)) }
      // And it is worth its time.
      #expect(least.reduce(0, +) < 0.97 * range.reduce(0, +))
    }
  }

  /// The range's grid: zero is on it, and the largest and least weight are at its ends.
  @Test func theRangeOfAGroup() throws {
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let values: [Float] = [-5, 10, 3, 0]
    let ones = [Float](repeating: 1, count: 4)
    #expect(
      bestGrid(of: values.span, importance: ones.span, encoding: encoding, search: .minmax)
        == UniformGrid(scale: 1, zero: 5, top: 15))
    let positive: [Float] = [15, 7.5]
    #expect(
      bestGrid(
        of: positive.span, importance: ones.span.extracting(0..<2), encoding: encoding,
        search: .minmax) == UniformGrid(scale: 1, zero: 0, top: 15))
    let symmetric = try #require(GroupIntegers.named("int4-g16-sym"))
    // The largest, with its sign, is at code 0.
    #expect(
      bestGrid(of: values.span, importance: ones.span, encoding: symmetric, search: .minmax)
        == UniformGrid(scale: -1.25, zero: 8, top: 15))
  }

  /// ‖(W−Ŵ)X‖² / ‖WX‖² with four loops.
  @Test(arguments: [1, 64, 65, 130]) func relativeErrors(_ rows: Int) throws {
    var stream = RandomStream(test: "relative error")
    let columns = 37
    let weight = stream.matrix(rows: rows, columns: columns)
    let encoding = try #require(GroupIntegers.named("int3-g16"))
    for moment in [nil, correlatedMoment(columns)] {
      let quantized = try RTN().quantize(weight, moment: moment, encoding: encoding)
      let decoded = quantized.encoded.matrix.decoded()
      var error = 0.0, total = 0.0
      for row in 0..<rows {
        let w = weight.row(row).map { Double($0) }
        let d = zip(w, decoded.row(row)).map { $0 - Double($1) }
        for i in 0..<columns {
          for j in 0..<columns {
            let h = moment.map { $0[i, j] } ?? (i == j ? 1 : 0)
            error += d[i] * h * d[j]
            total += w[i] * h * w[j]
          }
        }
      }
      #expect(abs(quantized.relativeError - error / total) <= 1e-4 * error / total)
    }
  }

  @Test func deadInputsAreCounted() throws {
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let moment = DoubleMatrix(size: 2, values: [0, 0, 0, 2])
    let quantized = try RTN().quantize(
      Matrix(rows: 1, columns: 2, values: [1, 2]), moment: moment, encoding: encoding)
    #expect(quantized.deadInputs == 1)
    #expect(importance(.moment(moment), columns: 2) == [1e-4, 2 + 1e-4])
    #expect(importance(.moment(DoubleMatrix(size: 2)), columns: 2) == [1, 1])
  }
}

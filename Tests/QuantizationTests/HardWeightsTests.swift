import Encodings
import LinearAlgebra
import Quantization
import Tensors
import TestSupport
import Testing

/// What both methods must survive.
@Suite struct HardWeightsTests {
  static let methods: [any WeightQuantizer] = [
    RTN(search: .minmax), RTN(), GPTQ(search: .minmax), GPTQ(actOrder: false),
  ]
  static let encodings = [
    "int2-g16", "int4-g16", "int4-g32-sym", "int8-channel", "int8-channel-sym",
  ]

  private static func each(
    _ body: (any WeightQuantizer, GroupIntegers, DoubleMatrix) throws -> Void
  ) throws {
    let moment = correlatedMoment(40)
    for method in methods {
      for name in encodings { try body(method, try #require(GroupIntegers.named(name)), moment) }
    }
  }

  @Test func zerosStayZero() throws {
    try Self.each { method, encoding, moment in
      let quantized = try method.quantize(
        Matrix(rows: 3, columns: 40), moment: moment, encoding: encoding)
      #expect(quantized.encoded.matrix.decoded() == Matrix(rows: 3, columns: 40))
      #expect(quantized.relativeError == 0)
    }
  }

  @Test(arguments: [1, -1, 0.1, -3.3] as [Float]) func constantRows(_ value: Float) throws {
    let weight = Matrix(rows: 2, columns: 40, values: [Float](repeating: value, count: 80))
    try Self.each { method, encoding, moment in
      let quantized = try method.quantize(weight, moment: moment, encoding: encoding)
      // Half a step of the widest grid, one that ends at the constant, and the scale's rounding.
      #expect(quantized.relativeError < 1e-3, "\(encoding.name)")
    }
  }

  /// Too small for a half: the grid holds only zero, and the error says that all is lost.
  @Test func tinyWeights() throws {
    var stream = RandomStream(test: "tiny")
    let weight = stream.matrix(rows: 4, columns: 40, deviation: 1e-30)
    try Self.each { method, encoding, moment in
      for statistics in [moment, nil] where statistics != nil || method is RTN {
        let quantized = try method.quantize(weight, moment: statistics, encoding: encoding)
        #expect(quantized.encoded.matrix.decoded().values.allSatisfy { $0 == 0 })
        #expect(quantized.relativeError == 1)
      }
    }
  }

  @Test func subnormalScales() throws {
    var stream = RandomStream(test: "subnormal")
    let weight = stream.matrix(rows: 4, columns: 40, deviation: 1e-6)
    try Self.each { method, encoding, moment in
      let quantized = try method.quantize(weight, moment: moment, encoding: encoding)
      #expect(quantized.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
      #expect((0...1.01).contains(quantized.relativeError))
    }
  }

  @Test func hugeWeights() throws {
    var stream = RandomStream(test: "huge")
    let weight = stream.matrix(rows: 4, columns: 40, deviation: 1e30)
    let largest = weight.values.map { abs($0) }.max() ?? 0
    try Self.each { method, encoding, moment in
      #expect(throws: QuantizationError.scaleTooLarge(largest: largest)) {
        try method.quantize(weight, moment: moment, encoding: encoding)
      }
    }
    // One weight of the size that a half just holds, and one beyond all floats' differences.
    let single = Matrix(rows: 1, columns: 40, values: [65504] + [Float](repeating: 0, count: 39))
    let extreme = Matrix(
      rows: 1, columns: 40, values: [3e38, -3e38] + [Float](repeating: 0, count: 38))
    try Self.each { method, encoding, moment in
      let quantized = try method.quantize(single, moment: moment, encoding: encoding)
      #expect(quantized.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
      #expect(throws: QuantizationError.scaleTooLarge(largest: 3e38)) {
        try method.quantize(extreme, moment: moment, encoding: encoding)
      }
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity]) func weightsThatAreNoNumbers(
    _ bad: Float
  ) throws {
    var weight = Matrix(rows: 2, columns: 40)
    weight.values[41] = bad
    weight.values[7] = bad
    try Self.each { method, encoding, moment in
      #expect(throws: QuantizationError.notFinite(count: 2, total: 80)) {
        try method.quantize(weight, moment: moment, encoding: encoding)
      }
    }
  }

  @Test func statisticsOfAllSizes() throws {
    var stream = RandomStream(test: "sizes")
    let weight = stream.matrix(rows: 4, columns: 40)
    try Self.each { method, encoding, moment in
      let expected = try method.quantize(weight, moment: moment, encoding: encoding).relativeError
      for scale in [0x1p-90, 0x1p+90] {
        let scaled = DoubleMatrix(size: 40, values: moment.values.map { $0 * scale })
        let found = try method.quantize(weight, moment: scaled, encoding: encoding).relativeError
        #expect(abs(found - expected) <= 0.02 * expected, "\(encoding.name)")
      }
    }
  }

  @Test func noRows() throws {
    try Self.each { method, encoding, moment in
      let quantized = try method.quantize(
        Matrix(rows: 0, columns: 40), moment: moment, encoding: encoding)
      #expect(quantized.encoded.outputs == 0 && quantized.relativeError == 0)
    }
  }
}

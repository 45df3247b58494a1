import Encodings
import LinearAlgebra
import Quantization
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct GPTQTests {
  /// U with (H + damping I)⁻¹ = Uᵀ U: inverse by Gauss and Jordan, then Cholesky, all in Double.
  static func factor(_ h: DoubleMatrix, damping: Double) -> [Double] {
    let n = h.size
    var a = h.values
    for i in 0..<n { a[i * n + i] += damping }
    var inverse = [Double](repeating: 0, count: n * n)
    for i in 0..<n { inverse[i * n + i] = 1 }
    for pivot in 0..<n {
      let scale = 1 / a[pivot * n + pivot]
      for j in 0..<n {
        a[pivot * n + j] *= scale
        inverse[pivot * n + j] *= scale
      }
      for i in 0..<n where i != pivot {
        let factor = a[i * n + pivot]
        guard factor != 0 else { continue }
        for j in 0..<n {
          a[i * n + j] -= factor * a[pivot * n + j]
          inverse[i * n + j] -= factor * inverse[pivot * n + j]
        }
      }
    }
    var u = [Double](repeating: 0, count: n * n)
    for i in 0..<n {
      for j in i..<n {
        var sum = inverse[i * n + j]
        for k in 0..<i { sum -= u[k * n + i] * u[k * n + j] }
        u[i * n + j] = i == j ? sum.squareRoot() : sum / u[i * n + i]
      }
    }
    return u
  }

  /// How far, in steps of the grid, the given codes are from those of Algorithm 1 without blocks: after each
  /// column the error of the given code is pushed on, so that one difference does not bring others.
  static func worstDistance(
    _ weight: Matrix, _ h: DoubleMatrix, _ parts: QuantizedParts, damping: Double, actOrder: Bool,
    held: [Bool]? = nil
  ) -> Double {
    let n = weight.columns
    let diagonal = h.diagonal
    let order =
      actOrder
      ? (0..<n).sorted { diagonal[$0] == diagonal[$1] ? $0 < $1 : diagonal[$0] > diagonal[$1] }
      : Array(0..<n)
    var permuted = DoubleMatrix(size: n)
    for i in 0..<n { for j in 0..<n { permuted[i, j] = h[order[i], order[j]] } }
    let mean = diagonal.reduce(0, +) / Double(n)
    for i in 0..<n where permuted[i, i] == 0 { permuted[i, i] = mean }
    let u = factor(permuted, damping: damping * mean)
    var worst = 0.0
    for row in 0..<weight.rows {
      var w = order.map { Double(weight.values[row * n + $0]) }
      for i in 0..<n {
        let column = order[i]
        let code = Double(parts.codes[row * n + column])
        // A held place is rounded as zero, whatever was pushed onto it.
        let isHeld = held?[row * n + column] ?? false
        worst = max(worst, abs(parts.position(isHeld ? 0 : w[i], row, column) - code))
        let error = (w[i] - parts.point(row, column)) / u[i * n + i]
        for j in i..<n { w[j] -= error * u[i * n + j] }
      }
    }
    return worst
  }

  static let encodings = ["int8-g32", "int8-channel-sym", "int4-g16", "int4-g128-sym", "int3-g64"]

  /// Every block size, ragged groups (205 columns) and pieces of rows (135): each code is the nearest of its
  /// column in the unblocked recurrence, up to 1e-4 of a step and the roundings of an 8-bit grid's 256 steps.
  @Test(arguments: [1, 5, 32, 128, 1000], [false, true])
  func equalsTheUnblockedRecurrence(_ blockSize: Int, _ actOrder: Bool) throws {
    var stream = RandomStream(test: "gptq")
    let weight = stream.matrix(rows: 135, columns: 205, deviation: 0.05)
    let h = correlatedMoment(205)
    for name in Self.encodings {
      let encoding = try #require(GroupIntegers.named(name))
      let method = GPTQ(damping: 0.01, blockSize: blockSize, actOrder: actOrder, search: .minmax)
      let quantized = try method.quantize(weight, moment: h, encoding: encoding)
      let parts = QuantizedParts(quantized, encoding)
      let worst = Self.worstDistance(weight, h, parts, damping: 0.01, actOrder: actOrder)
      #expect(worst <= 0.5 + max(1e-4, (parts.top + 1) * 1e-5), "\(name)")
      #expect(quantized.fallbacks == 0 && quantized.deadInputs == 0)
    }
  }

  /// The oracle is sharp enough to notice another recurrence: codes that ignore the feedback, and the codes
  /// of another order, are far from nearest.
  @Test func theComparisonNoticesOtherCodes() throws {
    var stream = RandomStream(test: "gptq")
    let weight = stream.matrix(rows: 5, columns: 205, deviation: 0.05)
    let h = correlatedMoment(205)
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let plain = try RTN(search: .minmax).quantize(weight, moment: h, encoding: encoding)
    let ofPlain = QuantizedParts(plain, encoding)
    #expect(Self.worstDistance(weight, h, ofPlain, damping: 0.01, actOrder: false) > 0.7)
    let ordered = try GPTQ(actOrder: true, search: .minmax)
      .quantize(weight, moment: h, encoding: encoding)
    let ofOrdered = QuantizedParts(ordered, encoding)
    #expect(Self.worstDistance(weight, h, ofOrdered, damping: 0.01, actOrder: false) > 0.7)
    #expect(Self.worstDistance(weight, h, ofOrdered, damping: 0.1, actOrder: true) > 0.55)
  }

  /// Block sizes differ in the order of float additions alone; threads in nothing.
  @Test func blockSizesAndThreads() throws {
    var stream = RandomStream(test: "blocks")
    let weight = stream.matrix(rows: 300, columns: 100)
    let h = correlatedMoment(100)
    let encoding = try #require(GroupIntegers.named("int4-g32"))
    func codes(_ blockSize: Int, threads: Int) throws -> [Int] {
      try withThreads(threads) {
        let method = GPTQ(blockSize: blockSize)
        return QuantizedParts(
          try method.quantize(weight, moment: h, encoding: encoding), encoding
        ).codes
      }
    }
    let expected = try codes(128, threads: 1)
    #expect(try codes(128, threads: 2) == expected)
    #expect(try codes(128, threads: 5) == expected)
    for blockSize in [1, 7, 32] {
      // A code on a boundary may fall to the other side, and moves its row's later codes.
      let other = try codes(blockSize, threads: 2)
      let rows = (0..<300).count { row in
        other[row * 100..<(row + 1) * 100] != expected[row * 100..<(row + 1) * 100]
      }
      #expect(rows <= 3, "\(rows) of 300 rows differ")
    }
  }

  @Test func feedbackHelps() throws {
    var stream = RandomStream(test: "feedback")
    let weight = stream.matrix(rows: 64, columns: 96)
    let h = correlatedMoment(96)
    for name in ["int2-g32", "int3-g32-sym", "int4-channel", "int8-g16"] {
      let encoding = try #require(GroupIntegers.named(name))
      let plain = try RTN().quantize(weight, moment: h, encoding: encoding)
      let gptq = try GPTQ().quantize(weight, moment: h, encoding: encoding)
      #expect(gptq.relativeError < 0.8 * plain.relativeError, "\(name)")
    }
  }

  @Test func itNeedsStatistics() throws {
    let encoding = try #require(GroupIntegers.named("int4-g32"))
    #expect(throws: QuantizationError.needsStatistics(method: "gptq")) {
      try GPTQ().quantize(Matrix(rows: 1, columns: 1), moment: nil, encoding: encoding)
    }
  }

  /// Inputs that were never seen are rounded without feedback, and counted.
  @Test(arguments: [false, true]) func deadInputs(_ actOrder: Bool) throws {
    var stream = RandomStream(test: "dead")
    let weight = stream.matrix(rows: 10, columns: 40)
    var h = correlatedMoment(40)
    for dead in [0, 7, 39] {
      for i in 0..<40 {
        h[dead, i] = 0
        h[i, dead] = 0
      }
    }
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let quantized = try GPTQ(actOrder: actOrder, search: .minmax)
      .quantize(weight, moment: h, encoding: encoding)
    #expect(quantized.deadInputs == 3 && quantized.fallbacks == 0)
    let parts = QuantizedParts(quantized, encoding)
    for row in 0..<10 {
      for dead in [0, 7, 39] {
        let position = parts.position(Double(weight.values[row * 40 + dead]), row, dead)
        #expect(abs(position - Double(parts.codes[row * 40 + dead])) <= 0.5001)
      }
    }
    #expect(Self.worstDistance(weight, h, parts, damping: 0.01, actOrder: actOrder) <= 0.501)
  }

  /// No activation at all: H is zero, and GPTQ is plain rounding.
  @Test func withoutAnyActivation() throws {
    var stream = RandomStream(test: "zero moment")
    let weight = stream.matrix(rows: 10, columns: 40)
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let zero = DoubleMatrix(size: 40)
    let quantized = try GPTQ().quantize(weight, moment: zero, encoding: encoding)
    let plain = try RTN().quantize(weight, moment: zero, encoding: encoding)
    #expect(quantized.deadInputs == 40)
    #expect(QuantizedParts(quantized, encoding).codes == QuantizedParts(plain, encoding).codes)
    #expect(quantized.relativeError == 0)
  }

  /// One sample: H has rank 1. Damping makes it invertible; without damping it is raised, and counted.
  @Test func oneSample() throws {
    var stream = RandomStream(test: "one sample")
    let weight = stream.matrix(rows: 20, columns: 33)
    let h = correlatedMoment(33, samples: 1)
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let damped = try GPTQ().quantize(weight, moment: h, encoding: encoding)
    #expect(damped.fallbacks == 0 && damped.relativeError < 0.01)
    #expect(damped.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
    let raised = try GPTQ(damping: 0).quantize(weight, moment: h, encoding: encoding)
    #expect(raised.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
    #expect(raised.relativeError.isFinite)
    var negative = h
    negative[3, 3] = -1
    let fallback = try? GPTQ().quantize(weight, moment: negative, encoding: encoding)
    #expect(fallback == nil || (fallback?.fallbacks ?? 0) > 0)
  }

  @Test func statisticsThatAreNoMoment() throws {
    let weight = Matrix(rows: 2, columns: 2, values: [1, 2, 3, 4])
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let indefinite = DoubleMatrix(size: 2, values: [1, 100, 100, 1])
    #expect(throws: QuantizationError.singular(damping: 1)) {
      try GPTQ().quantize(weight, moment: indefinite, encoding: encoding)
    }
    for bad in [Double.nan, .infinity] {
      #expect(throws: QuantizationError.badStatistics) {
        try GPTQ().quantize(
          weight, moment: DoubleMatrix(size: 2, values: [1, 0, 0, bad]), encoding: encoding)
      }
    }
  }
}

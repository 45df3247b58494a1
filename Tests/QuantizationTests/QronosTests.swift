import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

/// Inputs of a layer in two states of a model: against normal equations in Double, and by what the method is for.
@Suite(.serialized) struct QronosTests {
  /// The same samples `[samples, size]` in the original model and as they are by now.
  struct Inputs {
    let original: Matrix
    let current: Matrix

    init(size: Int, samples: Int, name: String = "qronos") {
      var stream = RandomStream(test: name)
      let causes = stream.matrix(rows: samples, columns: 8)
      let mixing = stream.matrix(rows: 8, columns: size)
      var x = stream.matrix(rows: samples, columns: size)
      for sample in 0..<samples {
        for j in 0..<size {
          for c in 0..<8 {
            x.values[sample * size + j] +=
              causes.values[sample * 8 + c] * mixing.values[c * size + j]
          }
        }
      }
      // What quantized layers do: some of the signal is lost, and noise comes in.
      var y = x
      for i in y.values.indices { y.values[i] = 0.9 * y.values[i] + 0.3 * Float(stream.normal()) }
      original = x
      current = y
    }

    /// The mean of a bᵀ.
    static func mean(_ a: Matrix, _ b: Matrix) -> DoubleMatrix {
      let n = a.columns
      var sum = DoubleMatrix(size: n)
      for sample in 0..<a.rows {
        let x = a.row(sample), y = b.row(sample)
        for i in 0..<n { for j in 0..<n { sum.values[i * n + j] += Double(x[i]) * Double(y[j]) } }
      }
      for i in sum.values.indices { sum.values[i] /= Double(a.rows) }
      return sum
    }

    var moment: DoubleMatrix { Self.mean(current, current) }
    var cross: DoubleMatrix { Self.mean(original, current) }
    var statistics: InputStatistics { .asymmetric(moment: moment, cross: cross) }

    /// ‖W x − Q y‖² over the samples.
    func error(_ weight: Matrix, _ encoded: EncodedMatrix) -> Double {
      let wanted = FloatMatrix(weight).apply(to: original)
      let found = encoded.matrix.apply(to: current)
      return zip(wanted.values, found.values).reduce(0) {
        $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
      }
    }
  }

  /// W' with (W' − W) (H + damping) = W (C − H), by Gauss and Jordan.
  static func target(
    _ weight: Matrix, _ moment: DoubleMatrix, _ cross: DoubleMatrix, damping: Double
  ) -> [Double] {
    let n = weight.columns, rows = weight.rows
    var a = moment.values
    for i in 0..<n { a[i * n + i] += damping }
    // One column of right sides a row of W; H is symmetric.
    var right = [Double](repeating: 0, count: n * rows)
    for row in 0..<rows {
      for j in 0..<n {
        for i in 0..<n {
          right[j * rows + row] += Double(weight.values[row * n + i]) * (cross[i, j] - moment[i, j])
        }
      }
    }
    for pivot in 0..<n {
      let scale = 1 / a[pivot * n + pivot]
      for j in 0..<n { a[pivot * n + j] *= scale }
      for row in 0..<rows { right[pivot * rows + row] *= scale }
      for i in 0..<n where i != pivot {
        let factor = a[i * n + pivot]
        for j in 0..<n { a[i * n + j] -= factor * a[pivot * n + j] }
        for row in 0..<rows { right[i * rows + row] -= factor * right[pivot * rows + row] }
      }
    }
    return (0..<rows * n).map { Double(weight.values[$0]) + right[$0 % n * rows + $0 / n] }
  }

  /// At any size of inputs: only quotients of moments count.
  @Test(arguments: [1.0, 1e-12, 1e15], [false, true])
  func targetSolvesTheNormalEquations(_ size: Double, _ actOrder: Bool) throws {
    var stream = RandomStream(test: "target")
    let weight = stream.matrix(rows: 70, columns: 96, deviation: 0.05)
    let inputs = Inputs(size: 96, samples: 300)
    var moment = inputs.moment, cross = inputs.cross
    for i in moment.values.indices {
      moment.values[i] *= size
      cross.values[i] *= size
    }
    let method = GPTQ(damping: 0.02, actOrder: actOrder)
    let feedback = try method.feedback(
      of: moment, encoding: try #require(GroupIntegers.named("int4-g32")), method: .qronos)
    let mean = moment.diagonal.reduce(0, +) / 96
    let expected = Self.target(weight, moment, cross, damping: 0.02 * mean)
    let found = Qronos.target(of: weight, moment, cross, feedback)
    let largest = zip(expected, weight.values).reduce(0) { max($0, abs($1.0 - Double($1.1))) }
    #expect(largest > 0.01)
    let worst = zip(expected, found.values).reduce(0) { max($0, abs($1.0 - Double($1.1))) }
    #expect(worst < 1e-4 * largest)
  }

  static let encodings = ["int4-g32", "int3-g64", "int2-g16", "int4-channel-sym", "Q4_K", "IQ2_XS"]

  /// The codes are GPTQ's of the target, and the original outputs are met better than by GPTQ of the weight.
  @Test(arguments: encodings) func outputsAreNearer(_ name: String) throws {
    var stream = RandomStream(test: "outputs")
    let weight = stream.matrix(rows: 40, columns: 256, deviation: 0.05)
    let inputs = Inputs(size: 256, samples: 1000)
    let encoding = try #require(EncodingRegistry.encoding(named: name))
    let plain = try GPTQ().quantize(weight, statistics: inputs.statistics, encoding: encoding)
    let result = try Qronos().quantize(weight, statistics: inputs.statistics, encoding: encoding)
    #expect(result.method == .qronos && result.fallbacks == 0 && result.isOutputError)
    #expect(inputs.error(weight, result.encoded) < 0.8 * inputs.error(weight, plain.encoded))
  }

  /// As long as nothing before the layer has changed, the method is GPTQ.
  @Test(arguments: encodings) func withoutDriftItIsGPTQ(_ name: String) throws {
    var stream = RandomStream(test: "no drift")
    let weight = stream.matrix(rows: 9, columns: 256, deviation: 0.05)
    let moment = Inputs(size: 256, samples: 500).moment
    let encoding = try #require(EncodingRegistry.encoding(named: name))
    let plain = try GPTQ().quantize(weight, moment: moment, encoding: encoding)
    let result = try Qronos().quantize(
      weight, statistics: .asymmetric(moment: moment, cross: moment), encoding: encoding)
    for (a, b) in zip(plain.encoded.parts, result.encoded.parts) {
      #expect(
        a.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
          == b.withBytes { $0.withUnsafeBytes { [UInt8]($0) } })
    }
  }

  /// Inputs that are never seen by now, whatever they were: finite codes.
  @Test func deadInputs() throws {
    var stream = RandomStream(test: "dead")
    let weight = stream.matrix(rows: 5, columns: 64, deviation: 0.05)
    let inputs = Inputs(size: 64, samples: 200)
    var moment = inputs.moment, cross = inputs.cross
    for j in 0..<64 {
      moment.values[7 * 64 + j] = 0
      moment.values[j * 64 + 7] = 0
      cross.values[j * 64 + 7] = 0
    }
    let encoding = try #require(GroupIntegers.named("int4-g32"))
    let result = try Qronos().quantize(
      weight, statistics: .asymmetric(moment: moment, cross: cross), encoding: encoding)
    #expect(result.deadInputs == 1)
    #expect(result.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
  }

  @Test func needsBothModels() throws {
    let weight = Matrix(rows: 1, columns: 2, values: [1, 2])
    let moment = DoubleMatrix(size: 2, values: [1, 0, 0, 1])
    let encoding = try #require(GroupIntegers.named("int4-g32"))
    #expect(throws: QuantizationError.needsStatistics(method: "qronos")) {
      try Qronos().quantize(weight, moment: moment, encoding: encoding)
    }
    let bad = DoubleMatrix(size: 2, values: [.nan, 0, 0, 1])
    #expect(throws: QuantizationError.badStatistics) {
      try Qronos().quantize(
        weight, statistics: .asymmetric(moment: moment, cross: bad), encoding: encoding)
    }
  }
}

import Encodings
import Glibc
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

@Suite struct SmoothQuantTests {
  /// s_j = max|x_j|^α / max|W_j|^(1−α) over all layers that read the input.
  @Test(arguments: [0, 0.5, 0.85, 1]) func factorsFollowTheFormula(_ exponent: Double) {
    var stream = RandomStream(test: "smoothing")
    let weights = [stream.matrix(rows: 5, columns: 24), stream.matrix(rows: 3, columns: 24)]
    let largest = (0..<24).map { _ in Float(abs(stream.normal())) * 10 }
    let factors = Smoothing.factors(
      for: weights, largest: largest, exponent: exponent, sources: nil)
    for column in 0..<24 {
      let weight =
        weights.map { matrix in
          (0..<matrix.rows).map { abs(matrix.values[$0 * 24 + column]) }.max() ?? 0
        }.max() ?? 0
      let expected = pow(Double(largest[column]), exponent) / pow(Double(weight), 1 - exponent)
      #expect(abs(Double(factors[column]) / expected - 1) < 1e-5)
    }
    // α = 1 brings every input to one range; α = 0 does so with the weights.
    if exponent == 1 {
      #expect(zip(largest, factors).allSatisfy { abs($0 / $1 - 1) < 1e-5 })
    }
  }

  @Test func silentChannelsStayAndSharedOnesAreEqual() {
    var stream = RandomStream(test: "silent")
    var largest = (0..<8).map { _ in Float(abs(stream.normal())) + 0.1 }
    largest[2] = 0
    largest[6] = 0
    let factors = Smoothing.factors(
      for: [stream.matrix(rows: 4, columns: 8)], largest: largest, exponent: 0.5,
      sources: [0, 1, 2, 3, 0, 1, 2, 3])
    #expect(factors[2] == 1 && factors[6] == 1)
    for channel in 0..<4 { #expect(factors[channel] == factors[channel + 4]) }
  }

  /// The product in integers is near the one in floats once an outlying channel is smoothed, and not before.
  @Test func anOutlyingChannelIsSmoothed() throws {
    var stream = RandomStream(test: "outlier")
    let weight = stream.matrix(rows: 16, columns: 64, deviation: 0.05)
    var x = stream.matrix(rows: 40, columns: 64)
    for row in 0..<40 { x.values[row * 64 + 5] *= 200 }
    let largest = (0..<64).map { column in
      (0..<40).map { abs(x.values[$0 * 64 + column]) }.max() ?? 0
    }
    func error(_ factors: [Float]) throws -> Double {
      var scaled = weight, smooth = x
      for i in scaled.values.indices { scaled.values[i] *= factors[i % 64] }
      for i in smooth.values.indices { smooth.values[i] /= factors[i % 64] }
      let matrix = try SmoothQuant().quantize(scaled, moment: nil, encoding: W8A8()).encoded.matrix
      let exact = FloatMatrix(Tensor(.float32, shape: [16, 64], copying: weight.values))
      let found = matrix.apply(to: smooth).values, expected = exact.apply(to: x).values
      return zip(found, expected).reduce(0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    }
    let plain = try error([Float](repeating: 1, count: 64))
    let smoothed = try error(
      Smoothing.factors(for: [weight], largest: largest, exponent: 0.5, sources: nil))
    #expect(smoothed < 0.2 * plain, "\(smoothed) of \(plain)")
  }
}

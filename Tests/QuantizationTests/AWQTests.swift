import Encodings
import Glibc
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

/// The search for factors and for clipped ranges, against definitions in Double.
@Suite struct AWQTests {
  private struct Sample {
    let weights: [Matrix]
    var moment: DoubleMatrix

    /// Some channels with large activations.
    init(_ name: String, columns: Int = 64) {
      var stream = RandomStream(test: name)
      weights = [
        stream.matrix(rows: 12, columns: columns, deviation: 0.05),
        stream.matrix(rows: 7, columns: columns, deviation: 0.05),
      ]
      moment = correlatedMoment(columns)
      for row in 0..<columns {
        for column in 0..<columns {
          moment[row, column] *= (row % 9 == 0 ? 6 : 1) * (column % 9 == 0 ? 6 : 1)
        }
      }
    }
  }

  /// tr(D H Dᵀ) with D = Q(W diag s) diag(1/s) − W, term by term.
  private static func error(
    _ weight: Matrix, _ moment: DoubleMatrix, exponent: Double, encoding: any WeightEncoding
  ) throws -> Double {
    let sizes = moment.diagonal.map { $0.squareRoot() }
    let powers = sizes.map { Double(Float(pow($0, exponent))) }
    let middle = (powers.reduce(0, max) * powers.reduce(.infinity, min)).squareRoot()
    let factors = powers.map { Float($0 / middle) }
    var scaled = weight
    for i in scaled.values.indices { scaled.values[i] *= factors[i % weight.columns] }
    let squares = zip(moment.diagonal, factors).map { $0 / Double($1) / Double($1) }
    let rounded = try RTN().quantize(scaled, statistics: .diagonal(squares), encoding: encoding)
      .encoded.matrix.decoded()
    var sum = 0.0
    for row in 0..<weight.rows {
      let difference = (0..<weight.columns).map { column in
        let index = row * weight.columns + column
        return Double(rounded.values[index]) / Double(factors[column])
          - Double(weight.values[index])
      }
      for i in difference.indices {
        for j in difference.indices { sum += difference[i] * moment[i, j] * difference[j] }
      }
    }
    return sum
  }

  @Test(arguments: ["int3-g16", "int4-channel-sym", "nf4-g32"])
  func theExponentHasTheLeastError(_ name: String) throws {
    let sample = Sample("awq"), encoding = try #require(EncodingRegistry.encoding(named: name))
    let choice = try ActivationScaling(search: .mse).choose(
      for: sample.weights.map { ($0, encoding) }, moment: sample.moment, sources: nil)
    #expect(choice.errors.count == 20)
    for (step, found) in choice.errors.enumerated() {
      let expected = try sample.weights.reduce(0) {
        try $0 + Self.error($1, sample.moment, exponent: Double(step) / 20, encoding: encoding)
      }
      #expect(abs(found - expected) < 2e-2 * expected, "\(step): \(found), \(expected)")
    }
    let least = try #require(choice.errors.min())
    #expect(choice.errors[Int((choice.exponent * 20).rounded())] == least)
    // Large channels are there to be helped.
    #expect(choice.exponent > 0 && least < 0.9 * choice.errors[0])
  }

  @Test func channelsOfOneRowShareAFactor() throws {
    let sample = Sample("shared")
    let rows = (0..<64).map { $0 / 16 % 2 * 16 + $0 % 16 }
    let choice = try ActivationScaling(search: .minmax).choose(
      for: [
        (sample.weights[0], GroupIntegers(bits: 3, grouping: .columns(16), isSymmetric: false))
      ],
      moment: sample.moment, sources: rows)
    for i in 0..<64 {
      for j in 0..<64 where rows[i] == rows[j] { #expect(choice.factors[i] == choice.factors[j]) }
    }
  }

  /// Inputs that calibration never saw leave everything as it is.
  @Test func withoutActivationsNothingIsScaled() throws {
    let sample = Sample("dead")
    let choice = try ActivationScaling(search: .mse).choose(
      for: [(sample.weights[0], GroupIntegers(bits: 4, grouping: .channel, isSymmetric: false))],
      moment: DoubleMatrix(size: 64), sources: nil)
    #expect(choice.factors.allSatisfy { $0 == 1 } && choice.exponent == 0)
  }

  /// No group of any row has a larger error of its part of the output than with the unclipped grid.
  @Test(arguments: ["int3-g16", "int2-g32", "nf4-g32", "int4-channel-sym"])
  func clippingNeverCostsAGroup(_ name: String) throws {
    let sample = Sample("clip"), encoding = try #require(EncodingRegistry.encoding(named: name))
    let weight = sample.weights[0]
    let size = name.hasSuffix("sym") ? 64 : try #require(Int(name.split(separator: "g")[1]))
    func errors(_ quantizer: any WeightQuantizer) throws -> [Double] {
      let decoded = try quantizer.quantize(
        weight, statistics: .moment(sample.moment), encoding: encoding
      ).encoded.matrix.decoded()
      var sums: [Double] = []
      for row in 0..<weight.rows {
        for start in stride(from: 0, to: 64, by: size) {
          var sum = 0.0
          for i in start..<start + size {
            for j in start..<start + size {
              let a = Double(decoded.values[row * 64 + i]) - Double(weight.values[row * 64 + i])
              let b = Double(decoded.values[row * 64 + j]) - Double(weight.values[row * 64 + j])
              sum += a * sample.moment[i, j] * b
            }
          }
          sums.append(sum)
        }
      }
      return sums
    }
    let plain = try errors(RTN(search: .mse)), full = try errors(RTN(search: .minmax))
    let clipped = try errors(AWQ())
    for (index, error) in clipped.enumerated() {
      #expect(error <= plain[index] * 1.0001 + 1e-12 && error <= full[index] * 1.0001 + 1e-12)
    }
    #expect(clipped.reduce(0, +) < 0.99 * plain.reduce(0, +))
  }
}

import Foundation
import TestSupport
import Tensors
import Testing

@testable import Quantization

@Suite struct RateAllocationTests {
  private static func curves(_ count: Int, choices: Int, seed: String) -> [SensitivityCurve] {
    var stream = RandomStream(test: seed)
    return (0..<count).map { _ in
      let scale = exp(2 * stream.normal())
      return SensitivityCurve(
        weights: 100,
        points: (0..<choices).map { choice in
          SensitivityCurve.Point(
            bytes: 40 * (choice + 1) + stream.integer(below: 30),
            drift: scale * exp2(-2 * Double(choice) + 0.7 * stream.normal()))
        })
    }
  }

  /// Every combination, one after the other.
  private static func enumerate(
    _ curves: [SensitivityCurve], _ body: (_ bytes: Int, _ drift: Double) -> Void
  ) {
    func go(_ depth: Int, _ bytes: Int, _ drift: Double) {
      guard depth < curves.count else { return body(bytes, drift) }
      for point in curves[depth].points {
        go(depth + 1, bytes + point.bytes, drift + point.drift)
      }
    }
    go(0, 0, 0)
  }

  @Test(arguments: 0..<20) func isTheBestOfAllThatFit(_ seed: Int) throws {
    let curves = Self.curves(6, choices: 4, seed: "allocation \(seed)")
    for budget in [300, 420, 517, 600, 700, 803, 2000] {
      var least = Double.infinity
      Self.enumerate(curves) { bytes, drift in if bytes <= budget { least = min(least, drift) } }
      let choice = RateAllocation.choose(curves, bytes: budget)
      guard least < .infinity else {
        #expect(choice == nil)
        continue
      }
      let total = RateAllocation.total(curves, try #require(choice))
      #expect(total.bytes <= budget)
      #expect(abs(total.drift - least) < 1e-12 * least, "\(total.drift) \(least)")
    }
  }

  @Test(arguments: 0..<10) func isTheSmallestOfAllThatDriftLittle(_ seed: Int) throws {
    let curves = Self.curves(5, choices: 4, seed: "drift \(seed)")
    for limit in [0.05, 0.5, 2, 10, 100.0] {
      var least = Int.max
      Self.enumerate(curves) { bytes, drift in if drift <= limit { least = min(least, bytes) } }
      let choice = RateAllocation.choose(curves, drift: limit)
      guard least < .max else {
        #expect(choice == nil)
        continue
      }
      let total = RateAllocation.total(curves, try #require(choice))
      #expect(total.drift <= limit)
      #expect(total.bytes == least)
    }
  }

  /// As many tensors as a model of some size has: exact still, and at once.
  @Test func manyTensors() throws {
    let curves = Self.curves(300, choices: 5, seed: "many")
    let start = ContinuousClock.now
    let choice = try #require(RateAllocation.choose(curves, bytes: 40_000))
    let total = RateAllocation.total(curves, choice)
    #expect(total.bytes <= 40_000 && total.bytes > 39_990)
    #expect(ContinuousClock.now - start < .seconds(20))
  }

  /// D = a 4^-r: the best rates differ by half the logarithm of a / weights, and the saving is equal.
  @Test func realRates() {
    let sizes = [100, 100, 400, 50], factors = [1.0, 16, 3, 0.2]
    let curves = zip(sizes, factors).map { weights, factor in
      RateCurve(
        weights: weights, points: [1.0, 3, 5].map { ($0, factor * exp2(-2 * $0)) })
    }
    let rates = RateAllocation.rates(curves, bits: 3 * 650, in: 0.5...8)
    #expect(abs(zip(sizes, rates).reduce(0) { $0 + Double($1.0) * $1.1 } - 1950) < 1e-6)
    for index in 1..<4 {
      let expected =
        log2(factors[index] / Double(sizes[index]) / (factors[0] / Double(sizes[0]))) / 2
      #expect(abs(rates[index] - rates[0] - expected) < 1e-6)
    }
    let drift = zip(curves, rates).reduce(0) { $0 + $1.0.drift($1.1) }
    let back = RateAllocation.rates(curves, drift: drift, in: 0.5...8)
    for (first, second) in zip(rates, back) { #expect(abs(first - second) < 1e-6) }
  }
}

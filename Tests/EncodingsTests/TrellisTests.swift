import Encodings
import Foundation
import TestSupport
import Tensors
import Testing

@Suite struct TrellisTests {
  /// The least squared error of any path from state 0, in Double: all choices of parities, each with its nearest code.
  private static func least(_ values: ArraySlice<Double>, state: Int = 0) -> Double {
    guard let value = values.first else { return 0 }
    let odd = state & 2 == 2 ? 1.0 : 0.0
    return [0, 1].map { parity in
      // k of this parity whose code 2k − odd is nearest.
      let k = 2 * (((value + odd) / 2 - Double(parity)) / 2).rounded() + Double(parity)
      let error = value - (2 * k - odd)
      let next = state >> 1 + 4 * ((parity + state & 1 + state >> 2) % 2)
      return error * error + least(values.dropFirst(), state: next)
    }.min() ?? 0
  }

  private static func round(
    _ values: [Float], step: Float, divisor: Float
  ) -> (codes: [Int32], errors: [Float]) {
    var codes = [Int32](repeating: 0, count: values.count)
    var errors = [Float](repeating: 0, count: values.count)
    var codeSpan = codes.mutableSpan, errorSpan = errors.mutableSpan
    Trellis.round(
      values.span, step: step, divisor: divisor, codes: &codeSpan, errors: &errorSpan)
    return (codes, errors)
  }

  /// Whether codes are a path.
  private static func isPath(_ codes: [Int32]) -> Bool {
    var state = 0
    for code in codes {
      guard Int(code & 1) == Trellis.quantizer(state) else { return false }
      state = Trellis.next(state, k: (Int(code) + Int(code & 1)) / 2)
    }
    return true
  }

  @Test(arguments: [0, 1, 2, 3, 9, 14])
  func noPathIsNearer(_ count: Int) {
    var stream = RandomStream(test: "paths")
    for _ in 0..<20 {
      let step: Float = 0.25
      let values = (0..<count).map { _ in Float(stream.normal()) }
      let (codes, errors) = Self.round(values, step: step, divisor: 2)
      #expect(Self.isPath(codes))
      var sum = 0.0
      for i in 0..<count {
        let error = Double(values[i]) - Double(codes[i]) * Double(step)
        #expect(abs(Double(errors[i]) - 2 * error) < 1e-6)
        sum += error * error / Double(step * step)
      }
      let least = Self.least(values.map { Double($0) / Double(step) }[...])
      #expect(abs(sum - least) < 1e-4)
    }
  }

  /// Fine steps: less error than a uniform quantizer of the same rate, whose step is twice as wide, by 1.1 dB, less 0.06
  /// since every segment begins with one quantizer alone.
  @Test func gainAtHighRate() {
    var stream = RandomStream(test: "gain")
    var sum = 0.0
    let rounds = 400
    for _ in 0..<rounds {
      let values = (0..<Trellis.segment).map { _ in Float(stream.normal()) }
      let (codes, errors) = Self.round(values, step: 0.01, divisor: 100)
      #expect(Self.isPath(codes))
      sum += errors.reduce(0.0) { $0 + Double($1) * Double($1) }
    }
    let error = sum / Double(rounds * Trellis.segment)
    let gain = 10 * log10(4.0 / 12 / error)
    print("gain", gain)
    #expect((1.02...1.06).contains(gain))
  }

  /// A survivor of the slow recursion: its sum, and what its later rows aim at.
  private struct Survivor {
    var sum: Double
    var aim: [Double]
  }

  /// The least sum that per-survivor processing finds, in Double.
  private static func leastPassing(
    _ values: [Double], _ steps: [Double], _ shares: [Double]
  ) -> Double {
    let n = values.count
    var survivors = [0: Survivor(sum: 0, aim: values)]
    for i in 0..<n {
      var next: [Int: Survivor] = [:]
      for (state, survivor) in survivors {
        let odd = state & 2 == 2 ? 1.0 : 0.0, value = survivor.aim[i] / steps[i]
        for parity in 0...1 {
          let k = 2 * (((value + odd) / 2 - Double(parity)) / 2).rounded() + Double(parity)
          let error = value - (2 * k - odd)
          var own = survivor
          own.sum += error * error
          for r in i + 1..<max(n, i + 1) { own.aim[r] -= error * steps[i] * shares[i * n + r] }
          let place = Trellis.next(state, k: parity)
          if own.sum < next[place]?.sum ?? .infinity { next[place] = own }
        }
      }
      survivors = next
    }
    return survivors.values.map(\.sum).min() ?? 0
  }

  @Test(arguments: [0, 1, 2, 40, 128], [0, 0.3])
  func passesErrorsOn(_ n: Int, _ size: Double) {
    var stream = RandomStream(test: "passing")
    for _ in 0..<5 {
      let values = (0..<n).map { _ in Float(stream.normal()) }
      let steps = (0..<n).map { _ in Float(0.2 + 0.1 * stream.normal().magnitude) }
      let shares = (0..<n * n).map { $0 / n < $0 % n ? Float(size * stream.normal()) : 9 }
      var codes = [Int32](repeating: 0, count: n)
      var errors = [Float](repeating: 0, count: n)
      var codeSpan = codes.mutableSpan, errorSpan = errors.mutableSpan
      Trellis.roundPassing(
        values.span, steps: steps.span, shares: shares.span, divisor: 3, codes: &codeSpan,
        errors: &errorSpan)
      #expect(Self.isPath(codes))
      var aim = values.map { Double($0) }
      var sum = 0.0
      for i in 0..<n {
        let point = Double(codes[i]) * Double(steps[i])
        #expect(abs(Double(errors[i]) - 3 * (Double(values[i]) - point)) < 1e-4)
        let error = aim[i] - point
        sum += error * error / Double(steps[i] * steps[i])
        for r in i + 1..<max(n, i + 1) { aim[r] -= error * Double(shares[i * n + r]) }
      }
      let least = Self.leastPassing(
        values.map { Double($0) }, steps.map { Double($0) }, shares.map { Double($0) })
      // Ties of float and Double may end on other paths.
      #expect(abs(sum - least) < 1e-4 + 0.01 * least, "\(sum) \(least)")
    }
  }

  /// Values out of range end on the largest codes, on a path still.
  @Test func largeValues() {
    let (codes, errors) = Self.round(
      [1e30, -1e30, 0, .greatestFiniteMagnitude, 3], step: 1, divisor: 1)
    #expect(Self.isPath(codes))
    #expect(codes.allSatisfy { abs($0) <= 1 << 22 })
    #expect(errors.allSatisfy { $0.isFinite })
  }
}

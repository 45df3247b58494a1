import Foundation
import HDF5Files
import Tensors
import TestSupport
import Testing

@testable import Distillation

/// Losses against their definitions in Double, gradients against central differences.
@Suite struct DivergenceTests {
  static let kinds: [Divergence] = [.forward, .reverse, .jensenShannon(beta: 0.3)]

  static func softmax(_ logits: [Double], _ temperature: Double) -> [Double] {
    let top = (logits.max() ?? 0) / temperature
    let powers = logits.map { exp($0 / temperature - top) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
  }

  /// The divergence of two distributions, as it is written.
  static func definition(_ kind: Divergence, _ p: [Double], _ q: [Double]) -> Double {
    func kl(_ a: [Double], _ b: [Double]) -> Double {
      zip(a, b).reduce(0) { $0 + ($1.0 > 0 ? $1.0 * log($1.0 / $1.1) : 0) }
    }
    switch kind {
    case .forward: return kl(p, q)
    case .reverse: return kl(q, p)
    case .jensenShannon(let beta):
      let m = zip(p, q).map { beta * $0 + (1 - beta) * $1 }
      return beta * kl(p, m) + (1 - beta) * kl(q, m)
    }
  }

  /// Slopes by central differences.
  static func slopes(_ x: [Double], _ f: ([Double]) -> Double) -> [Double] {
    x.indices.map { i in
      var up = x, down = x
      up[i] += 1e-4
      down[i] -= 1e-4
      return (f(up) - f(down)) / 2e-4
    }
  }

  static func logits(_ name: String, _ count: Int) -> [Double] {
    var stream = RandomStream(test: name)
    return stream.floats(count, deviation: 2).map(Double.init)
  }

  @Test(arguments: kinds, [1.0, 2.5]) func fullDistribution(_ kind: Divergence, _ t: Double) {
    let student = Self.logits("student", 37), teacher = Self.logits("teacher", 37)
    func loss(_ z: [Double]) -> Double {
      t * t * Self.definition(kind, Self.softmax(teacher, t), Self.softmax(z, t))
    }
    var own = student.map(Float.init), other = teacher.map(Float.init)
    var span = own.mutableSpan, teacherSpan = other.mutableSpan
    let value = kind.apply(to: &span, teacher: &teacherSpan, temperature: t)
    #expect(abs(value - loss(student)) < 1e-5)
    for (found, expected) in zip(own, Self.slopes(student, loss)) {
      #expect(abs(Double(found) - expected) < 2e-5)
    }
  }

  @Test(arguments: kinds, [1.0, 2.0]) func eventsWithTheRest(_ kind: Divergence, _ t: Double) {
    let student = Self.logits("student of events", 29)
    let teacher = Self.softmax(Self.logits("teacher of events", 29), 1)
    let listed: [Int32] = [3, 7, 20, 28]
    let probabilities = listed.map { Float(teacher[Int($0)]) }
    let rest = 1 - probabilities.reduce(0.0) { $0 + Double($1) }
    func loss(_ z: [Double]) -> Double {
      let q = Self.softmax(z, t)
      let events = listed.map { q[Int($0)] }
      return t * t
        * Self.definition(
          kind, probabilities.map(Double.init) + [rest], events + [1 - events.reduce(0, +)])
    }
    var own = student.map(Float.init)
    var span = own.mutableSpan
    let value = kind.apply(
      to: &span,
      events: TeacherEvents(tokens: listed[...], probabilities: probabilities, other: rest),
      temperature: t)
    #expect(abs(value - loss(student)) < 1e-5)
    for (found, expected) in zip(own, Self.slopes(student, loss)) {
      #expect(abs(Double(found) - expected) < 2e-5)
    }
  }

  /// The gradient of samples is softmax less counts; its mean over draws is that of the full distribution, and the
  /// value's mean is the divergence, since the entropy is known.
  @Test func samplesAreUnbiased() {
    let student = Self.logits("sampled student", 40)
    let teacher = Self.softmax(Self.logits("sampled teacher", 40), 1)
    let entropy = -teacher.reduce(0) { $0 + $1 * log($1) }
    let exact = Self.definition(.forward, teacher, Self.softmax(student, 1))
    var stream = RandomStream(test: "draws")
    var gradient = [Double](repeating: 0, count: 40), value = 0.0
    let rounds = 2000, draws = 50
    for _ in 0..<rounds {
      var counts: [Int32: Float] = [:]
      for _ in 0..<draws {
        var rest = stream.unit(), id = 0
        while id < 39, rest >= teacher[id] {
          rest -= teacher[id]
          id += 1
        }
        counts[Int32(id), default: 0] += 1
      }
      let ids = counts.keys.sorted()
      let log = TeacherLogWindow(
        tokens: [0, 5], trueLogProbabilities: [0], logSumExps: [0], entropies: [Float(entropy)],
        sampleOffsets: [0, ids.count], sampleTokens: ids, sampleCounts: ids.map { counts[$0] ?? 0 })
      var own = student.map(Float.init)
      var span = own.mutableSpan
      value += Divergence.forward.apply(
        to: &span, targets: .samples, log: log, row: 0, label: 5, temperature: 1)
      for i in own.indices { gradient[i] += Double(own[i]) }
    }
    let q = Self.softmax(student, 1)
    for i in teacher.indices {
      // Five deviations of the mean of draws.
      let deviation = (teacher[i] / Double(rounds * draws)).squareRoot()
      #expect(abs(gradient[i] / Double(rounds) - (q[i] - teacher[i])) < 5 * deviation + 1e-6)
    }
    #expect(abs(value / Double(rounds) - exact) < 0.02)
  }

  /// A top k that is renormalized points somewhere else; with the rest as an event it keeps the mass.
  @Test func topK() {
    let student = Self.logits("top student", 20)
    let teacher = Self.softmax(Self.logits("top teacher", 20), 1)
    let order = teacher.indices.sorted { teacher[$0] > teacher[$1] }.prefix(4).map { Int32($0) }
    let log = TeacherLogWindow(
      tokens: [0, 5], trueLogProbabilities: [0], logSumExps: [0], entropies: [0],
      topTokens: order, topLogProbabilities: order.map { Float(Foundation.log(teacher[Int($0)])) })
    var sums: [Double] = []
    for targets in [DistillationTargets.topK, .topKRenormalized] {
      var own = student.map(Float.init)
      var span = own.mutableSpan
      _ = Divergence.forward.apply(
        to: &span, targets: targets, log: log, row: 0, label: 5, temperature: 1)
      sums.append(order.reduce(0.0) { $0 + Double(own[Int($1)]) })
    }
    let q = Self.softmax(student, 1)
    let mass = order.reduce(0.0) { $0 + q[Int($1)] }
    let known = order.reduce(0.0) { $0 + teacher[Int($1)] }
    #expect(abs(sums[0] - (mass - known)) < 1e-5)
    #expect(abs(sums[1] - (mass - 1)) < 1e-5)
  }
}

import Foundation
import Tensors
import TestSupport
import Testing

@testable import HDF5Files
@testable import Pipeline

@Suite struct TeacherRowTests {
  private static func logits(_ name: String, _ count: Int) -> [Float] {
    var random = RandomStream(test: name)
    return random.floats(count, deviation: 2)
  }

  /// −Σ p ln p and the rest from plain definitions in Double; the list by sorting.
  @Test func definitions() {
    var logits = Self.logits("teacher row", 200)
    logits[17] = logits[90]
    let row = TeacherRow(
      logits: logits.span, target: 5, topCount: 12, sampleCount: 0, temperature: 1,
      random: RandomStream(test: ""))
    let weights = logits.map { exp(Double($0)) }
    let sum = weights.reduce(0, +)
    let logs = weights.map { log($0 / sum) }
    #expect(abs(Double(row.logSumExp) - log(sum)) < 1e-5)
    #expect(abs(Double(row.entropy) + logs.reduce(0) { $0 + exp($1) * $1 }) < 1e-5)
    #expect(abs(Double(row.trueLogProbability) - logs[5]) < 1e-5)
    let order = logits.indices.sorted { (logits[$1], $0) < (logits[$0], $1) }
    #expect(row.topTokens == order.prefix(12).map { Int32($0) })
    for (own, id) in zip(row.topLogProbabilities, order) {
      #expect(abs(Double(own) - logs[id]) < 1e-5)
    }
    #expect(row.samples.isEmpty)
  }

  /// How often ids are drawn follows the probabilities at the temperature: χ² over 40 ids.
  @Test(arguments: [1.0, 0.5, 3.0]) func samples(_ temperature: Double) {
    let logits = Self.logits("samples", 40)
    let weights = logits.map { exp(Double($0) / temperature) }
    let sum = weights.reduce(0, +)
    var counts = [Double](repeating: 0, count: 40)
    for round in 0..<400 {
      let row = TeacherRow(
        logits: logits.span, target: 0, topCount: 3, sampleCount: 50, temperature: temperature,
        random: RandomStream(seed: 1, name: "round \(round)"))
      #expect(row.samples.reduce(0) { $0 + $1.count } == 50)
      #expect(row.samples.map(\.id) == row.samples.map(\.id).sorted())
      for sample in row.samples { counts[Int(sample.id)] += Double(sample.count) }
    }
    var statistic = 0.0
    for (count, weight) in zip(counts, weights) {
      let expected = 20_000 * weight / sum
      statistic += (count - expected) * (count - expected) / expected
    }
    // 39 degrees of freedom: beyond 80 once in ten thousand.
    #expect(statistic < 80, "\(statistic)")
  }

  @Test func notFinite() {
    for bad in [Float.nan, .infinity] {
      var logits = Self.logits("bad", 30)
      logits[3] = bad
      let row = TeacherRow(
        logits: logits.span, target: 0, topCount: 3, sampleCount: 5, temperature: 1,
        random: RandomStream(test: ""))
      #expect(!row.isFinite)
    }
  }
}

/// A log's figures against those of whole distributions.
@Suite struct TeacherLogDriftTests {
  @Test func estimateAndBound() {
    var random = RandomStream(test: "drift of a log")
    let manifest = TeacherLogManifest(
      source: .model, teacher: "", teacherHash: "", tokenizerHash: "", vocabulary: 60,
      textHash: "", context: 2, topCount: 4, sampleCount: 50)
    var estimate = 0.0, truth = 0.0, variance = 0.0
    let rounds = 3000
    for round in 0..<rounds {
      let teacher = random.floats(60, deviation: 2)
      let student = zip(teacher, random.floats(60, deviation: 0.3)).map(+)
      let row = TeacherRow(
        logits: teacher.span, target: 7, topCount: 4, sampleCount: 50, temperature: 1,
        random: RandomStream(seed: 2, name: "\(round)"))
      let window = TeacherLogWindow([3, 7], [row], hidden: [:])
      let score = TeacherLogEvaluation.score(student.span, window, row: 0, manifest: manifest)
      let p = Self.probabilities(teacher), q = Self.probabilities(student)
      let divergence = zip(p, q).reduce(0.0) { $0 + $1.0 * log($1.0 / $1.1) }
      estimate += score.divergence
      truth += divergence
      variance += (score.divergence - divergence) * (score.divergence - divergence)
      let list = row.topTokens.map { Int($0) }
      let m = 1 - list.reduce(0.0) { $0 + p[$1] }, n = 1 - list.reduce(0.0) { $0 + q[$1] }
      let coarse = list.reduce(0.0) { $0 + p[$1] * log(p[$1] / q[$1]) } + m * log(m / n)
      #expect(abs(score.bound - coarse) < 1e-5)
      #expect(score.bound <= divergence + 1e-6)
      #expect(abs(score.modelLoss + log(q[7])) < 1e-5)
      #expect(
        score.agrees
          == (p.firstIndex(of: p.max() ?? 0) == q.firstIndex(of: q.max() ?? 0)))
    }
    // Four standard errors; and no bias that another control variate would leave.
    let error = (variance / Double(rounds)).squareRoot() / Double(rounds).squareRoot()
    #expect(abs(estimate - truth) / Double(rounds) < 4 * error, "\(estimate) \(truth)")
    #expect(error < 0.01)
  }

  private static func probabilities(_ logits: [Float]) -> [Double] {
    let weights = logits.map { exp(Double($0)) }
    return weights.map { $0 / weights.reduce(0, +) }
  }
}

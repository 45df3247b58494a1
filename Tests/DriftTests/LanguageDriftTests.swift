import Foundation
import Networks
import Tensors
import TestSupport
import Testing

@testable import Calibration
@testable import Drift

@Suite struct LanguageDriftTests {
  static func windows(_ count: Int, context: Int) -> TextWindows {
    var stream = RandomStream(test: "windows")
    let windows = (0..<count).map { _ in
      (0..<context).map { _ in Int32(stream.integer(below: 80)) }
    }
    return TextWindows(windows: windows, context: context, tokensInText: count * context)
  }

  /// log softmax of one row, in Double.
  private static func logSoftmax(_ row: [Float]) -> [Double] {
    let largest = row.map { Double($0) }.max() ?? 0
    let logSum = log(row.reduce(0) { $0 + exp(Double($1) - largest) }) + largest
    return row.map { Double($0) - logSum }
  }

  /// What each scored token gives, window by window, from the definition.
  private struct Naive {
    var losses: [Double] = [], referenceLosses: [Double] = [], divergences: [Double] = []
    var agreements = 0

    init(
      _ windows: TextWindows, positions: Range<Int>, _ model: any LanguageModel,
      _ reference: any LanguageModel
    ) {
      for window in windows.windows {
        let batch = TokenBatch([window])
        let own = model.logits(model.hidden(batch))
        let other = reference.logits(reference.hidden(batch))
        for position in positions {
          let q = LanguageDriftTests.logSoftmax(own.row(position))
          let p = LanguageDriftTests.logSoftmax(other.row(position))
          let target = Int(window[position + 1])
          losses.append(-q[target])
          referenceLosses.append(-p[target])
          divergences.append(zip(p, q).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) })
          if p.firstIndex(of: p.max() ?? 0) == q.firstIndex(of: q.max() ?? 0) { agreements += 1 }
        }
      }
    }
  }

  /// Float logits of other batches differ in their last bits, and a figure with them.
  private static func isNear(_ a: Double?, _ b: Double) -> Bool {
    a.map { abs($0 - b) <= 1e-4 * abs(b) + 1e-7 } ?? false
  }

  @Test(arguments: [Scoring.all, .half], [(1, 3), (5, 16), (9, 33), (150, 24)])
  func figuresAgainstTheDefinition(_ scoring: Scoring, _ size: (Int, Int)) throws {
    let (count, context) = size
    let windows = Self.windows(count, context: context)
    let reference = try ChangedCheckpoint("llama").languageModel()
    let model = try ChangedCheckpoint.noisy("llama", 0.05).languageModel()
    let found = try LanguageEvaluator(windows: windows, scoring: scoring)
      .drift(of: model, from: reference)
    // Predictions at positions context/2 … context−2 for `half`.
    let positions = scoring == .all ? 0..<context - 1 : context / 2..<context - 1
    let naive = Naive(windows, positions: positions, model, reference)
    let tokens = Double(naive.losses.count)
    #expect(found.tokens == naive.losses.count)
    let loss = naive.losses.reduce(0, +) / tokens
    let referenceLoss = naive.referenceLosses.reduce(0, +) / tokens
    #expect(Self.isNear(found.perplexity, exp(loss)))
    #expect(Self.isNear(found.perplexityRatio, exp(loss - referenceLoss)))
    let divergence = try #require(found.divergence)
    let sorted = naive.divergences.sorted()
    #expect(Self.isNear(divergence.mean, naive.divergences.reduce(0, +) / tokens))
    #expect(Self.isNear(divergence.max, sorted.last ?? 0))
    for (value, share) in [
      (divergence.median, 0.5), (divergence.p99, 0.99), (divergence.p999, 0.999),
    ] {
      #expect(Self.isNear(value, percentile(share, ofSorted: sorted)))
    }
    let top1 = try #require(found.top1)
    #expect(abs(top1 - Double(naive.agreements) / tokens) < 1e-12)
    #expect(divergence.mean > 0.001 && divergence.interval.contains(divergence.mean))
    let ratio = try #require(found.perplexityRatio)
    #expect(found.top1Interval?.contains(top1) == true)
    #expect(found.perplexityRatioInterval?.contains(ratio) == true)
    // Alone, a model has the same perplexity and nothing else.
    let alone = try LanguageEvaluator(windows: windows, scoring: scoring).drift(
      of: model, from: nil)
    #expect(Self.isNear(alone.perplexity, found.perplexity))
    #expect(alone.divergence == nil && alone.perplexityRatio == nil && alone.top1 == nil)
    #expect(alone.tokens == found.tokens)
  }

  @Test func aModelDoesNotDriftFromItself() throws {
    let windows = Self.windows(4, context: 20)
    let model = try ChangedCheckpoint("llama").languageModel()
    let found = try LanguageEvaluator(windows: windows, scoring: .all).drift(of: model, from: model)
    #expect(found.divergence?.max == 0 && found.divergence?.mean == 0)
    #expect(found.top1 == 1 && found.top1Interval == 1...1)
    #expect(found.perplexityRatio == 1 && found.perplexityRatioInterval == 1...1)
  }

  /// 100 windows of 24 fill more than one batch: the figures of the whole are the means of the windows'.
  @Test func theOrderOfWindowsChangesNothing() throws {
    let windows = Self.windows(100, context: 24)
    let model = try ChangedCheckpoint.noisy("llama", 0.05).languageModel()
    let reference = try ChangedCheckpoint("llama").languageModel()
    let reversed = TextWindows(
      windows: windows.windows.reversed(), context: 24, tokensInText: 2400)
    let a = try LanguageEvaluator(windows: windows, scoring: .all).drift(of: model, from: reference)
    let b = try LanguageEvaluator(windows: reversed, scoring: .all).drift(
      of: model, from: reference)
    #expect(Self.isNear(a.perplexity, b.perplexity))
    #expect(Self.isNear(a.divergence?.mean, b.divergence?.mean ?? 0))
    #expect(a.top1.map { abs($0 - (b.top1 ?? 0)) < 1e-12 } ?? false)
    // And the same call gives the same numbers, whatever the number of threads.
    let again = try withThreads(1) {
      try LanguageEvaluator(windows: windows, scoring: .all).drift(of: model, from: reference)
    }
    #expect(again == a)
  }

  @Test(arguments: ["lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"])
  func weightsThatAreNoNumbers(_ damaged: String) throws {
    let windows = Self.windows(3, context: 10)
    let good = try ChangedCheckpoint("llama").languageModel()
    let bad = try ChangedCheckpoint("llama") { name, values in
      if name == damaged { for index in values.indices { values[index] = .nan } }
    }.languageModel()
    let evaluator = LanguageEvaluator(windows: windows, scoring: .all)
    #expect(throws: DriftError.notFinite(window: 0)) { try evaluator.drift(of: bad, from: good) }
    #expect(throws: DriftError.notFinite(window: 0)) { try evaluator.drift(of: good, from: bad) }
    #expect(throws: DriftError.notFinite(window: 0)) { try evaluator.drift(of: bad, from: nil) }
  }

  /// A logit of −∞ has no probability: its token's loss may be finite, the divergence is not.
  @Test func infiniteLogits() throws {
    let windows = Self.windows(3, context: 10)
    let good = try ChangedCheckpoint("llama").languageModel()
    let bad = try ChangedCheckpoint("llama") { name, values in
      guard name == "lm_head.weight" else { return }
      for index in 0..<32 { values[index] = -.infinity * (values[index] < 0 ? 1 : -1) }
    }.languageModel()
    #expect(throws: DriftError.notFinite(window: 0)) {
      try LanguageEvaluator(windows: windows, scoring: .all).drift(of: bad, from: good)
    }
    #expect(throws: DriftError.notFinite(window: 0)) {
      try LanguageEvaluator(windows: windows, scoring: .all).drift(of: bad, from: bad)
    }
  }

  @Test func progressEndsAtOne() throws {
    let model = try ChangedCheckpoint("llama").languageModel()
    var shares: [Double] = []
    _ = try LanguageEvaluator(windows: Self.windows(200, context: 24), scoring: .all)
      .drift(of: model, from: nil) { shares.append($0) }
    #expect(shares.last == 1 && shares == shares.sorted() && shares.count > 1)
  }
}

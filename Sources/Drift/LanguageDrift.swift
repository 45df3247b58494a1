// Perplexity and KL divergence of a language model on windows of text, by the protocol of docs/metrics.md.

public import Calibration
public import JSONDocuments
public import Networks
import Foundation
import Tensors

/// Which predictions of a window count.
public enum Scoring: String, Sendable, CaseIterable {
  /// Every token of a window but the first.
  case all
  /// Predictions made at positions context/2 … context−2, as llama-perplexity does.
  case half

  /// The rows of a window whose predictions count; row i predicts token i + 1.
  func rows(context: Int) -> Range<Int> {
    switch self {
    case .all: 0..<context - 1
    case .half: context / 2..<context - 1
    }
  }
}

/// What a language model does on a text, alone or against a reference.
public struct LanguageDrift: Sendable, Equatable {
  /// KL divergence of the reference from the model, in nats.
  public struct Divergence: Sendable, Equatable {
    /// Over all scored tokens.
    public let mean, median, p99, p999, max: Double
    /// Of the mean, by bootstrap over windows.
    public let interval: ClosedRange<Double>
  }

  /// Scored tokens.
  public let tokens: Int
  /// exp(mean negative log-likelihood).
  public let perplexity: Double
  /// Over the reference's perplexity; nil without a reference.
  public let perplexityRatio: Double?
  /// Of the ratio.
  public let perplexityRatioInterval: ClosedRange<Double>?
  /// Nil without a reference.
  public let divergence: Divergence?
  /// Share of scored tokens where both argmaxes agree; nil without a reference.
  public let top1: Double?
  /// Of the share.
  public let top1Interval: ClosedRange<Double>?

  /// Every figure at zero, with a reference: the shape of a result before it is measured.
  public static let zero = LanguageDrift(
    tokens: 0, perplexity: 0, perplexityRatio: 0, perplexityRatioInterval: 0...0,
    divergence: .init(mean: 0, median: 0, p99: 0, p999: 0, max: 0, interval: 0...0), top1: 0,
    top1Interval: 0...0)

  /// The keys of `condense eval --json`.
  public var json: JSONValue {
    var object = JSONObject()
    object["tokens"] = .integer(tokens)
    object["perplexity"] = .number(perplexity)
    if let perplexityRatio { object["perplexity_ratio"] = .number(perplexityRatio) }
    if let interval = perplexityRatioInterval {
      object["perplexity_ratio_ci95"] = JSONValue(interval)
    }
    if let kl = divergence {
      object["kl"] = kl.json
    }
    if let top1 { object["top1"] = .number(top1) }
    if let top1Interval { object["top1_ci95"] = JSONValue(top1Interval) }
    return .object(object)
  }

  /// Reads what `json` gives; nil when it is something else.
  public init?(json: JSONValue) {
    guard let tokens = json["tokens"]?.integer, let perplexity = json["perplexity"]?.number else {
      return nil
    }
    self.tokens = tokens
    self.perplexity = perplexity
    perplexityRatio = json["perplexity_ratio"]?.number
    perplexityRatioInterval = ClosedRange(json: json["perplexity_ratio_ci95"])
    top1 = json["top1"]?.number
    top1Interval = ClosedRange(json: json["top1_ci95"])
    guard let kl = json["kl"] else {
      divergence = nil
      return
    }
    guard let divergence = Divergence(json: kl) else { return nil }
    self.divergence = divergence
  }

  init(
    tokens: Int, perplexity: Double, perplexityRatio: Double?,
    perplexityRatioInterval: ClosedRange<Double>?, divergence: Divergence?, top1: Double?,
    top1Interval: ClosedRange<Double>?
  ) {
    self.tokens = tokens
    self.perplexity = perplexity
    self.perplexityRatio = perplexityRatio
    self.perplexityRatioInterval = perplexityRatioInterval
    self.divergence = divergence
    self.top1 = top1
    self.top1Interval = top1Interval
  }
}

extension LanguageDrift.Divergence {
  /// The keys of `kl`.
  var json: JSONValue {
    [
      "mean": .number(mean), "median": .number(median), "p99": .number(p99),
      "p999": .number(p999), "max": .number(max), "ci95": JSONValue(interval),
    ]
  }

  /// Reads what `json` gives; nil when it is something else.
  init?(json: JSONValue) {
    guard let mean = json["mean"]?.number, let median = json["median"]?.number,
      let p99 = json["p99"]?.number, let p999 = json["p999"]?.number,
      let max = json["max"]?.number, let interval = ClosedRange(json: json["ci95"])
    else { return nil }
    self.init(mean: mean, median: median, p99: p99, p999: p999, max: max, interval: interval)
  }
}

/// Runs language models over windows and compares them token by token.
public struct LanguageEvaluator {
  private let windows: TextWindows
  private let scoring: Scoring

  /// An evaluator of windows, at least two tokens each.
  public init(windows: TextWindows, scoring: Scoring) {
    precondition(windows.context >= 2)
    self.windows = windows
    self.scoring = scoring
  }

  /// Rows of logits that exist at a time, so that a large vocabulary does not fill the memory.
  private static let logitBudget = 1 << 24
  private static let batchTokens = 2048

  /// What one scored token gives.
  private struct Score {
    var modelLoss = 0.0, referenceLoss = 0.0, divergence = 0.0
    var agrees = false
  }

  /// The drift of `model` from `reference`; without a reference, its perplexity alone.
  ///
  /// - Parameter progress: Called with the share that is done.
  /// - Throws: `DriftError` when a model gives logits that are no numbers.
  public func drift(
    of model: any LanguageModel, from reference: (any LanguageModel)?,
    progress: (Double) -> Void = { _ in }
  ) throws(DriftError) -> LanguageDrift {
    var scores: [[Score]] = []
    let rows = scoring.rows(context: windows.context)
    let perBatch = max(1, Self.batchTokens / windows.context)
    for start in stride(from: 0, to: windows.windows.count, by: perBatch) {
      let sequences = Array(windows.windows[start..<min(start + perBatch, windows.windows.count)])
      let batch = TokenBatch(sequences)
      let wanted = batch.sequences.flatMap { sequence in
        rows.map { sequence.lowerBound + $0 }
      }
      let hidden = Self.select(wanted, model.hidden(batch))
      let referenceHidden = reference.map { Self.select(wanted, $0.hidden(batch)) }
      var scored: [Score] = []
      let step = max(1, min(wanted.count, Self.logitBudget / model.vocabularySize))
      for first in stride(from: 0, to: wanted.count, by: step) {
        let part = first..<min(first + step, wanted.count)
        let logits = model.logits(hidden.rows(part))
        let others = reference.flatMap { model in
          referenceHidden.map { model.logits($0.rows(part)) }
        }
        let targets = wanted[part].map { Int(batch.tokens[$0 + 1]) }
        scored += ParallelLoop.map(part.count) { row in
          Self.score(row, logits, others, target: targets[row])
        }
      }
      let areNumbers = scored.allSatisfy {
        $0.modelLoss.isFinite && $0.referenceLoss.isFinite && $0.divergence.isFinite
      }
      guard areNumbers else { throw .notFinite(window: start) }
      for index in sequences.indices {
        scores.append(Array(scored[index * rows.count..<(index + 1) * rows.count]))
      }
      progress(Double(start + sequences.count) / Double(windows.windows.count))
    }
    return summarize(scores, hasReference: reference != nil)
  }

  private static func select(_ rows: [Int], _ matrix: Matrix) -> Matrix {
    var values: [Float] = []
    values.reserveCapacity(rows.count * matrix.columns)
    for row in rows { values += matrix.values[matrix.range(ofRow: row)] }
    return Matrix(rows: rows.count, columns: matrix.columns, values: values)
  }

  private static func score(
    _ row: Int, _ logits: Matrix, _ reference: Matrix?, target: Int
  ) -> Score {
    let range = logits.range(ofRow: row)
    let own = logits.values.span.extracting(range)
    var score = Score()
    guard let reference else {
      score.modelLoss = logSumExp(own) - Double(own[target])
      return score
    }
    let other = reference.values.span.extracting(range)
    let comparison = LogitComparison(reference: other, model: own)
    score.modelLoss = comparison.modelLogSum - Double(own[target])
    score.referenceLoss = comparison.referenceLogSum - Double(other[target])
    score.divergence = comparison.divergence
    score.agrees = comparison.referenceArgmax == comparison.modelArgmax
    return score
  }

  private func summarize(_ scores: [[Score]], hasReference: Bool) -> LanguageDrift {
    let perWindow = Double(scores.first?.count ?? 1), windowCount = Double(scores.count)
    func means(_ value: (Score) -> Double) -> [Double] {
      scores.map { $0.reduce(0.0) { $0 + value($1) } / perWindow }
    }
    let losses = means(\.modelLoss)
    let loss = losses.reduce(0, +) / windowCount
    let tokens = scores.reduce(0) { $0 + $1.count }
    guard hasReference else {
      return LanguageDrift(
        tokens: tokens, perplexity: exp(loss), perplexityRatio: nil, perplexityRatioInterval: nil,
        divergence: nil, top1: nil, top1Interval: nil)
    }
    let bootstrap = Bootstrap(windows: scores.count)
    let excess = zip(losses, means(\.referenceLoss)).map { $0 - $1 }
    let divergences = scores.flatMap { $0.map(\.divergence) }.sorted()
    let divergenceMeans = means(\.divergence), agreement = means { $0.agrees ? 1 : 0 }
    let ratio = bootstrap.intervalOfMean(excess)
    return LanguageDrift(
      tokens: tokens, perplexity: exp(loss),
      perplexityRatio: exp(excess.reduce(0, +) / windowCount),
      perplexityRatioInterval: exp(ratio.lowerBound)...exp(ratio.upperBound),
      divergence: .init(
        mean: divergenceMeans.reduce(0, +) / windowCount,
        median: percentile(0.5, ofSorted: divergences),
        p99: percentile(0.99, ofSorted: divergences),
        p999: percentile(0.999, ofSorted: divergences), max: divergences.last ?? 0,
        interval: bootstrap.intervalOfMean(divergenceMeans)),
      top1: agreement.reduce(0, +) / windowCount,
      top1Interval: bootstrap.intervalOfMean(agreement))
  }
}

/// Why a drift could not be measured.
public enum DriftError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A model gave infinite or NaN logits in the windows from this one on.
  case notFinite(window: Int)
  /// A network gave infinite or NaN numbers for a sample.
  case sampleNotFinite(sample: Int)
  /// The models cannot be compared.
  case differentModels(String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .notFinite(let window):
      "a model gives logits or embeddings that are infinite or NaN (from window or sentence \(window))"
    case .sampleNotFinite(let sample):
      "a model gives numbers that are infinite or NaN for sample \(sample)"
    case .differentModels(let what): "the models cannot be compared: \(what)"
    }
  }
}

extension JSONValue {
  /// An interval as a list of its ends.
  init(_ interval: ClosedRange<Double>) {
    self = [.number(interval.lowerBound), .number(interval.upperBound)]
  }
}

extension ClosedRange where Bound == Double {
  /// The interval of a list of two numbers in order; nil for anything else.
  init?(json: JSONValue?) {
    guard let ends = json?.array?.compactMap(\.number), ends.count == 2, ends[0] <= ends[1] else {
      return nil
    }
    self = ends[0]...ends[1]
  }
}

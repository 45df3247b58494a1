// Word errors of a speech recognizer, and KL divergence and agreement of its next tokens along the reference's transcripts.

public import JSONDocuments
public import Networks
public import Tensors

/// What a speech recognizer does with recordings, alone or against a reference.
public struct SpeechDrift: Sendable, Equatable {
  /// A rate of wrong words.
  public struct WordErrorRate: Sendable, Equatable {
    /// Edits over words, of all recordings together.
    public let rate: Double
    /// By bootstrap over recordings.
    public let interval: ClosedRange<Double>
  }

  /// Recordings that were run.
  public let recordings: Int
  /// Predictions that were compared; nil without a reference.
  public let tokens: Int?
  /// Against the given transcripts; nil without them.
  public let wordErrorRate: WordErrorRate?
  /// The reference's; nil without a reference or transcripts.
  public let referenceWordErrorRate: Double?
  /// The interval of the rise against the reference, in pairs; nil as above.
  public let increaseInterval: ClosedRange<Double>?
  /// Against the reference's transcripts; nil without a reference.
  public let toReference: WordErrorRate?
  /// KL(reference ‖ model) of the next tokens, in nats; nil without a reference.
  public let divergence: LanguageDrift.Divergence?
  /// Share of predictions where both find the same token likeliest; nil without a reference.
  public let top1: Double?
  /// Of the share, by bootstrap over recordings.
  public let top1Interval: ClosedRange<Double>?

  /// How much larger the rate of wrong words is than the reference's; nil without a reference or transcripts.
  public var increase: Double? {
    referenceWordErrorRate.flatMap { reference in wordErrorRate.map { $0.rate - reference } }
  }

  /// Every figure at zero, with a reference: the shape of a result before it is measured.
  public static func zero(hasTranscripts: Bool) -> SpeechDrift {
    let none = WordErrorRate(rate: 0, interval: 0...0)
    return SpeechDrift(
      recordings: 0, tokens: 0, wordErrorRate: hasTranscripts ? none : nil,
      referenceWordErrorRate: hasTranscripts ? 0 : nil,
      increaseInterval: hasTranscripts ? 0...0 : nil, toReference: none,
      divergence: .init(mean: 0, median: 0, p99: 0, p999: 0, max: 0, interval: 0...0), top1: 0,
      top1Interval: 0...0)
  }

  /// The keys of `condense eval --json`.
  public var json: JSONValue {
    var object = JSONObject()
    object["recordings"] = .integer(recordings)
    if let tokens { object["tokens"] = .integer(tokens) }
    if let wordErrorRate {
      object["wer"] = .number(wordErrorRate.rate)
      object["wer_ci95"] = JSONValue(wordErrorRate.interval)
    }
    if let referenceWordErrorRate { object["reference_wer"] = .number(referenceWordErrorRate) }
    if let increaseInterval { object["wer_increase_ci95"] = JSONValue(increaseInterval) }
    if let toReference {
      object["wer_to_reference"] = .number(toReference.rate)
      object["wer_to_reference_ci95"] = JSONValue(toReference.interval)
    }
    if let divergence { object["kl"] = divergence.json }
    if let top1 { object["top1"] = .number(top1) }
    if let top1Interval { object["top1_ci95"] = JSONValue(top1Interval) }
    return .object(object)
  }

  /// Reads what `json` gives; nil when it is something else.
  public init?(json: JSONValue) {
    guard let recordings = json["recordings"]?.integer else { return nil }
    func rate(_ key: String) -> WordErrorRate? {
      guard let rate = json[key]?.number, let interval = ClosedRange(json: json[key + "_ci95"])
      else { return nil }
      return WordErrorRate(rate: rate, interval: interval)
    }
    self.init(
      recordings: recordings, tokens: json["tokens"]?.integer, wordErrorRate: rate("wer"),
      referenceWordErrorRate: json["reference_wer"]?.number,
      increaseInterval: ClosedRange(json: json["wer_increase_ci95"]),
      toReference: rate("wer_to_reference"),
      divergence: json["kl"].flatMap(LanguageDrift.Divergence.init(json:)),
      top1: json["top1"]?.number, top1Interval: ClosedRange(json: json["top1_ci95"]))
  }

  init(
    recordings: Int, tokens: Int?, wordErrorRate: WordErrorRate?, referenceWordErrorRate: Double?,
    increaseInterval: ClosedRange<Double>?, toReference: WordErrorRate?,
    divergence: LanguageDrift.Divergence?, top1: Double?, top1Interval: ClosedRange<Double>?
  ) {
    self.recordings = recordings
    self.tokens = tokens
    self.wordErrorRate = wordErrorRate
    self.referenceWordErrorRate = referenceWordErrorRate
    self.increaseInterval = increaseInterval
    self.toReference = toReference
    self.divergence = divergence
    self.top1 = top1
    self.top1Interval = top1Interval
  }
}

/// What was measured of one recording.
public struct RecordingScore: Sendable {
  /// One predicted token.
  public struct Token: Sendable {
    /// KL(reference ‖ model), in nats.
    let divergence: Double
    /// Whether both find the same token likeliest.
    let agrees: Bool
  }

  /// Of the model's transcript, against the given one; nil where there is none.
  public var toTranscript: WordErrors?
  /// Of the reference's transcript, against the given one.
  public var referenceToTranscript: WordErrors?
  /// Of the model's transcript, against the reference's.
  public var toReference: WordErrors?
  /// The predictions along the reference's transcript; nil without a reference.
  public var tokens: [Token]?

  /// Nothing measured yet.
  public init() {}

  /// Rows of logits that exist at a time.
  private static let logitBudget = 1 << 24

  /// Compares what two models predict along a transcript.
  ///
  /// - Parameters:
  ///   - features: Of one window, `[frames, bands]`.
  ///   - sequence: What the decoder reads.
  ///   - rows: The rows of it whose predictions count.
  /// - Throws: `DriftError` when a model gives logits that are infinite or NaN.
  public static func compare(
    _ model: any SpeechRecognizer, with reference: any SpeechRecognizer, features: Matrix,
    sequence: [Int32], rows: Range<Int>
  ) throws(DriftError) -> [Token] {
    func hidden(_ model: any SpeechRecognizer) -> Matrix {
      model.hidden(model.batch(features, tokens: [sequence])).rows(rows)
    }
    let own = hidden(model), others = hidden(reference)
    let step = max(1, logitBudget / model.vocabularySize)
    var tokens: [Token] = []
    for first in stride(from: 0, to: own.rows, by: step) {
      let part = first..<min(first + step, own.rows)
      let logits = model.logits(own.rows(part)), otherLogits = reference.logits(others.rows(part))
      tokens += ParallelLoop.map(part.count) { row in
        let range = logits.range(ofRow: row)
        let comparison = LogitComparison(
          reference: otherLogits.values.span.extracting(range),
          model: logits.values.span.extracting(range))
        return Token(
          divergence: comparison.divergence,
          agrees: comparison.referenceArgmax == comparison.modelArgmax)
      }
    }
    guard tokens.allSatisfy({ $0.divergence.isFinite }) else { throw .notFinite(window: 0) }
    return tokens
  }
}

extension SpeechDrift {
  /// The figures of recordings, at least one; all were measured alike.
  public init(_ scores: [RecordingScore]) {
    let bootstrap = Bootstrap(windows: scores.count)
    func rate(_ errors: [WordErrors]?) -> WordErrorRate? {
      guard let errors else { return nil }
      return WordErrorRate(
        rate: Self.sum(errors, Array(errors.indices)).rate,
        interval: bootstrap.interval { Self.sum(errors, $0).rate })
    }
    let own = Self.all(scores.map(\.toTranscript))
    let others = Self.all(scores.map(\.referenceToTranscript))
    let tokens = Self.all(scores.map(\.tokens))
    var divergence: LanguageDrift.Divergence?, top1: Double?, top1Interval: ClosedRange<Double>?
    if let tokens {
      let sorted = tokens.flatMap { $0.map(\.divergence) }.sorted()
      let divergences = tokens.map { $0.reduce(0.0) { $0 + $1.divergence } }
      let agreements = tokens.map { Double($0.count { $0.agrees }) }
      func mean(_ sums: [Double], _ picked: [Int]) -> Double {
        picked.reduce(0.0) { $0 + sums[$1] }
          / Double(max(1, picked.reduce(0) { $0 + tokens[$1].count }))
      }
      let whole = Array(tokens.indices)
      divergence = .init(
        mean: mean(divergences, whole), median: percentile(0.5, ofSorted: sorted),
        p99: percentile(0.99, ofSorted: sorted), p999: percentile(0.999, ofSorted: sorted),
        max: sorted.last ?? 0, interval: bootstrap.interval { mean(divergences, $0) })
      top1 = mean(agreements, whole)
      top1Interval = bootstrap.interval { mean(agreements, $0) }
    }
    self.init(
      recordings: scores.count, tokens: tokens.map { $0.reduce(0) { $0 + $1.count } },
      wordErrorRate: rate(own), referenceWordErrorRate: rate(others)?.rate,
      increaseInterval: own.flatMap { own in
        others.map { others in
          bootstrap.interval { Self.sum(own, $0).rate - Self.sum(others, $0).rate }
        }
      }, toReference: rate(Self.all(scores.map(\.toReference))), divergence: divergence,
      top1: top1, top1Interval: top1Interval)
  }

  /// The values, where no recording lacks its own.
  private static func all<Value>(_ values: [Value?]) -> [Value]? {
    let there = values.compactMap { $0 }
    return there.count == values.count ? there : nil
  }

  /// Of some recordings together.
  private static func sum(_ errors: [WordErrors], _ picked: [Int]) -> WordErrors {
    picked.reduce(into: WordErrors(edits: 0, words: 0)) { sum, index in
      sum.edits += errors[index].edits
      sum.words += errors[index].words
    }
  }
}

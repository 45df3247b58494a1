// The drift of each stage's result: against the recipe's model, against what the stage read, and by slice.

import Checkpoints
import CondenseInference
import Drift
import JSONDocuments
import Networks

/// Measures the results of a run's stages on its validation text; figures are kept in the cache.
final class RunMeasurements {
  /// What was measured of one result.
  struct Result {
    var reference: MeasuredDrift?
    var input: MeasuredDrift?
    var slices: [(name: String, drift: MeasuredDrift)] = []

    /// What a bundle says of its drift; null when nothing was measured.
    var json: JSONValue {
      guard let reference else { return .null }
      return [
        "schema": 1, "reference": reference.json, "input": input?.json ?? .null,
        "slices": .object(
          JSONObject(slices.map { .init(key: $0.name, value: $0.drift.json) })),
      ]
    }
  }

  private let original: any Checkpoint
  private let originalHash: String
  private let progress: (String, Double) -> Void
  private var whole: Measurement?
  private var slices: [(name: String, measurement: Measurement)] = []
  private var reference: Model?

  /// Tokenizes the validation text. Without one, or for an unknown architecture, nothing is measured.
  init(
    recipe: Recipe, original: any Checkpoint, originalHash: String, cache: StageCache,
    progress: @escaping (String, Double) -> Void
  ) throws {
    self.original = original
    self.originalHash = originalHash
    self.progress = progress
    guard let validation = recipe.validation, FamilyRegistry.family(of: original) != nil else {
      return
    }
    let model = try Model(original)
    reference = model
    whole = try Measurement(
      validation.text(of: validation.text.map(\.value)), tokenizedFor: model, reference: model)
    for slice in validation.slices {
      var text = validation.text(of: slice.text.map(\.value))
      text.pairs = nil
      slices.append(
        (
          slice.name.value,
          try Measurement(text, tokenizedFor: model, reference: model)
        ))
    }
  }

  /// The rank correlation of the recipe's model, for the gate on its fall.
  private(set) var originalSpearman: Double?

  /// Measures a result.
  func measure(
    _ result: any Checkpoint, hash: String, input: any Checkpoint, inputHash: String
  ) throws -> Result {
    guard let whole else { return Result() }
    let model = try Model(result)
    var measured = Result()
    let drift = try whole.drift(of: model) { self.progress("measure", $0) }
    measured.reference = drift
    if case .encoder(let encoder) = drift { originalSpearman = encoder.referenceSpearman }
    // The first stage reads the reference itself.
    measured.input =
      inputHash == originalHash
      ? drift : try whole.drift(of: model, from: try Model(input)) { self.progress("measure against input", $0) }
    for slice in slices {
      measured.slices.append(
        (slice.name, try slice.measurement.drift(of: model) { self.progress("measure \(slice.name)", $0) }))
    }
    return measured
  }
}

extension ValidationOptions {
  /// The protocol with some files of text.
  func text(of files: [String]) -> ValidationText {
    ValidationText(
      text: files, context: context, scoring: score == .all ? .all : .half, windows: windows,
      pairs: pairs?.value)
  }
}

extension MeasuredDrift {
  /// The row of the report; nil when there was nothing to compare with.
  var summary: DriftSummary? {
    switch self {
    case .language(let drift):
      guard let kl = drift.divergence, let ratio = drift.perplexityRatio, let top1 = drift.top1
      else { return nil }
      return .decoder(
        DecoderDrift(
          tokens: drift.tokens, perplexity: drift.perplexity, perplexityRatio: ratio,
          kl: DivergenceSummary(
            mean: kl.mean, median: kl.median, p99: kl.p99, p999: kl.p999, max: kl.max,
            ci95: Interval(kl.interval.lowerBound, kl.interval.upperBound)), top1: top1))
    case .encoder(let drift):
      guard let cosine = drift.cosine else { return nil }
      return .encoder(
        EncoderDrift(
          sentences: drift.sentences,
          cosine: CosineSummary(
            mean: cosine.mean, p01: cosine.p01, min: cosine.min,
            ci95: Interval(cosine.interval.lowerBound, cosine.interval.upperBound)),
          spearman: drift.spearman))
    }
  }
}

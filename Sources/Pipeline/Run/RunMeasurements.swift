// The drift of each stage's result: against the recipe's model, against what the stage read, and by slice.

public import Checkpoints
import CondenseInference
import Drift
import JSONDocuments
import LinearAlgebra
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
      guard reference != nil || !slices.isEmpty else { return .null }
      return [
        "schema": 1, "reference": reference?.json ?? .null, "input": input?.json ?? .null,
        "slices": .object(
          JSONObject(slices.map { .init(key: $0.name, value: $0.drift.json) })),
      ]
    }
  }

  /// One text and the key of what is measured on it.
  private struct Subject {
    let name: String
    /// Of a model that has several; nil for the whole.
    var tower: String?
    let measurement: Measurement
    let hash: String
  }

  private let cache: StageCache
  private let originalHash: String
  private let progress: (String, Double) -> Void
  private var whole: Subject?
  private var slices: [Subject] = []
  /// The rank correlation of the recipe's model, for the gate on its fall.
  private(set) var originalSpearman: Double?

  /// Tokenizes the validation text. Without one, or for an unknown architecture, nothing is measured.
  init(
    recipe: Recipe, original: any Checkpoint, originalHash: String, cache: StageCache,
    progress: @escaping (String, Double) -> Void
  ) throws {
    self.cache = cache
    self.originalHash = originalHash
    self.progress = progress
    guard FamilyRegistry.family(of: original) != nil else { return }
    func subject(_ name: String, _ text: ValidationText, tower: String? = nil) throws -> Subject {
      let model = try Model(Self.seen(original, as: tower))
      return Subject(
        name: name, tower: tower,
        measurement: try Measurement(text, tokenizedFor: model, reference: model),
        hash: try text.contentHash())
    }
    for tower in recipe.towers where !tower.options.validation.isEmpty {
      slices.append(
        try subject(
          tower.name.value, ValidationText(text: tower.options.validation.map(\.value)),
          tower: tower.name.value))
    }
    guard let validation = recipe.validation else { return }
    whole = try subject("", validation.text(of: validation.files))
    for slice in validation.slices {
      var text = validation.text(of: slice.text.map(\.value))
      (text.pairs, text.labels) = (nil, nil)
      slices.append(try subject(slice.name.value, text))
    }
  }

  /// Measures a result, or finds what was measured of the same bytes before.
  func measure(
    _ result: any Checkpoint, hash: String, input: any Checkpoint, inputHash: String
  ) throws -> Result {
    var measured = Result()
    if let whole {
      let drift = try drift(whole, of: result, hash: hash, from: nil)
      measured.reference = drift
      if case .encoder(let encoder) = drift { originalSpearman = encoder.referenceSpearman }
      // The first stage reads the reference itself.
      measured.input =
        inputHash == originalHash
        ? drift : try self.drift(whole, of: result, hash: hash, from: (input, inputHash))
    }
    for slice in slices {
      measured.slices.append(
        (slice.name, try self.drift(slice, of: result, hash: hash, from: nil)))
    }
    return measured
  }

  /// A checkpoint as one of its towers, or as it is.
  private static func seen(
    _ checkpoint: any Checkpoint, as tower: String?
  ) throws -> any Checkpoint {
    guard let tower else { return checkpoint }
    let whole = (checkpoint as? TowerCheckpoint)?.source ?? checkpoint
    return try TowerCheckpoint(whole, tower: tower)
  }

  /// The drift of one text; `reference` is the recipe's model when nil.
  private func drift(
    _ subject: Subject, of result: any Checkpoint, hash: String,
    from reference: (checkpoint: any Checkpoint, hash: String)?
  ) throws -> MeasuredDrift {
    var key = ContentHash()
    for part in [
      toolVersion, "drift", subject.hash, reference?.hash ?? originalHash, hash, BLAS.description,
    ] { key.update(part) }
    let digits = key.digits
    if let known = cache.figures(digits), let drift = MeasuredDrift(json: known) { return drift }
    let model = try Model(Self.seen(result, as: subject.tower))
    let task = subject.name.isEmpty ? "measure" : "measure \(subject.name)"
    let drift: MeasuredDrift
    if let reference {
      drift = try subject.measurement.drift(
        of: model, from: try Model(Self.seen(reference.checkpoint, as: subject.tower))
      ) {
        self.progress(task + " against input", $0)
      }
    } else {
      drift = try subject.measurement.drift(of: model) { self.progress(task, $0) }
    }
    try cache.store(drift.json, key: digits)
    return drift
  }
}

/// The drift of one stage alone, as `condense quantize --validation` measures it.
public struct StageMeasurement {
  private let measurement: Measurement
  private let tower: String?

  /// Reads the text; the stage's input is the reference.
  public init(_ text: ValidationText, reference: any Checkpoint) throws {
    let model = try Model(reference)
    tower = reference.tower
    measurement = try Measurement(text, tokenizedFor: model, reference: model)
  }

  /// Measures a checkpoint folder and writes its `drift.json`.
  public func writeDrift(
    of folder: String, progress: (Double) -> Void
  ) throws -> MeasuredDrift {
    let drift = try measurement.drift(
      of: try Model(try AnyCheckpoint.open(folder, tower: tower)), progress: progress)
    let result = RunMeasurements.Result(reference: drift, input: drift)
    try OutputFile.write(
      result.json.indentedText + "\n", to: FilePath.join(folder, "drift.json"))
    return drift
  }
}

extension ValidationOptions {
  /// The protocol with some files of text.
  func text(of files: [String]) -> ValidationText {
    ValidationText(
      text: files, context: context, scoring: score == .all ? .all : .half, windows: windows,
      pairs: pairs?.value, labels: labels?.value, transcripts: transcripts?.value,
      language: language?.value)
  }

  /// The files of the whole.
  var files: [String] { (text + images + audio).map(\.value) }
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
          neighbours: drift.neighbours.map {
            NeighbourSummary(
              count: $0.count, mean: $0.mean,
              ci95: Interval($0.interval.lowerBound, $0.interval.upperBound))
          },
          spearman: drift.spearman))
    case .samples(let drift):
      return drift.outputError == nil ? nil : .samples(drift)
    case .speech(let drift):
      return drift.toReference == nil ? nil : .speech(drift)
    }
  }
}

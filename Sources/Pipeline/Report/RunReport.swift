// What a run did and what it cost: the value behind drift.json, the Markdown summary and the page.

public import Distillation
public import Drift
public import JSONDocuments

/// One limit and what was measured.
public struct GateResult: Sendable, Equatable {
  /// The key of the limit in a recipe, such as `max-kl`.
  public var metric: String
  /// The slice it is for; `nil` for the whole validation text.
  public var slice: String?
  /// The limit.
  public var limit: Double
  /// What was measured.
  public var value: Double
  /// The 95 % interval of the value; `nil` for exact values such as counts.
  public var ci95: Interval?
  /// What came of it.
  public var verdict: Verdict

  /// A limit and what was measured.
  public init(
    metric: String, slice: String? = nil, limit: Double, value: Double, ci95: Interval? = nil,
    verdict: Verdict
  ) {
    self.metric = metric
    self.slice = slice
    self.limit = limit
    self.value = value
    self.ci95 = ci95
    self.verdict = verdict
  }
}

/// What was done to one tensor.
public struct LayerResult: Sendable, Equatable {
  /// The tensor's name.
  public var tensor: String
  /// How it is stored now.
  public var encoding: String
  /// The method that ran.
  public var method: String
  /// All stored bits over the number of weights.
  public var bitsPerWeight: Double
  /// ‖(W−Ŵ)X‖² / ‖WX‖²; `nil` where no layer inputs are known.
  public var relativeOutputError: Double?
  /// Wall time.
  public var seconds: Double
  /// How often something else was done than asked.
  public var fallbacks: Int
  /// Bits a weight above the rate–distortion limit; `nil` where it was not measured.
  public var bitsAboveLimit: Double?
  /// The drift of the model that this tensor's error is predicted to cause; `nil` without sensitivities.
  public var predictedDrift: Double?
  /// The share of zeros of a pruned tensor; `nil` for others.
  public var sparsity: Double?

  /// What was done to one tensor.
  public init(
    tensor: String, encoding: String, method: String, bitsPerWeight: Double,
    relativeOutputError: Double?, seconds: Double, fallbacks: Int = 0,
    bitsAboveLimit: Double? = nil, predictedDrift: Double? = nil, sparsity: Double? = nil
  ) {
    self.tensor = tensor
    self.encoding = encoding
    self.method = method
    self.bitsPerWeight = bitsPerWeight
    self.relativeOutputError = relativeOutputError
    self.seconds = seconds
    self.fallbacks = fallbacks
    self.bitsAboveLimit = bitsAboveLimit
    self.predictedDrift = predictedDrift
    self.sparsity = sparsity
  }
}

/// The drift on one slice of the validation text.
public struct SliceDrift: Sendable, Equatable {
  /// The slice's name.
  public var name: String
  /// The drift against the reference.
  public var drift: DriftSummary

  /// A slice and its drift.
  public init(name: String, drift: DriftSummary) {
    self.name = name
    self.drift = drift
  }
}

/// Calibration tokens, or samples: how many the recipe asked for and how many there were.
public struct CalibrationUse: Sendable, Equatable {
  /// Asked for.
  public var asked: Int
  /// Used.
  public var used: Int
  /// `tokens` or `samples`.
  public var unit: String

  /// Tokens, or samples, asked for and used.
  public init(asked: Int, used: Int, unit: String = "tokens") {
    self.asked = asked
    self.used = used
    self.unit = unit
  }
}

/// One stage of a run.
public struct StageReport: Sendable, Equatable {
  /// The stage's name in the recipe.
  public var name: String
  /// The kind of stage.
  public var kind: String
  /// The resolved options, an object.
  public var options: JSONValue
  /// SHA-256 of what the stage read.
  public var inputHash: String
  /// SHA-256 of what the stage wrote.
  public var outputHash: String
  /// The size of what the stage wrote.
  public var bytes: Int
  /// All stored bits over the number of weights.
  public var bitsPerWeight: Double
  /// Wall time, measuring included.
  public var seconds: Double
  /// Drift against the recipe's model; `nil` when nothing was measured.
  public var referenceDrift: DriftSummary?
  /// Drift against what the stage read.
  public var inputDrift: DriftSummary?
  /// Drift against the recipe's model by slice.
  public var slices: [SliceDrift] = []
  /// What came of each limit.
  public var gates: [GateResult] = []
  /// What was done to each tensor.
  public var layers: [LayerResult] = []
  /// Calibration tokens, for stages that use any.
  public var calibration: CalibrationUse?
  /// The loss curve of a stage that trains.
  public var curve: [TrainingPoint] = []

  /// A stage without drift, gates and layers, to fill in.
  public init(
    name: String, kind: String, options: JSONValue = [:], inputHash: String, outputHash: String,
    bytes: Int, bitsPerWeight: Double, seconds: Double
  ) {
    self.name = name
    self.kind = kind
    self.options = options
    self.inputHash = inputHash
    self.outputHash = outputHash
    self.bytes = bytes
    self.bitsPerWeight = bitsPerWeight
    self.seconds = seconds
  }

  /// The worst of the gates; `nil` without gates.
  public var verdict: Verdict? { Verdict.worst(of: gates.map(\.verdict)) }
}

/// A run.
public struct RunReport: Sendable, Equatable {
  /// The version of the JSON form.
  public static let schema = 1

  /// The version of the tool that ran.
  public var toolVersion: String
  /// The name of the model.
  public var model: String
  /// The model's architecture, as its configuration names it.
  public var architecture: String
  /// The size of the recipe's model.
  public var referenceBytes: Int
  /// The stages that ran, in order.
  public var stages: [StageReport]

  /// A run.
  public init(
    toolVersion: String, model: String, architecture: String, referenceBytes: Int,
    stages: [StageReport]
  ) {
    self.toolVersion = toolVersion
    self.model = model
    self.architecture = architecture
    self.referenceBytes = referenceBytes
    self.stages = stages
  }

  /// The worst of all gates; `nil` without gates.
  public var verdict: Verdict? { Verdict.worst(of: stages.compactMap(\.verdict)) }
}

extension Verdict {
  fileprivate static func worst(of verdicts: [Verdict]) -> Verdict? {
    if verdicts.contains(.failed) { return .failed }
    if verdicts.contains(.undecided) { return .undecided }
    return verdicts.isEmpty ? nil : .passed
  }
}

// drift.json: a run as one JSON document, schema 1.

import Distillation
import Drift
public import JSONDocuments

/// Why a JSON document is no report.
public struct RunReportError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Which member, such as `stages[0].drift.reference.kl`.
  public let path: String
  /// What is there.
  public let found: String
  /// What should be there.
  public let expected: String

  /// One line without a full stop.
  public var description: String { "\(path) is \(found), expected \(expected)" }
}

extension RunReport {
  /// Reads a report.
  ///
  /// - Throws: `RunReportError` that names the member. Members it does not know are left out.
  public init(json: JSONValue) throws(RunReportError) {
    let root = JSONMember(json, "the report")
    let version = try root["schema"].integer()
    guard version == Self.schema else {
      throw RunReportError(path: "schema", found: "\(version)", expected: "\(Self.schema)")
    }
    self.init(
      toolVersion: try root["tool_version"].string(), model: try root["model"].string(),
      architecture: try root["architecture"].string(),
      referenceBytes: try root["reference_bytes"].count(),
      stages: try root["stages"].map { (stage) throws(RunReportError) in
        try StageReport(json: stage)
      })
  }

  /// The report as JSON. Figures that are not finite become `null`.
  public var json: JSONValue {
    [
      "schema": .integer(Self.schema), "tool_version": .string(toolVersion),
      "model": .string(model), "architecture": .string(architecture),
      "reference_bytes": .integer(referenceBytes),
      "verdict": verdict.map { .string($0.rawValue) } ?? .null,
      "stages": .array(stages.map(\.json)),
    ]
  }
}

extension StageReport {
  fileprivate init(json: JSONMember) throws(RunReportError) {
    self.init(
      name: try json["name"].string(), kind: try json["kind"].string(),
      options: try json["options"].object(), inputHash: try json["input_sha256"].string(),
      outputHash: try json["output_sha256"].string(), bytes: try json["bytes"].count(),
      bitsPerWeight: try json["bits_per_weight"].number(), seconds: try json["seconds"].number())
    referenceDrift = try json["drift"]["reference"].ifPresent(DriftSummary.init)
    inputDrift = try json["drift"]["input"].ifPresent(DriftSummary.init)
    slices = try json["slices"].map { (slice) throws(RunReportError) in
      SliceDrift(name: try slice["name"].string(), drift: try DriftSummary(json: slice["drift"]))
    }
    gates = try json["gates"].map { (gate) throws(RunReportError) in try GateResult(json: gate) }
    layers = try json["layers"].map { (layer) throws(RunReportError) in
      try LayerResult(json: layer)
    }
    calibration = try json["calibration"].ifPresent { (use) throws(RunReportError) in
      CalibrationUse(
        asked: try use["asked"].count(), used: try use["used"].count(),
        unit: try use["unit"].ifPresent { (unit) throws(RunReportError) in try unit.string() }
          ?? "tokens")
    }
    curve =
      try json["curve"].ifPresent { (points) throws(RunReportError) in
        try points.map { (point) throws(RunReportError) in
          guard let own = point.value.flatMap(TrainingPoint.init(json:)) else {
            throw RunReportError(
              path: point.path, found: "no point of a curve", expected: "step, tokens, divergence…")
          }
          return own
        }
      } ?? []
  }

  fileprivate var json: JSONValue {
    guard !curve.isEmpty, case .object(var object) = members else { return members }
    object["curve"] = .array(curve.map(\.json))
    return .object(object)
  }

  private var members: JSONValue {
    [
      "name": .string(name), "kind": .string(kind), "options": options,
      "input_sha256": .string(inputHash), "output_sha256": .string(outputHash),
      "bytes": .integer(bytes), "bits_per_weight": .number(bitsPerWeight),
      "seconds": .number(seconds),
      "drift": ["reference": referenceDrift?.json ?? .null, "input": inputDrift?.json ?? .null],
      "slices": .array(slices.map { ["name": .string($0.name), "drift": $0.drift.json] }),
      "gates": .array(gates.map(\.json)), "layers": .array(layers.map(\.json)),
      "calibration": calibration.map {
        [
          "asked": .integer($0.asked), "used": .integer($0.used), "unit": .string($0.unit),
        ]
      } ?? .null,
    ]
  }
}

extension GateResult {
  fileprivate init(json: JSONMember) throws(RunReportError) {
    let words = Verdict.allCases.map(\.rawValue).joined(separator: ", ")
    let word = try json["verdict"].string()
    guard let verdict = Verdict(rawValue: word) else {
      throw RunReportError(path: json["verdict"].path, found: "'\(word)'", expected: words)
    }
    self.init(
      metric: try json["metric"].string(),
      slice: try json["slice"].ifPresent { (slice) throws(RunReportError) in try slice.string() },
      limit: try json["limit"].number(), value: try json["value"].number(),
      ci95: try json["ci95"].ifPresent(Interval.init), verdict: verdict)
  }

  fileprivate var json: JSONValue {
    [
      "metric": .string(metric), "slice": slice.map { .string($0) } ?? .null,
      "limit": .number(limit), "value": .number(value), "ci95": ci95?.json ?? .null,
      "verdict": .string(verdict.rawValue),
    ]
  }
}

extension LayerResult {
  fileprivate init(json: JSONMember) throws(RunReportError) {
    self.init(
      tensor: try json["tensor"].string(), encoding: try json["encoding"].string(),
      method: try json["method"].string(), bitsPerWeight: try json["bits_per_weight"].number(),
      relativeOutputError: try json["relative_output_error"].ifPresent {
        (error) throws(RunReportError) in try error.number()
      },
      seconds: try json["seconds"].number(), fallbacks: try json["fallbacks"].count(),
      bitsAboveLimit: try json["bits_above_limit"].ifPresent {
        (bits) throws(RunReportError) in try bits.number()
      },
      predictedDrift: try json["predicted_drift"].ifPresent {
        (drift) throws(RunReportError) in try drift.number()
      },
      sparsity: try json["sparsity"].ifPresent {
        (share) throws(RunReportError) in try share.number()
      })
  }

  fileprivate var json: JSONValue {
    var object: JSONValue = [
      "tensor": .string(tensor), "encoding": .string(encoding), "method": .string(method),
      "bits_per_weight": .number(bitsPerWeight),
      "relative_output_error": relativeOutputError.map { .number($0) } ?? .null,
      "seconds": .number(seconds), "fallbacks": .integer(fallbacks),
    ]
    guard case .object(var members) = object else { return object }
    if let bitsAboveLimit { members["bits_above_limit"] = .number(bitsAboveLimit) }
    if let predictedDrift { members["predicted_drift"] = .number(predictedDrift) }
    if let sparsity { members["sparsity"] = .number(sparsity) }
    object = .object(members)
    return object
  }
}

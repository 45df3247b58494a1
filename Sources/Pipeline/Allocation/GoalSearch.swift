// Meets a goal for the whole model: sensitivities, an allocation, a walk, and where the goal is a size of the file or a
// drift, the real figure, which corrects the next attempt.

import Bundles
import Calibration
import Checkpoints
import CondenseInference
import Drift
import Encodings
public import JSONDocuments
import LinearAlgebra
import Networks
import Quantization
import Tensors

/// How a goal for the whole model was met.
public struct AllocationOutcome: Sendable, Equatable {
  /// What the tensors were measured to cost.
  public let table: SensitivityTable
  /// The drift by the linear model, as it was calibrated by single tensors.
  public let predictedDrift: Double
  /// The drift of the result on the probe.
  public let measuredDrift: Double
  /// Walks over the model.
  public let attempts: Int

  /// For `--json`.
  public var json: JSONValue {
    [
      "predicted_drift": .number(predictedDrift), "measured_drift": .number(measuredDrift),
      "attempts": .integer(attempts), "probe_tokens": .integer(table.probeTokens),
      "probe_held_out": .bool(table.isHeldOut), "sensitivities": table.json,
    ]
  }
}

/// The attempts of a stage.
struct GoalSearch {
  let stage: QuantizeRun
  let assignment: EncodingAssignment
  let output: StageOutput
  let loaded: LoadedCalibration?
  let imatrix: ImportanceFile?
  let inputHash: String
  let calibration: JSONValue
  let hasDrift: Bool
  let progress: (String, Double) -> Void
  let finished: (LayerRecord, Double) -> Void

  /// What the stage writes.
  struct Result {
    let layers: [FinishedLayer]
    let assignment: EncodingAssignment
    let resumedLayers: Int
    let allocation: AllocationOutcome?
  }

  private var request: QuantizeRequest { stage.request }

  /// Tokens of the drift of single tensors: their relations matter, and there are many tensors.
  private static let sensitivityTokens = 2048
  /// Walks that a goal may take.
  private static let attempts = 5
  /// Room for the drift in the packed file's manifest.
  private static let driftBytes = 1024

  private func walk(
    _ assignment: EncodingAssignment, rates: RatePlan?, attempt: Int, network: (any Network)?,
    _ knowledge: ModelKnowledge?, _ sensitivities: SensitivityTable?
  ) throws -> (layers: [FinishedLayer], resumed: Int) {
    let walk = QuantizeWalk(
      .init(
        request: request, output: output, checkpoint: stage.input,
        zeros: try request.pruning.map { try PruneAssignment($0, to: stage.input) },
        wasPruned: try Lineage.holds("prune", in: Lineage.parent(of: stage.input)),
        imatrix: imatrix, knowledge: knowledge, sensitivities: sensitivities,
        progress: progress, finished: finished),
      assignment: assignment, rates: rates, attempt: attempt)
    let layers = try walk.run(network: network, set: loaded?.set)
    return (layers, walk.resumedLayers)
  }

  /// What the model feels of its layers' errors; nil without calibration.
  private func knowledge(of network: any Network) throws -> ModelKnowledge? {
    try loaded.map {
      ModelKnowledge(
        network, $0.set, usesCurvature: try usesCurvature(of: network),
        seed: request.calibration?.seed ?? 0,
        progress: progress)
    }
  }

  /// Whether the loss's curvature is measured for a network.
  private func usesCurvature(of network: any Network) throws(CheckpointError) -> Bool {
    guard let asked = request.usesCurvature else {
      return request.method == .ec && network is any LanguageModel
    }
    guard !asked || network is any LanguageModel || network is any TextEncoder else {
      throw CheckpointError(
        path: stage.input.path, .unsupported("the loss's curvature in a \(network.family) model"))
    }
    return request.method == .ec && asked
  }

  func run() throws -> Result {
    guard request.isAllocated, let loaded else {
      let network =
        FamilyRegistry.family(of: stage.input) == nil ? nil : try Model(stage.input).network
      let (layers, resumed) = try walk(
        assignment, rates: nil, attempt: 0, network: network,
        try network.flatMap { try self.knowledge(of: $0) }, nil)
      return Result(
        layers: layers, assignment: assignment, resumedLayers: resumed, allocation: nil)
    }
    let probe = loaded.rest ?? loaded.set.first(tokens: 16384)
    let network = try Model(stage.input).network
    let knowledge = ModelKnowledge(
      network, loaded.set,
      usesCurvature: try usesCurvature(of: network),
      seed: request.calibration?.seed ?? 0, progress: progress)
    let table = try table(loaded, probe: probe, knowledge: knowledge)
    let weights = table.entries.reduce(0) { $0 + $1.weights }
    var bits = 0.0, drift = 0.0
    switch request.goal {
    case .bits(let own): bits = own * Double(weights)
    case .budget(let bytes): bits = try openBits(of: table, in: bytes)
    case .drift(let limit): drift = limit
    case .error, nil: preconditionFailure("no goal for the whole model")
    }
    var best: (result: Result, measure: Double)?
    var resumed = 0
    for attempt in 1...Self.attempts {
      let allocation = try ModelAllocation(
        table, assignment, limit: drift > 0 ? .drift(drift) : .bits(bits),
        tiesGroups: request.tiesGroups)
      let network = try Model(stage.input).network
      let check = DriftProbe(network: network, set: probe)
      let walked = try walk(
        allocation.assignment, rates: allocation.rates, attempt: attempt, network: network,
        knowledge, table)
      resumed += walked.resumed
      progress("drift", 0)
      let measured = try check.driftOfWhole()
      let result = Result(
        layers: walked.layers, assignment: allocation.assignment, resumedLayers: resumed,
        allocation: AllocationOutcome(
          table: table, predictedDrift: allocation.predictedDrift, measuredDrift: measured,
          attempts: attempt))
      switch request.goal {
      case .budget(let budget):
        let size = try packedBytes(result)
        if size <= budget { return result }
        // What the header took more than was planned; names of other lengths, and codes of the last tensor.
        bits -= 8 * Double(size - budget + 16)
      case .drift(let limit):
        if measured <= limit, measured > best?.measure ?? -1 { best = (result, measured) }
        if measured <= limit, measured > 0.93 * limit { return result }
        if measured <= limit, allocation.rates == nil, attempt > 1 { return result }
        // The linear model keeps the tensors' relations; its level is corrected by what was measured.
        let factor = measured / max(allocation.predictedDrift, 1e-30)
        drift = 0.97 * limit / max(factor, 1e-6)
      default: return result
      }
    }
    if let best { return best.result }
    throw AllocationError(
      description:
        "\(stage.input.path): the goal was not met in \(Self.attempts) attempts; raise the limit")
  }

  /// The table: from a file, from an interrupted run, or measured.
  private func table(
    _ loaded: LoadedCalibration, probe: CalibrationSet, knowledge: ModelKnowledge
  ) throws -> SensitivityTable {
    let key = stage.sensitivityKey(inputHash: inputHash, calibration: calibration)
    let note = output.notePath("sensitivities.json")
    for path in [request.sensitivities, note] {
      guard let path, FilePath.kind(of: path) == .file else { continue }
      return try SensitivityTable.read(path, key: key)
    }
    let table = try SensitivityMeasurement(
      assignment: assignment, request: request, network: try Model(stage.input).network,
      calibration: loaded.set, probe: probe.first(tokens: Self.sensitivityTokens),
      knowledge: knowledge,
      isHeldOut: loaded.rest != nil, path: stage.input.path, progress: progress
    ).table(key: key)
    for path in [note, request.sensitivities] {
      guard let path else { continue }
      try OutputFile.write(table.json.indentedText + "\n", to: path)
    }
    return table
  }

  /// Bits that the open tensors may take so that the packed file has `budget` bytes.
  private func openBits(
    of table: SensitivityTable, in budget: Int
  ) throws -> Double {
    // Everything else is measured on a plan with any encodings: only names' lengths differ.
    var names: [String: String] = [:]
    for entry in table.entries { names[entry.tensor] = entry.points[0].encoding }
    let assignment = assignment.choosing(names)
    let plan = FolderPlan(source: stage.input, assignment: assignment, request: request)
    let size = try RunPlan.packedByteCount(stage, assignment, plan: plan, calibration: calibration)
    let open = plan.contents.reduce(0) { sum, item in
      guard case .encode(let encoding, _, let shape) = item.content, table[item.tensor.name] != nil
      else {
        return sum
      }
      return sum + encoding.byteCount(outputs: shape.outputs, inputs: shape.inputs)
    }
    let rest = size - open + (hasDrift ? Self.driftBytes : 0)
    guard budget > rest else {
      throw AllocationError(
        description:
          "the budget of \(budget) bytes is below the \(rest) bytes of everything that is not encoded "
          + "(norms, tokenizer, header)")
    }
    return 8 * Double(budget - rest)
  }

  /// Bytes of the packed file of a result.
  private func packedBytes(_ result: Result) throws -> Int {
    let plan = FolderPlan(
      source: stage.input, assignment: result.assignment, request: request,
      found: result.layers.map { ($0.record.tensor, $0.encoded.encoding) })
    let lineage = stage.lineage(
      result.layers, result.assignment, calibration: calibration, inputHash: inputHash,
      parent: try Lineage.parent(of: stage.input))
    return try RunPlan.packedByteCount(
      plan, original: stage.input, lineage: lineage, inputName: FilePath.name(of: output.path))
      + (hasDrift ? Self.driftBytes : 0)
  }
}

extension QuantizeRun {
  /// The hash of everything that the sensitivities depend on; the goal is not among it.
  func sensitivityKey(inputHash: String, calibration: JSONValue) -> String {
    var hash = ContentHash()
    let rules = request.rules.map { ($0.pattern ?? "") + "=" + $0.target.name }
    for part in [
      toolVersion, "sensitivities 1", BLAS.description, inputHash, request.method.rawValue,
      rules.joined(separator: " "), request.search.rawValue,
      "\(request.damping) \(request.blockSize) \(request.actOrder) \(request.usesCurvature.map { String($0) } ?? "standard")",
      calibration.compactText,
    ] { hash.update(part) }
    return hash.digits
  }
}

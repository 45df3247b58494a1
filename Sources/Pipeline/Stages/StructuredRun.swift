// Structured pruning of a model: measures what its parts are worth, finds the sizes, cuts, fits.

import Calibration
import Checkpoints
import Encodings
public import JSONDocuments
import LinearAlgebra
public import Networks
import Pruning
import Tensors

/// What structured pruning made of a model.
public struct StructureOutcome: Sendable, Equatable {
  /// The sizes before and after.
  public let before, after: StructuralSizes
  /// The parameters before and after.
  public let parametersBefore, parametersAfter: Int
  /// For each layer the layers that its attention and its MLP come from; nil for a branch that went.
  public let origins: [[Int?]]
  /// What the search measured; empty without one.
  public let candidates: [StructureCandidate]
  /// Whether the search measured on text that calibration left out.
  public let isHeldOut: Bool

  /// What the lineage says.
  public var json: JSONValue {
    func sizes(_ s: StructuralSizes, _ parameters: Int) -> JSONValue {
      var object: JSONObject = JSONObject([
        .init(key: "layers", value: .integer(s.layers)),
        .init(key: "heads", value: .integer(s.heads)),
        .init(key: "key_heads", value: .integer(s.keyHeads)),
        .init(key: "ffn", value: .integer(s.inner)), .init(key: "width", value: .integer(s.width)),
        .init(key: "parameters", value: .integer(parameters)),
      ])
      if s.withoutAttention + s.withoutMLP > 0 {
        object["without_attention"] = .integer(s.withoutAttention)
        object["without_mlp"] = .integer(s.withoutMLP)
      }
      return .object(object)
    }
    var object = JSONObject()
    object["before"] = sizes(before, parametersBefore)
    object["after"] = sizes(after, parametersAfter)
    object["layers_from"] = .array(
      origins.map { .array($0.map { $0.map { .integer($0) } ?? .null }) })
    if !candidates.isEmpty {
      object["search"] = .array(candidates.map(\.json))
      object["held_out"] = .bool(isHeldOut)
    }
    return .object(object)
  }
}

/// Cuts a model.
struct StructuredRun {
  let input: any Checkpoint
  let request: StructuredPruning
  let calibration: LoadedCalibration?
  /// Where finished work is kept for a run that takes over; nil keeps none.
  var output: StageOutput?
  let progress: (String, Double) -> Void
  let finished: (LayerRecord, Double) -> Void

  /// Tokens that the search fits and measures each candidate with.
  static let searchTokens = 16384

  /// The network, or why its parts cannot be cut.
  static func network(of input: any Checkpoint) throws -> any StructuredNetwork {
    guard FamilyRegistry.family(of: input) != nil else {
      throw CheckpointError(
        path: input.path,
        .unsupported(
          "structured pruning of an unknown architecture (magnitude makes single weights zero without one)"
        ))
    }
    let network = try FamilyRegistry.network(of: input)
    if let network = network as? any StructuredNetwork { return network }
    throw CheckpointError(
      path: input.path,
      .unsupported(
        "cutting heads, ffn, width or layers of a \(network.family) model "
          + (network is any FilterNetwork
            ? "(--filters 0.5 cuts its filters, with --width those of its stream)"
            : "(wanda, sparsegpt and alps make its single weights zero)")))
  }

  /// What can be refused before any work.
  static func check(_ request: StructuredPruning, _ input: any Checkpoint) throws {
    try request.check()
    let network = try network(of: input), space = space(network, input)
    for entry in input.manifest.entries where entry.encoding.exactFloats == nil {
      throw StructureError.encoded(tensor: entry.name, encoding: entry.encoding.name)
    }
    if request.importance == .taylor, !(network is any LanguageModel) {
      throw StructureError.noGradients(family: network.family)
    }
    if let target = request.targetParameters {
      guard target < space.parameters else {
        throw StructureError.targetTooLarge(asked: target, parameters: space.parameters)
      }
      guard space.start(target) != nil else {
        throw StructureError.targetTooSmall(asked: target, least: space.least)
      }
      if let reason = network.structure.fixedLayers {
        throw StructureError.fixed(axis: "target-parameters", reason: reason)
      }
    } else {
      _ = try request.sizes(of: network.structure)
      _ = try request.branchCount(network.structure)
    }
  }

  private static func space(
    _ network: any StructuredNetwork, _ input: any Checkpoint
  ) -> StructureSpace {
    let isTied = (network as? any LanguageModel)?.isTied == true
    // A second copy of a tied head is left out.
    let tensors = input.logicalTensors.filter { !isTied || $0.name != "lm_head.weight" }
    return StructureSpace(
      structure: network.structure, shapes: tensors.map { ($0.name, $0.shape) })
  }

  /// The checkpoint with the tensors that the result will have, and values that mean nothing. With a number of parameters
  /// the sizes are those that the search starts from.
  static func planned(
    _ request: StructuredPruning, _ input: any Checkpoint
  ) throws -> StructuredCheckpoint {
    let network = try network(of: input), structure = network.structure
    let sizes =
      try request.targetParameters.flatMap { space(network, input).start($0) }
      ?? request.sizes(of: structure)
    let ranking = try StructuredMeasurement(
      network: network, set: nil, importance: .order, cutsWidth: false, damping: request.damping
    ) { _ in }.ranking()
    let layers = try Removal(request, sizes, structure).branches {
      StructuredLayers(network: network, set: nil, importance: .order, unit: $0)
    }
    return StructuredCheckpoint(
      input, structure,
      cut: ranking.cut(
        layers: StructuredCut.layers(of: layers, in: structure), to: sizes, of: structure.sizes))
  }

  /// How many neighbouring branches go at a time, and how many times.
  private struct Removal {
    let unit: Int
    let count: Int

    init(
      _ request: StructuredPruning, _ sizes: StructuralSizes, _ structure: NetworkStructure
    ) throws(StructureError) {
      if let branches = try request.branchCount(structure) {
        (unit, count) = (1, branches)
      } else {
        (unit, count) = (2, structure.sizes.layers - sizes.layers)
      }
    }

    /// The branches that stay, chosen by what `choose` makes for the unit.
    func branches(_ choose: (Int) throws -> StructuredLayers) throws -> [Int] {
      try choose(unit).branches(removing: count)
    }
  }

  /// The lineage that the stage will write, with figures that are not known yet at zero; of a search its first candidate.
  static func plannedLineage(
    _ structure: StructuredPruning, _ request: PruneRequest, _ input: any Checkpoint,
    calibration: JSONValue, parent: JSONValue
  ) throws -> JSONValue {
    let planned = try planned(structure, input), network = try network(of: input)
    let space = space(network, input), after = planned.cut.sizes(of: network.structure.sizes)
    let small = try FamilyRegistry.network(of: planned)
    let layers =
      structure.repairs
      ? small.linearLayers.map {
        LayerRecord.fitted(
          $0.weightName,
          encoding: planned.tensorType($0.weightName)?.dtype.rawValue.lowercased() ?? "",
          bitsPerWeight: 0, relativeError: 0, deadInputs: 0)
      } : []
    let parameters = network.structure.parameters(space.shapes, sizes: after)
    let outcome = StructureOutcome(
      before: network.structure.sizes, after: after, parametersBefore: space.parameters,
      parametersAfter: parameters,
      origins: planned.cut.layers.map { [$0.attention, $0.mlp] },
      candidates: structure.targetParameters == nil
        ? [] : [StructureCandidate(sizes: after, parameters: parameters, loss: 0)],
      isHeldOut: true)
    return Lineage.entry(
      stage: "prune", options: request.json, seed: request.calibration?.seed ?? 0,
      inputName: FilePath.name(of: input.path), inputHash: RunPlan.noHash,
      calibration: calibration, work: PruneRun.work(layers, structure: outcome), parent: parent)
  }

  /// What the work gave.
  struct Result {
    let checkpoint: StructuredCheckpoint
    let outcome: StructureOutcome
    /// Layers that an earlier run had fitted.
    let resumedLayers: Int
  }

  /// Does the work.
  func run() throws -> Result {
    let network = try Self.network(of: input), structure = network.structure
    let space = Self.space(network, input)
    let set = calibration?.set
    let ranking = try measured {
      try StructuredMeasurement(
        network: network, set: set,
        importance: request.choosesChannels ? request.importance : .order,
        cutsWidth: request.targetParameters != nil || request.width != nil,
        damping: request.damping
      ) { progress("importance", $0) }.ranking()
    }
    let journal = try SearchJournal(path: output?.notePath("search.json"))
    let layers = StructuredLayers(
      network: network, set: set, importance: set == nil ? .order : request.layerImportance,
      unit: request.branches == nil ? 2 : 1, journal: journal)
    func cut(_ sizes: StructuralSizes) throws -> StructuredCheckpoint {
      let branches = try Removal(request, sizes, structure).branches { _ in layers }
      let cut = ranking.cut(
        layers: StructuredCut.layers(of: branches, in: structure), to: sizes, of: structure.sizes)
      return StructuredCheckpoint(
        input, structure, cut: cut, normFactors: ranking.normFactors(cut.width))
    }
    var sizes: StructuralSizes, candidates: [StructureCandidate] = []
    if let target = request.targetParameters, let calibration {
      let probe = LossProbe(
        network: network,
        set: (calibration.rest ?? calibration.set).first(tokens: Self.searchTokens))
      let part = calibration.set.first(tokens: Self.searchTokens)
      let found = try StructuredSearch(
        space: space, target: target,
        measure: { sizes in
          let words =
            "sizes \(sizes.layers) \(sizes.heads) \(sizes.keyHeads) \(sizes.inner) \(sizes.width)"
          return try journal.figure(words) {
            let fitted = try fit(cut(sizes), network, part) { _ in }
            return try probe.loss(of: try FamilyRegistry.network(of: fitted.checkpoint))
          }
        }, progress: { progress("search, candidate \($0)", 0) }
      ).run()
      sizes = found.best.sizes
      candidates = found.all
    } else {
      sizes = try request.sizes(of: structure)
    }
    let result = try fit(cut(sizes), network, set, keeping: output) { progress("repair", $0) }
    for record in result.records { finished(record.record, record.seconds) }
    sizes = result.checkpoint.cut.sizes(of: structure.sizes)
    return Result(
      checkpoint: result.checkpoint,
      outcome: StructureOutcome(
        before: structure.sizes, after: sizes, parametersBefore: space.parameters,
        parametersAfter: structure.parameters(space.shapes, sizes: sizes),
        origins: result.checkpoint.cut.layers.map { [$0.attention, $0.mlp] },
        candidates: candidates, isHeldOut: calibration?.rest != nil),
      resumedLayers: result.records.count { $0.wasKept })
  }

  private func fit(
    _ cut: StructuredCheckpoint, _ network: any StructuredNetwork, _ set: CalibrationSet?,
    keeping output: StageOutput? = nil, _ progress: @escaping (Double) -> Void
  ) throws -> (checkpoint: StructuredCheckpoint, records: [FittedLayer]) {
    guard request.repairs, let set else { return (cut, []) }
    return try measured {
      try StructuredRepair(
        network: network, cut: cut, set: set, fit: LeastSquaresRepair(damping: request.damping),
        output: output, progress: progress
      ).run()
    }
  }

  /// Statistics that cannot be factorized are the input's fault: infinite or NaN activations.
  private func measured<Value>(_ body: () throws -> Value) throws -> Value {
    do {
      return try body()
    } catch is FactorizationError {
      throw PruningError.badStatistics
    }
  }
}

/// A fitted layer's row of the table and the seconds it took.
struct FittedLayer {
  let record: LayerRecord
  let seconds: Double
  /// Whether an earlier run had fitted it.
  var wasKept = false
}

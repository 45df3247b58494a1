// The stage `prune`: walks the model, prunes each matrix with inputs from what is pruned already, and writes a
// checkpoint folder.

import Calibration
public import Checkpoints
import Encodings
import JSONDocuments
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// Runs `prune`.
public struct PruneRun {
  let input: any Checkpoint
  let request: PruneRequest

  /// The stage on a checkpoint.
  public init(input: any Checkpoint, request: PruneRequest) {
    self.input = input
    self.request = request
  }

  /// What becomes of every matrix; throws before any work when a rule is wrong.
  public func assignment() throws -> PruneAssignment {
    switch request.target {
    case .weights(let weights): try PruneAssignment(weights, to: input)
    case .structure, .filters, .rank: PruneAssignment()
    }
  }

  /// Refuses what cannot work, before any work.
  func check() throws {
    switch request.target {
    case .weights(let weights):
      let isUniform = weights.allocation == .uniform
      guard weights.method.needsCalibration || !isUniform else { return }
      let what =
        weights.method.needsCalibration
        ? weights.method.rawValue : "the allocation \(weights.allocation.rawValue)"
      guard FamilyRegistry.family(of: input) != nil else {
        throw CheckpointError(
          path: input.path,
          .unsupported("\(what) on an unknown architecture (magnitude needs no forward pass)"))
      }
      guard request.calibration != nil else { throw PruningError.needsStatistics(method: what) }
    case .structure(let structure):
      try StructuredRun.check(structure, input)
      guard request.calibration != nil || !structure.needsCalibration else {
        throw PruningError.needsStatistics(method: "structured pruning")
      }
    case .filters(let filters):
      try FilterRun.check(filters, input)
      guard request.calibration != nil || !filters.needsCalibration else {
        throw PruningError.needsStatistics(method: "the choice or the fit of filters")
      }
    case .rank:
      guard FamilyRegistry.family(of: input) != nil else {
        throw CheckpointError(path: input.path, .unsupported("svd on an unknown architecture"))
      }
      guard request.calibration != nil else { throw PruningError.needsStatistics(method: "svd") }
      for linear in try FamilyRegistry.network(of: input).linearLayers {
        guard let entry = input.manifest[linear.weightName], entry.encoding.exactFloats == nil
        else { continue }
        throw LowRankError.encoded(tensor: entry.name, encoding: entry.encoding.name)
      }
    }
  }

  /// Does the work and writes the folder `output`; see `FolderStage`.
  public func run(
    output path: String, force: Bool = false, inputHash: String? = nil, hasDrift: Bool = false,
    complete: (String) throws -> Void = { _ in },
    progress: @escaping (String, Double) -> Void = { _, _ in },
    finished: @escaping (LayerRecord, Double) -> Void = { _, _ in }
  ) throws -> StageResult {
    var assignment = try assignment()
    try check()
    let loaded = try loadCalibration(progress: progress)
    let inputHash = try inputHash ?? contentHash(of: input)
    let calibration = loaded?.json ?? .null
    let key = key(inputHash: inputHash, calibration: calibration)
    return try work(output: path, key: key, force: force, complete: complete) { output in
      var result: StageResult
      let plan: FolderPlan, layers: [FinishedLayer], done: JSONValue
      switch request.target {
      case .structure(let structure):
        var records: [LayerRecord] = []
        let cut = try StructuredRun(
          input: input, request: structure, calibration: loaded, output: output,
          progress: progress,
          finished: {
            records.append($0)
            finished($0, $1)
          }
        ).run()
        plan = FolderPlan(source: cut.checkpoint, replaced: [])
        layers = []
        done = Self.work(records, structure: cut.outcome)
        result = StageResult(
          layers: records, calibration: nil, resumedLayers: cut.resumedLayers, requantized: [])
        result.structure = cut.outcome
      case .filters(let filters):
        let cut = try FilterRun(
          input: input, request: filters, set: loaded?.set, output: output, progress: progress,
          finished: finished
        ).run()
        plan = FolderPlan(source: cut.checkpoint, replaced: [])
        layers = []
        done = Self.work(cut.records, filters: cut.outcome)
        result = StageResult(
          layers: cut.records, calibration: nil, resumedLayers: cut.resumedLayers, requantized: [])
        result.filters = cut.outcome
      case .rank(let rank):
        let walk = LowRankWalk(
          rank, checkpoint: input, output: output, progress: progress, finished: finished)
        let network = try FamilyRegistry.network(of: input)
        layers = try walk.run(
          network,
          loaded?.set ?? CalibrationSet(sequences: [], tokensAsked: 0))
        plan = FolderPlan(
          source: input,
          // What stayed as it was is copied.
          replaced: layers.filter { $0.encoded.encoding is LowRank }.map {
            ($0.record.tensor, $0.encoded.encoding, $0.record.method)
          }, layouts: FolderPlan.layouts(network))
        done = Self.work(layers.map { $0.record })
        result = StageResult(
          layers: layers.map { $0.record }, calibration: nil, resumedLayers: walk.resumedLayers,
          requantized: [])
      case .weights(let weights):
        assignment = try shared(weights, assignment, loaded, progress)
        let walk = PruneWalk(
          weights, assignment: assignment, checkpoint: input, output: output, progress: progress,
          finished: finished)
        layers = try walk.run(
          network: FamilyRegistry.family(of: input) == nil
            ? nil : try FamilyRegistry.network(of: input), set: loaded?.set)
        plan = try folderPlan(
          assignment,
          found: Dictionary(
            layers.map { ($0.record.tensor, $0.encoded.encoding) }, uniquingKeysWith: { $1 }))
        done = Self.work(layers.map { $0.record })
        result = StageResult(
          layers: layers.map { $0.record }, calibration: nil, resumedLayers: walk.resumedLayers,
          requantized: [])
      }
      result.calibration = loaded.map { ($0.set.tokensAsked, $0.set.tokensUsed, $0.set.unit) }
      let lineage = lineage(
        inputHash: inputHash, calibration: calibration, work: done,
        parent: try Lineage.parent(of: input))
      try plan.write(to: output.resultPath, layers: layers, lineage: lineage)
      return result
    }
  }

  /// The assignment with the zeros that each tensor gets.
  private func shared(
    _ weights: WeightPruning, _ assignment: PruneAssignment, _ loaded: LoadedCalibration?,
    _ progress: @escaping (String, Double) -> Void
  ) throws -> PruneAssignment {
    guard weights.allocation != .uniform, let loaded else { return assignment }
    return try SparsityPlanning(
      weights: weights, assignment: assignment, network: try FamilyRegistry.network(of: input),
      calibration: loaded.set,
      probe: (loaded.rest ?? loaded.set).first(tokens: Self.sensitivityTokens), path: input.path,
      progress: progress
    ).shared()
  }

  /// Tokens of the drift of single tensors: their relations matter, and there are many tensors.
  private static let sensitivityTokens = 4096

  /// What the folder will hold.
  func folderPlan(
    _ assignment: PruneAssignment, found: [String: any WeightEncoding] = [:]
  ) throws -> FolderPlan {
    switch request.target {
    case .structure(let structure):
      return FolderPlan(source: try StructuredRun.planned(structure, input), replaced: [])
    case .filters(let filters):
      return FolderPlan(source: try FilterRun.planned(filters, input).checkpoint, replaced: [])
    case .rank(let rank):
      let network = try FamilyRegistry.network(of: input)
      return FolderPlan(
        source: input,
        replaced: network.linearLayers.compactMap { linear in
          LowRankWalk.planned(rank, linear, input).map { (linear.weightName, $0, "svd") }
        }, layouts: FolderPlan.layouts(network))
    case .weights(let weights):
      return FolderPlan(
        source: input,
        replaced: assignment.items.compactMap { item in
          guard let goal = item.goal else { return nil }
          return (
            item.site.name,
            found[item.site.name]
              ?? SparseStorage.encoding(
                dtype: input.floatType(of: item.site.name), goal: goal,
                storesZeros: weights.storesZeros), weights.method.rawValue
          )
        },
        layouts: Dictionary(
          assignment.items.compactMap { item in item.site.layout.map { (item.site.name, $0) } },
          uniquingKeysWith: { first, _ in first }))
    }
  }

  /// What the lineage says of the work.
  static func work(
    _ layers: [LayerRecord], structure: StructureOutcome? = nil, filters: FilterOutcome? = nil
  ) -> JSONValue {
    var object: JSONObject = JSONObject([
      .init(key: "layers", value: .array(layers.map { $0.json }))
    ])
    if let structure { object["structure"] = structure.json }
    if let filters { object["filters"] = filters.json }
    return .object(object)
  }

  /// The lineage that the stage will write, with figures that are not known yet at zero.
  func plannedLineage(_ assignment: PruneAssignment, parent: JSONValue) throws -> JSONValue {
    let calibration = try loadCalibration()
    if case .structure(let structure) = request.target {
      return try StructuredRun.plannedLineage(
        structure, request, input, calibration: calibration?.json ?? .null, parent: parent)
    }
    if case .filters(let filters) = request.target {
      let planned = try FilterRun.planned(filters, input)
      return lineage(
        inputHash: RunPlan.noHash, calibration: calibration?.json ?? .null,
        work: Self.work(planned.layers, filters: planned.outcome), parent: parent)
    }
    let plan = try folderPlan(assignment)
    if case .rank = request.target {
      let records = try FamilyRegistry.network(of: input).linearLayers.map {
        LayerRecord.fitted(
          $0.weightName, encoding: plan.manifest[$0.weightName]?.encoding.name ?? "bf16",
          method: "svd", bitsPerWeight: 0, relativeError: 0, deadInputs: 0)
      }
      return lineage(
        inputHash: RunPlan.noHash, calibration: calibration?.json ?? .null,
        work: Self.work(records), parent: parent)
    }
    let layers = assignment.items.compactMap { item -> LayerRecord? in
      guard let goal = item.goal, let entry = plan.manifest[item.site.name] else { return nil }
      return LayerRecord.planned(
        item.site, encoding: entry.encoding, method: entry.method,
        isOutputError: calibration != nil && item.site.role != .embedding(isHead: false),
        extras: LayerRecord.Extras(
          zeros: .init(asked: goal.zeros, reached: goal.zeros, share: 0)))
    }
    return lineage(
      inputHash: RunPlan.noHash, calibration: calibration?.json ?? .null, work: Self.work(layers),
      parent: parent)
  }
}

extension Checkpoint {
  /// The type of a weight that is floats in whatever storage.
  func floatType(of name: String) -> DType {
    manifest[name]?.encoding.exactFloats ?? tensorType(name)?.dtype ?? .float32
  }
}

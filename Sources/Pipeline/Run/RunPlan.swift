// What a recipe will do, and the bytes of its results, without doing it: exact where the work decides no size.

import Bundles
import Checkpoints
import CondenseInference
import Drift
import Encodings
public import JSONDocuments
import Networks
import Pruning
import Quantization
import Tensors

/// The plan of a recipe.
public struct RunPlan: Sendable {
  /// What a pattern hits.
  public struct Hit: Sendable {
    /// The pattern, or `default`.
    public let rule: String
    /// What becomes of the tensors.
    public let target: String
    /// Their names.
    public let tensors: [String]
  }

  /// One stage to come.
  public struct Stage: Sendable {
    /// Its name and kind.
    public let name, kind: String
    /// For `quantize`: rules and what they hit.
    public let hits: [Hit]
    /// Bytes of the weight file, or of the whole bundle.
    public let byteCount: Int
    /// The file that a pack stage makes in the output folder.
    public let fileName: String?
    /// What the number of bytes stands for, where the work decides the real one; nil where it is exact.
    public let estimate: String?
  }

  /// The stages in order.
  public let stages: [Stage]
  /// Bytes of the model's weights, as they are.
  public let sourceBytes: Int

  /// Plans a recipe: opens the model and the texts, and checks every option against them.
  public init(_ recipe: Recipe) throws {
    let original = try AnyCheckpoint.open(recipe.model.value)
    try Self.check(recipe, original: original)
    sourceBytes = original.tensorNames.reduce(0) { $0 + (original.tensor($1)?.byteCount ?? 0) }
    var whole: any Checkpoint = original
    var lineage = try Lineage.parent(of: original)
    var stages: [Stage] = [], estimate: String?
    for entry in recipe.stages {
      let recipe = recipe.seen(by: entry), current = try entry.seen(whole)
      // What is made of an estimate is one.
      if let before = stages.last, before.estimate != nil {
        estimate = "made of what '\(before.name)' is estimated to give"
      }
      switch entry.options {
      case let options as QuantizeStageOptions:
        let request = try options.request(recipe)
        let stage = QuantizeRun(input: current, request: request)
        let assignment = try stage.assignment()
        let plan = FolderPlan(
          source: try stage.planned(), assignment: assignment, request: request)
        if estimate == nil, plan.manifest.entries.contains(where: { $0.encoding is EntropyCoded }) {
          estimate = "entropy-coded sizes follow from the codes; here each matrix has its rate"
        }
        stages.append(
          Stage(
            name: entry.name.value, kind: entry.kind, hits: Self.hits(assignment),
            byteCount: plan.layout.byteCount, fileName: nil, estimate: estimate))
        lineage = try Self.lineage(stage, assignment, parent: lineage)
        whole = PlannedCheckpoint(plan, original: original)
      case let options as PruneStageOptions:
        // What earlier stages make of the model may not be what this one takes.
        if current is PlannedCheckpoint { try Self.check(options, recipe, current) }
        let stage = PruneRun(input: current, request: try options.request(recipe))
        let assignment = try stage.assignment()
        let plan = try stage.folderPlan(assignment)
        stages.append(
          Stage(
            name: entry.name.value, kind: entry.kind, hits: Self.hits(assignment),
            byteCount: plan.layout.byteCount, fileName: nil,
            estimate: estimate ?? stage.request.sizeEstimate))
        lineage = try stage.plannedLineage(assignment, parent: lineage)
        whole = PlannedCheckpoint(plan, original: original)
      case let options as DistillStageOptions:
        let stage = DistillRun(input: current, request: try options.request())
        let plan = try stage.folderPlan()
        stages.append(
          Stage(
            name: entry.name.value, kind: entry.kind, hits: [],
            byteCount: plan.layout.byteCount, fileName: nil, estimate: estimate))
        lineage = try stage.plannedLineage(plan, parent: lineage)
        whole = PlannedCheckpoint(plan, original: original)
      case let options as PackStageOptions:
        stages.append(
          Stage(
            name: entry.name.value, kind: entry.kind, hits: [],
            byteCount: try PackRun(input: current, request: options.request)
              .plannedByteCount(
                lineage: lineage, drift: try Self.drift(recipe, original),
                inputName: current is PlannedCheckpoint
                  ? Self.noHash : FilePath.name(of: original.path), original: original),
            fileName: Self.bundleName(of: entry, in: recipe), estimate: estimate))
      default: preconditionFailure("no plan for the stage kind '\(entry.kind)'")
      }
    }
    self.stages = stages
  }

  /// Checks everything that can be checked before any work.
  static func check(_ recipe: Recipe, original: any Checkpoint) throws {
    for entry in recipe.stages {
      let recipe = recipe.seen(by: entry), original = try entry.seen(original)
      if let options = entry.options as? PruneStageOptions {
        try check(options, recipe, original)
        continue
      }
      if let options = entry.options as? DistillStageOptions {
        _ = try options.request()
        continue
      }
      guard let options = entry.options as? QuantizeStageOptions else { continue }
      let request = try options.request(recipe)
      let stage = QuantizeRun(input: original, request: request)
      do {
        // A wrong rule has a place in the recipe, which what follows from it has not.
        _ = try stage.assignment()
        try stage.check()
      } catch let error as EncodingRuleError {
        throw RecipeError(at: Self.place(of: error, options), .refused("\(error)"))
      }
    }
  }

  private static func check(
    _ options: PruneStageOptions, _ recipe: Recipe, _ original: any Checkpoint
  ) throws {
    let stage = PruneRun(input: original, request: try options.request(recipe))
    do {
      try stage.check()
      _ = try stage.assignment()
    } catch let error as StructureError {
      throw RecipeError(
        at: options.targetParameters?.place ?? options.pattern.place, .refused("\(error)"))
    } catch let error as SparsityRuleError {
      throw RecipeError(at: options.place(of: error), .refused("\(error)"))
    }
  }

  /// Where in the recipe the pattern of an error stands.
  private static func place(
    of error: EncodingRuleError, _ options: QuantizeStageOptions
  ) -> RecipePlace {
    guard case .matchesNothing(let pattern, _) = error else { return options.encoding.place }
    return options.overrides.first { $0.pattern.value == pattern }?.pattern.place
      ?? options.encoding.place
  }

  /// The file of a pack stage: the model's name, and the stage's when there are several.
  static func bundleName(of entry: StageEntry, in recipe: Recipe) -> String {
    let model = FilePath.name(of: recipe.model.value)
    let packs = recipe.stages.count { $0.kind == PackStageOptions.kind }
    return (packs > 1 ? "\(model)-\(entry.name.value)" : model) + ".condensed"
  }

  private static func hits(_ assignment: EncodingAssignment) -> [Hit] {
    hits(assignment.items.map { ($0.rule, $0.target.name, $0.site.name) })
  }

  private static func hits(_ assignment: PruneAssignment) -> [Hit] {
    hits(
      assignment.items.map { item in
        guard let goal = item.goal else { return (item.rule, "copy", item.site.name) }
        return (
          item.rule, "\(goal.pattern.name), \(Figures.text(goal.share, 4)) zeros", item.site.name
        )
      })
  }

  private static func hits(_ items: [(rule: String, target: String, tensor: String)]) -> [Hit] {
    var order: [String] = []
    var hits: [String: (target: String, tensors: [String])] = [:]
    for item in items {
      if hits[item.rule] == nil { order.append(item.rule) }
      hits[item.rule, default: (item.target, [])].tensors.append(item.tensor)
    }
    return order.map {
      Hit(rule: $0, target: hits[$0]?.target ?? "", tensors: hits[$0]?.tensors ?? [])
    }
  }

  /// The lineage that a quantize stage will write, with figures that are not known yet at zero.
  private static func lineage(
    _ stage: QuantizeRun, _ assignment: EncodingAssignment, parent: JSONValue
  ) throws -> JSONValue {
    let calibration = try stage.loadCalibration()
    let zeros = try stage.request.pruning.map { try PruneAssignment($0, to: stage.input) }
    let wasPruned = Lineage.holds("prune", in: parent)
    let layers = assignment.items.compactMap { item -> LayerRecord? in
      guard case .encode(let encoding) = item.target else { return nil }
      let isSparse = wasPruned || zeros?[item.site.name] != nil
      let method = item.method(asked: stage.request.method)
      return LayerRecord.planned(
        item.site,
        encoding: stage.request.planned(encoding, for: item.site, in: stage.input, zeros),
        method: method.rawValue,
        isOutputError: calibration != nil && item.site.role != .embedding(isHead: false),
        extras: LayerRecord.Extras(
          bitsAboveLimit: stage.request.measuresLimit ? .some(0) : nil,
          predictedDrift: stage.request.isAllocated ? 0 : nil,
          zeros: isSparse ? .init(asked: 0, reached: 0, share: 0) : nil))
    }
    return stage.lineage(
      inputHash: noHash, calibration: calibration?.json ?? .null,
      work: stage.work(layers, assignment), parent: parent)
  }

  /// Exact bytes of the bundle of what a stage will write, from sizes alone.
  static func packedByteCount(
    _ stage: QuantizeRun, _ assignment: EncodingAssignment, plan: FolderPlan,
    calibration: JSONValue
  ) throws -> Int {
    let lineage = try lineage(
      stage, assignment, parent: try Lineage.parent(of: stage.input))
    return try packedByteCount(plan, original: stage.input, lineage: lineage, inputName: noHash)
  }

  /// The same with the lineage that the stage will write.
  static func packedByteCount(
    _ plan: FolderPlan, original: any Checkpoint, lineage: JSONValue, inputName: String
  ) throws -> Int {
    try PackRun(input: PlannedCheckpoint(plan, original: original), request: PackRequest())
      .plannedByteCount(lineage: lineage, drift: .null, inputName: inputName, original: original)
  }

  /// As long as any hash.
  static let noHash = String(repeating: "0", count: 64)

  /// The drift that a bundle will say, with figures that are not known yet at zero.
  private static func drift(_ recipe: Recipe, _ original: any Checkpoint) throws -> JSONValue {
    guard FamilyRegistry.family(of: original) != nil else { return .null }
    /// The whole has what `validation` names beside the files; slices and towers have not.
    func figures(of checkpoint: any Checkpoint, _ whole: ValidationOptions?) throws -> MeasuredDrift
    {
      let network = try FamilyRegistry.network(of: checkpoint)
      if network is any SpeechRecognizer {
        return .speech(.zero(hasTranscripts: recipe.validation?.transcripts != nil))
      }
      if let network = network as? any SampleNetwork {
        return .samples(.zero(hasLabels: whole?.labels != nil, results: network.results))
      }
      return network is any TextEncoder
        ? .encoder(.zero(hasPairs: whole?.pairs != nil)) : .language(.zero)
    }
    var result = RunMeasurements.Result()
    for tower in recipe.towers where !tower.options.validation.isEmpty {
      let view = try TowerCheckpoint(original, tower: tower.name.value)
      result.slices.append((tower.name.value, try figures(of: view, nil)))
    }
    if let validation = recipe.validation {
      let whole = try figures(of: original, validation)
      (result.reference, result.input) = (whole, whole)
      for slice in validation.slices {
        result.slices.append((slice.name.value, try figures(of: original, nil)))
      }
    }
    return result.json
  }
}

/// A checkpoint that a stage will write: its tensors have sizes, and bytes that mean nothing.
private struct PlannedCheckpoint: Checkpoint {
  let plan: FolderPlan
  let original: any Checkpoint
  let items: [String: SafetensorsLayout.Item]

  init(_ plan: FolderPlan, original: any Checkpoint) {
    self.plan = plan
    self.original = original
    items = Dictionary(
      plan.items.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  var path: String { RunPlan.noHash }
  var formatName: String { "planned checkpoint" }
  var configuration: JSONValue { plan.source.configuration }
  var manifest: WeightManifest { plan.manifest }
  var tensorNames: [String] { plan.items.map(\.name) }
  func tensor(_ name: String) -> Tensor? {
    guard let item = items[name] else { return nil }
    if let tensor = original.tensor(name), original.manifest[name] == nil,
      tensor.dtype == item.dtype, tensor.shape == item.shape
    {
      return tensor
    }
    return Tensor(
      item.dtype, shape: item.shape, copying: [UInt8](repeating: 0, count: item.byteCount))
  }
  var sideFileNames: [String] {
    let names = plan.source.sideFileNames
    return plan.configurationFile == nil ? names : (names + ["config.json"]).sorted()
  }
  func sideFile(_ name: String) throws -> [UInt8] {
    if name == "config.json", let text = plan.configurationFile { return Array(text.utf8) }
    return try plan.source.sideFile(name)
  }
  var byteCount: Int { plan.layout.byteCount }
}

extension RunPlan {
  /// What `condense plan --json` prints.
  public var json: JSONValue {
    [
      "schema": 1, "source_tensor_bytes": .integer(sourceBytes),
      "stages": .array(
        stages.map { stage in
          [
            "name": .string(stage.name), "kind": .string(stage.kind),
            "file": .string(stage.fileName ?? "model.safetensors"),
            "bytes": .integer(stage.byteCount),
            "estimate": stage.estimate.map { .string($0) } ?? .null,
            "rules": .array(
              stage.hits.map { hit in
                [
                  "rule": .string(hit.rule), "target": .string(hit.target),
                  "tensors": .array(hit.tensors.map { .string($0) }),
                ]
              }),
          ]
        }),
    ]
  }
}

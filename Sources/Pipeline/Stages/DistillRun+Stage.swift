// `distill` as a stage of a recipe: its place among the stages that write folders, and its plan.

import Checkpoints
import Distillation
import Encodings
import JSONDocuments
import Networks
import Tensors

extension DistillRun: FolderStage {
  static let kind = "distill"
  var options: JSONValue { request.json }
  /// What it reads are logs, texts and a teacher: `sources`.
  var calibrationRequest: CalibrationRequest? { nil }

  func run(
    output path: String, force: Bool, inputHash: String?, hasDrift: Bool,
    complete: (String) throws -> Void, progress: @escaping (String, Double) -> Void,
    finished: @escaping (LayerRecord, Double) -> Void
  ) throws -> StageResult {
    let result = try run(
      output: path, force: force, inputHash: inputHash, complete: complete, progress: progress,
      trained: { progress("distill", Double($0.step) / Double($0.steps)) })
    for layer in result?.layers ?? [] { finished(layer, 0) }
    return StageResult(
      layers: result?.layers ?? [], calibration: nil, resumedLayers: 0, requantized: [])
  }

  /// What the folder will hold.
  func folderPlan() throws -> FolderPlan {
    let student = try student()
    let method = "distill-" + request.parts.rawValue
    let network = try FamilyRegistry.network(of: student)
    let branches = Set(network.linearLayers.map(\.weightName))
    let replaced = network.matrices.compactMap {
      layer -> (String, any WeightEncoding, String)? in
      let name = layer.weightName
      guard
        let encoding = trainedEncoding(
          of: layer, isTable: !branches.contains(name), stored: student.manifest[name]?.encoding)
      else { return nil }
      return (name, encoding, method)
    }
    return FolderPlan(
      source: student, replaced: replaced, layouts: FolderPlan.layouts(network))
  }

  /// The encoding that a trained matrix gets; nil for floats, and for what is not trained.
  private func trainedEncoding(
    of layer: Linear, isTable: Bool, stored: (any WeightEncoding)?
  ) -> (any WeightEncoding)? {
    let isFloat = stored.map { $0 is PlainFloats } ?? true
    switch request.parts {
    case .all: return stored is SparseEncoding ? stored : nil
    case .scales: return isFloat ? nil : stored
    case .adapters:
      guard let stored, !isFloat, !isTable else { return nil }
      return Repaired(
        stored, rank: min(request.rank, layer.matrix.outputs, layer.matrix.inputs))
    case .quantized:
      if let stored, !isFloat { return stored }
      return isTable ? nil : request.encoding.flatMap(EncodingRegistry.encoding(named:))
    }
  }

  /// The lineage that the stage will write, with figures that are not known yet at zero.
  func plannedLineage(_ plan: FolderPlan, parent: JSONValue) throws -> JSONValue {
    let layers = plan.contents.compactMap { tensor, content -> JSONValue? in
      guard case .encode(let encoding, _, _) = content else { return nil }
      return LayerRecord.trained(
        tensor.name, encoding: encoding.name, method: "distill-" + request.parts.rawValue,
        bitsPerWeight: 0
      ).json
    }
    let zero = ValidationPoint(
      divergence: 0, text: 0, accuracy: request.labels.isEmpty ? nil : 0)
    let work: DistillWork
    if request.blocks != nil {
      let blocks = try FamilyRegistry.network(of: plan.source).layerBranches.count
      work = .blocks((0..<blocks).map { BlockOutcome(block: $0, before: 0, after: 0) })
    } else {
      work = .training(
        TrainingOutcome(
          curve: [], first: zero, best: zero, bestStep: 0, steps: 0, planned: 0, tokens: 0))
    }
    return Lineage.entry(
      stage: "distill", options: request.json, seed: Int(request.training.seed),
      input: input, inputHash: RunPlan.noHash,
      calibration: try sources(), work: work.lineage(layers), parent: parent)
  }
}

extension DistillRun {
  /// The loss curve that a distilled folder holds; empty for others.
  static func curve(of folder: CheckpointFolder) throws -> [TrainingPoint] {
    let path = FilePath.join(folder.path, curveName)
    guard FilePath.kind(of: path) == .file else { return [] }
    return try CheckpointFolder.json(at: path)["curve"]?.array?.compactMap(
      TrainingPoint.init(json:)) ?? []
  }
}

// What the stages that write a checkpoint folder have in common, for those who run them.

import Calibration
import Checkpoints
import CondenseInference
import JSONDocuments
import LinearAlgebra
import Networks

/// A stage that reads a checkpoint and writes a folder, layer by layer.
protocol FolderStage {
  /// The stage's name, as recipes and lineages have it.
  static var kind: String { get }
  /// What it reads.
  var input: any Checkpoint { get }
  /// What calibration was asked for.
  var calibrationRequest: CalibrationRequest? { get }
  /// The resolved options, as the lineage and the report tell them.
  var options: JSONValue { get }
  /// Does the work and writes the folder `output`.
  ///
  /// - Parameters:
  ///   - inputHash: The input's content hash, when the caller knows it.
  ///   - hasDrift: Whether `complete` adds the drift, which takes room in the packed file.
  ///   - complete: Called with the complete folder before it gets its name, to add files to it.
  ///   - progress: Called with what is done and the share.
  ///   - finished: Called with each finished layer and the seconds it took.
  func run(
    output path: String, force: Bool, inputHash: String?, hasDrift: Bool,
    complete: (String) throws -> Void, progress: @escaping (String, Double) -> Void,
    finished: @escaping (LayerRecord, Double) -> Void
  ) throws -> StageResult
}

extension QuantizeRun: FolderStage {
  static let kind = "quantize"
  var options: JSONValue { request.json }
  var calibrationRequest: CalibrationRequest? { request.calibration }
}

extension PruneRun: FolderStage {
  static let kind = "prune"
  var options: JSONValue { request.json }
  var calibrationRequest: CalibrationRequest? { request.calibration }
}

extension FolderStage {
  /// Loads the calibration set, for architectures that are known; nil without one.
  func loadCalibration(
    progress: (String, Double) -> Void = { _, _ in }
  ) throws -> LoadedCalibration? {
    try calibrationRequest?.load(for: input, progress: progress)
  }

  /// The hash of everything that the result depends on.
  ///
  /// - Parameter inputHash: The input's content hash.
  func key(inputHash: String, calibration: JSONValue) -> String {
    var hash = ContentHash()
    for part in [
      toolVersion, Self.kind, BLAS.description, inputHash, input.tower ?? "", options.compactText,
      calibration.compactText,
    ] { hash.update(part) }
    return hash.digits
  }

  /// The entry of the lineage.
  func lineage(
    inputHash: String, calibration: JSONValue, work: JSONValue, parent: JSONValue
  ) -> JSONValue {
    Lineage.entry(
      stage: Self.kind, options: options, seed: calibrationRequest?.seed ?? 0,
      input: input, inputHash: inputHash, calibration: calibration, work: work, parent: parent)
  }

  /// Works in the folder of an output: what `body` writes as the result is read back, completed and gets its name.
  func work(
    output path: String, key: String, force: Bool, complete: (String) throws -> Void,
    body: (StageOutput) throws -> StageResult
  ) throws -> StageResult {
    guard let output = try StageOutput(path: path, key: key, force: force) else {
      return StageResult(layers: [], calibration: nil, resumedLayers: 0, requantized: [])
    }
    do {
      let result = try body(output)
      try ReadBack.check(output.resultPath)
      try complete(output.resultPath)
      try output.finish(force: force)
      return result
    } catch {
      // Only an interruption leaves work to resume; an error of the input would come again.
      output.abandon()
      throw error
    }
  }
}

extension CalibrationRequest {
  /// The set for a checkpoint; nil when no forward pass of it is known.
  func load(
    for input: any Checkpoint, progress: (String, Double) -> Void
  ) throws -> LoadedCalibration? {
    guard FamilyRegistry.family(of: input) != nil else { return nil }
    let loaded = try load(for: try Model(input), progress: progress)
    return LoadedCalibration(
      set: loaded.set, rest: loaded.rest,
      json: json(loaded.set, files: loaded.files))
  }
}

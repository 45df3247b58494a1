// What the stages that write a checkpoint folder have in common, for those who run them.

import Calibration
import Checkpoints
import CondenseInference
import JSONDocuments
import Networks

/// A stage that reads a checkpoint and writes a folder, layer by layer.
protocol FolderStage {
  /// The resolved options, as the lineage and the report tell them.
  var options: JSONValue { get }
  /// Loads the calibration set, for architectures that are known; nil without one.
  func loadCalibration(progress: (String, Double) -> Void) throws -> LoadedCalibration?
  /// The hash of everything that the result depends on.
  func key(inputHash: String, calibration: JSONValue) -> String
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
  var options: JSONValue { request.json }
}

extension PruneRun: FolderStage {
  var options: JSONValue { request.json }
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
      json: json(used: loaded.set.tokensUsed, hashes: loaded.hashes))
  }
}

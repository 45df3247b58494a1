// lineage.json: how a checkpoint came to be. It holds hashes and names, no paths, clocks or thread counts, so
// that the same work gives the same bytes anywhere.

import Bundles
public import Checkpoints
import JSONDocuments
import LinearAlgebra
import Networks

/// The version of this program.
public let toolVersion = "0.1.0"

enum Lineage {
  /// The entry of a stage.
  static func entry(
    stage: String, options: JSONValue, seed: Int, input: any Checkpoint, inputHash: String,
    calibration: JSONValue, work: JSONValue, parent: JSONValue
  ) -> JSONValue {
    entry(
      stage: stage, options: options, seed: seed, inputName: FilePath.name(of: input.path),
      tower: input.tower, inputHash: inputHash, calibration: calibration, work: work,
      parent: parent)
  }

  /// The entry of a stage whose input is known by name.
  static func entry(
    stage: String, options: JSONValue, seed: Int, inputName: String, tower: String? = nil,
    inputHash: String, calibration: JSONValue, work: JSONValue, parent: JSONValue
  ) -> JSONValue {
    var input = JSONObject()
    input["name"] = .string(inputName)
    input["sha256"] = .string(inputHash)
    if let tower { input["tower"] = .string(tower) }
    return [
      "schema": 1, "tool": .string("condense " + toolVersion), "stage": .string(stage),
      "options": options, "seed": .integer(seed),
      "computed_with": .string(BLAS.description),
      "input": .object(input),
      "calibration": calibration, "work": work, "parent": parent,
    ]
  }

  /// The lineage of a checkpoint; null when it is an original.
  static func parent(of checkpoint: any Checkpoint) throws -> JSONValue {
    if let wrapped = checkpoint as? CheckpointWithTokenizer {
      return try parent(of: wrapped.source)
    }
    if let tower = checkpoint as? TowerCheckpoint { return try parent(of: tower.source) }
    if let changed = checkpoint as? TransformedCheckpoint { return try parent(of: changed.source) }
    if let bundle = checkpoint as? ModelBundle { return bundle.bundleManifest.lineage }
    if let file = checkpoint as? GGUFCheckpoint {
      guard let text = file.metadata[GGUFCheckpoint.lineageKey]?.text else { return .null }
      return (try? JSONValue(parsing: text)) ?? .null
    }
    return try side("lineage.json", of: checkpoint)
  }

  /// Whether a stage is among those that made a checkpoint.
  static func holds(_ stage: String, in lineage: JSONValue) -> Bool {
    var entry: JSONValue? = lineage
    while let own = entry, own != .null {
      if own["stage"]?.string == stage { return true }
      entry = own["parent"]
    }
    return false
  }

  /// The drift that a checkpoint says of itself; null when it says nothing.
  static func drift(of checkpoint: any Checkpoint) throws -> JSONValue {
    if let bundle = checkpoint as? ModelBundle { return bundle.bundleManifest.drift }
    return try side("drift.json", of: checkpoint)
  }

  private static func side(_ name: String, of checkpoint: any Checkpoint) throws -> JSONValue {
    guard checkpoint is CheckpointFolder else { return .null }
    let path = FilePath.join(checkpoint.path, name)
    guard FilePath.kind(of: path) == .file else { return .null }
    return try CheckpointFolder.json(at: path)
  }
}

/// The hash of everything in a checkpoint that a stage depends on: weights, side files and lineage.
public func contentHash(of checkpoint: any Checkpoint) throws -> String {
  var hash = ContentHash()
  if let tower = checkpoint as? TowerCheckpoint {
    // What is not of the tower goes into the stage's result too.
    hash.update(try contentHash(of: tower.source))
    hash.update("tower " + tower.tower)
    return hash.digits
  }
  if let wrapped = checkpoint as? CheckpointWithTokenizer {
    hash.update(try contentHash(of: wrapped.source))
    hash.update(ContentHash.of(try wrapped.sideFile(wrapped.tokenizerName)))
    return hash.digits
  }
  if let folder = checkpoint as? CheckpointFolder {
    for path in folder.weightFilePaths {
      hash.update(FilePath.name(of: path))
      hash.update(try ContentHash.of(file: path))
    }
    for name in folder.sideFileNames {
      hash.update(name)
      hash.update(ContentHash.of(try folder.sideFile(name)))
    }
    hash.update(try Lineage.parent(of: folder).compactText)
  } else if FilePath.kind(of: checkpoint.path) == .folder {
    // Folders of other weights: every tensor, then what stands beside them.
    hash.update(checkpoint.configuration.compactText)
    for name in checkpoint.tensorNames {
      guard let tensor = checkpoint.tensor(name) else { continue }
      hash.update(name)
      hash.update(ContentHash.of(tensor))
    }
    for name in checkpoint.sideFileNames {
      hash.update(name)
      hash.update(ContentHash.of(try checkpoint.sideFile(name)))
    }
  } else if let file = checkpoint as? GGUFCheckpoint {
    for path in file.weightFilePaths { hash.update(try ContentHash.of(file: path)) }
  } else {
    hash.update(try ContentHash.of(file: checkpoint.path))
  }
  return hash.digits
}

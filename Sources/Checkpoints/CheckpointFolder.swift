// A Hugging Face checkpoint folder: config.json, safetensors in one file or shards, side files.

public import JSONDocuments
public import Tensors

/// A checkpoint folder. Opening reads headers and the configuration; weights stay mapped.
public struct CheckpointFolder: Checkpoint {
  /// The folder or file, as the caller named it.
  public let path: String
  /// The model's configuration.
  public let configuration: JSONValue
  /// The encoded weights.
  public let manifest: WeightManifest
  /// The stored tensors, in the order of the data.
  public let tensorNames: [String]
  /// Files beside the weights.
  public let sideFileNames: [String]
  private let files: [SafetensorsFile]
  private let fileOfTensor: [String: Int]

  /// What the format is called in messages.
  public var formatName: String { "checkpoint folder" }

  /// The weights of an unsharded folder.
  public static let weightsName = "model.safetensors"
  /// The index of a sharded one.
  public static let indexName = "model.safetensors.index.json"
  /// Files that stages write anew, and that are no side files.
  public static let stageFileNames = ["lineage.json", "drift.json", "training.json"]

  /// Opens a folder.
  ///
  /// - Throws: `CheckpointError` for what is in it, `FileError` when something cannot be opened.
  public init(path: String) throws {
    let path = FilePath.withoutTrailingSlash(path)
    self.path = path
    let names = try Self.files(under: path, prefix: "", depth: 0)
    guard names.contains("config.json") else {
      throw CheckpointError(path: path, .missingFile("config.json"))
    }
    configuration = try Self.json(at: FilePath.join(path, "config.json"))
    let indexPath = FilePath.join(path, Self.indexName)
    let shards: [(name: String, tensors: Set<String>?)]
    if names.contains(Self.weightsName) {
      shards = [(Self.weightsName, nil)]
    } else if names.contains(Self.indexName) {
      shards = try Self.shards(index: try Self.json(at: indexPath), path: indexPath)
    } else {
      throw CheckpointError(path: path, .missingFile(Self.weightsName))
    }
    var files: [SafetensorsFile] = []
    var fileOfTensor: [String: Int] = [:]
    var tensorNames: [String] = []
    var manifest = WeightManifest()
    for shard in shards {
      guard names.contains(shard.name) else {
        throw CheckpointError(path: indexPath, .missingShard(shard.name))
      }
      let file = try SafetensorsFile(path: FilePath.join(path, shard.name))
      let held = Set(file.tensorNames)
      for name in (shard.tensors ?? []).sorted() where !held.contains(name) {
        throw CheckpointError(path: indexPath, tensor: name, .notInShard(shard.name))
      }
      for name in file.tensorNames {
        if let other = fileOfTensor.updateValue(files.count, forKey: name) {
          throw CheckpointError(
            path: file.path, tensor: name, .duplicateTensor(other: files[other].path))
        }
        tensorNames.append(name)
      }
      manifest = manifest.adding(
        try WeightManifest(metadata: file.header.metadata, path: file.path))
      files.append(file)
    }
    self.files = files
    self.fileOfTensor = fileOfTensor
    self.tensorNames = tensorNames
    self.manifest = manifest
    let shardNames = Set(shards.map(\.name))
    sideFileNames = names.filter { name in
      !shardNames.contains(name) && name != Self.indexName && !Self.stageFileNames.contains(name)
    }
  }

  /// A view of one stored tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? {
    fileOfTensor[name].flatMap { files[$0].tensor(name) }
  }

  /// The bytes of a file beside the weights.
  public func sideFile(_ name: String) throws -> [UInt8] {
    try FilePath.read(FilePath.join(path, name))
  }

  /// The weight files' metadata, the first file's first.
  public var metadata: [String: String] {
    files.reduce(into: [:]) { all, file in
      all.merge(file.header.metadata) { first, _ in first }
    }
  }

  /// The weight files, in the order of the index.
  public var weightFilePaths: [String] { files.map(\.path) }

  /// Relative paths of everything in the folder.
  public func allFiles() throws -> [String] { try Self.files(under: path, prefix: "", depth: 0) }

  /// Bytes of everything.
  public var byteCount: Int {
    files.reduce(0) { $0 + $1.byteCount }
      + sideFileNames.reduce(0) { $0 + (FilePath.byteCount(of: FilePath.join(path, $1)) ?? 0) }
  }

  /// Reads a JSON file.
  public static func json(at path: String) throws -> JSONValue {
    let bytes = try FilePath.read(path)
    do throws(JSONError) {
      return try JSONValue(parsing: bytes)
    } catch {
      throw CheckpointError(path: path, .badHeader(error))
    }
  }

  private static func shards(
    index: JSONValue, path: String
  ) throws(CheckpointError) -> [(name: String, tensors: Set<String>?)] {
    guard let members = index["weight_map"]?.object?.members, !members.isEmpty else {
      throw CheckpointError(path: path, .missing(key: "weight_map", expected: "an object"))
    }
    var shards: [String: Set<String>] = [:]
    for member in members {
      guard let file = member.value.string, !file.contains("/"), file != ".." else {
        throw CheckpointError(
          path: path, tensor: member.key,
          .missing(key: "weight_map", expected: "the name of a file in this folder"))
      }
      shards[file, default: []].insert(member.key)
    }
    return shards.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Relative paths of all files, sorted; hidden files and folders at the top are not the checkpoint's.
  private static func files(under root: String, prefix: String, depth: Int) throws -> [String] {
    var result: [String] = []
    let folder = prefix.isEmpty ? root : FilePath.join(root, prefix)
    for name in try FilePath.names(in: folder) where !name.hasPrefix(".") {
      let relative = prefix.isEmpty ? name : prefix + "/" + name
      switch FilePath.kind(of: FilePath.join(root, relative)) {
      case .file where !name.hasSuffix(".partial"): result.append(relative)
      case .folder where depth < 4:
        result += try files(under: root, prefix: relative, depth: depth + 1)
      default: break
      }
    }
    return result
  }
}

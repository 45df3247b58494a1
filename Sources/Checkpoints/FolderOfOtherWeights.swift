// A checkpoint folder whose weights are not safetensors: config.json and side files beside another format's file.

public import JSONDocuments
public import Tensors

/// A folder with `pytorch_model.bin`, as transformers wrote it before safetensors.
public struct FolderOfOtherWeights: Checkpoint {
  private let weights: any Checkpoint
  private let fileName: String
  /// The folder, as the caller named it.
  public let path: String
  /// The model's configuration.
  public let configuration: JSONValue
  /// Files beside the weights.
  public let sideFileNames: [String]

  /// The weights that are looked for where there are no safetensors.
  static let weightsName = "pytorch_model.bin"

  /// Whether a folder has such weights and no others.
  public static func recognizes(_ path: String) -> Bool {
    func has(_ name: String) -> Bool { FilePath.kind(of: FilePath.join(path, name)) == .file }
    return has(weightsName) && !has(CheckpointFolder.weightsName)
      && !has(CheckpointFolder.indexName)
  }

  /// Opens a folder.
  public init(path: String) throws {
    let path = FilePath.withoutTrailingSlash(path)
    self.path = path
    fileName = Self.weightsName
    let names = try FilePath.names(in: path).filter { name in
      !name.hasPrefix(".") && FilePath.kind(of: FilePath.join(path, name)) == .file
    }
    guard names.contains("config.json") else {
      throw CheckpointError(path: path, .missingFile("config.json"))
    }
    configuration = try CheckpointFolder.json(at: FilePath.join(path, "config.json"))
    weights = try PyTorchFormat.open(FilePath.join(path, fileName))
    sideFileNames = names.filter { name in
      name != Self.weightsName && !CheckpointFolder.stageFileNames.contains(name)
    }.sorted()
  }

  /// What the format is called in messages.
  public var formatName: String { "checkpoint folder of a \(weights.formatName)" }
  /// The encoded weights.
  public var manifest: WeightManifest { weights.manifest }
  /// The stored tensors.
  public var tensorNames: [String] { weights.tensorNames }
  /// A view of one stored tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? { weights.tensor(name) }
  /// The bytes of a file beside the weights.
  public func sideFile(_ name: String) throws -> [UInt8] {
    try FilePath.read(FilePath.join(path, name))
  }
  /// Bytes of everything.
  public var byteCount: Int {
    sideFileNames.reduce(weights.byteCount) {
      $0 + (FilePath.byteCount(of: FilePath.join(path, $1)) ?? 0)
    }
  }
}

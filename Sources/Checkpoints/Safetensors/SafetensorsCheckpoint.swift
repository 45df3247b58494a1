// A single safetensors file as a checkpoint: tensors without a configuration beside them.

public import JSONDocuments
public import Tensors

/// A safetensors file outside a checkpoint folder.
public struct SafetensorsCheckpoint: Checkpoint {
  private let file: SafetensorsFile
  /// The encoded weights.
  public let manifest: WeightManifest

  /// Maps a file and checks its header.
  public init(path: String) throws {
    file = try SafetensorsFile(path: path)
    manifest = try WeightManifest(metadata: file.header.metadata, path: path)
  }

  /// The file, as the caller named it.
  public var path: String { file.path }
  /// What the format is called in messages.
  public var formatName: String { SafetensorsFormat.formatName }
  /// Nothing: a safetensors file does not say what its tensors are for.
  public var configuration: JSONValue { .object(JSONObject()) }
  /// The stored tensors, in the order of the data.
  public var tensorNames: [String] { file.tensorNames }
  /// A view of one stored tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? { file.tensor(name) }
  /// None.
  public var sideFileNames: [String] { [] }
  /// None.
  public func sideFile(_ name: String) throws -> [UInt8] {
    throw CheckpointError(path: path, .missingFile(name))
  }
  /// Bytes of the file.
  public var byteCount: Int { file.byteCount }
}

/// Safetensors as one of the formats.
public enum SafetensorsFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "safetensors file"

  /// Eight bytes of length, then a JSON object; a damaged file is known by its name.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    if path.hasSuffix(".safetensors") || path.hasSuffix(".condensed") { return true }
    guard start.count >= 10, start[8] == UInt8(ascii: "{") else { return false }
    let length = (0..<8).reduce(UInt64(0)) { $0 | UInt64(start[$1]) << (8 * UInt64($1)) }
    return length >= 2 && length < 1 << 32
  }

  /// Opens a file.
  public static func open(_ path: String) throws -> any Checkpoint {
    try SafetensorsCheckpoint(path: path)
  }
}

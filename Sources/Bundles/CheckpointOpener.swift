// Opens whatever holds a model: what is at the path says which format it is.

public import Checkpoints
import Tensors

/// A bundle as one of the formats.
public enum BundleFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "bundle"

  /// A safetensors file whose metadata names this format.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    guard SafetensorsFormat.recognizes(start, path: path) else { return false }
    return path.hasSuffix(".condensed")
      || (try? SafetensorsFile(path: path))?.header.metadata["format"] == BundleManifest.format
  }

  /// Opens a bundle.
  public static func open(_ path: String) throws -> any Checkpoint { try ModelBundle(path: path) }
}

/// Opens a model of any format.
public enum CheckpointOpener {
  /// Opens a checkpoint folder, a bundle or another program's file.
  ///
  /// - Parameter formats: Formats of other modules, asked first.
  public static func open(
    _ path: String, adding formats: [any CheckpointFormat.Type] = []
  ) throws -> any Checkpoint {
    switch FilePath.kind(of: path) {
    case .folder:
      if FolderOfOtherWeights.recognizes(path) { return try FolderOfOtherWeights(path: path) }
      let folder = try CheckpointFolder(path: path)
      return CompressedTensorsCheckpoint.recognizes(folder)
        ? try CompressedTensorsCheckpoint(folder) : folder
    case .file, .other: break
    case nil: throw FileError(path: path, operation: "open", code: 2)
    }
    let (format, known, start) = try recognize(path, adding: formats)
    if let format { return try format.open(path) }
    throw CheckpointError(
      path: path, .unknownFormat(known: known, start: Array(start.prefix(8))))
  }

  /// The format of a file; nil when it begins like none.
  public static func format(
    of path: String, adding formats: [any CheckpointFormat.Type] = []
  ) throws -> (any CheckpointFormat.Type)? {
    try recognize(path, adding: formats).format
  }

  private static func recognize(
    _ path: String, adding formats: [any CheckpointFormat.Type]
  ) throws -> (format: (any CheckpointFormat.Type)?, known: [String], start: [UInt8]) {
    let bytes = try StoredBytes(mapping: path)
    let start = bytes.withBytes(0..<min(bytes.count, CheckpointFormats.startBytes)) { span in
      (0..<span.byteCount).map { unsafe span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
    }
    let all = formats + [BundleFormat.self] + CheckpointFormats.all
    return (
      all.first { $0.recognizes(start, path: path) }, all.map { $0.formatName }, start
    )
  }
}

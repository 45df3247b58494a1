// HDF5 files as checkpoints: Keras models and weights, files of HDF5Writer, any other tree of datasets.

public import Checkpoints
import JSONDocuments
import Tensors

/// HDF5 files.
public enum HDF5Format: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "HDF5 file"

  private static let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
  private static let suffixes = [".h5", ".hdf5", ".hdf"]

  /// The signature, at the start or behind a block of the user's (512, 1024 … bytes); or the name.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    for offset in [0, 512, 1024, 2048] where start.dropFirst(offset).starts(with: signature) {
      return true
    }
    return suffixes.contains { path.hasSuffix($0) }
  }

  /// Opens a file. Datasets that lie in one piece are views of it, others are decoded.
  public static func open(_ path: String) throws -> any Checkpoint {
    let bytes = try StoredBytes(mapping: path)
    let tree = try HDF5Tree(path: path, bytes: bytes, range: 0..<bytes.count)
    if tree.text(HDF5Names.versionAttribute) != nil {
      return try HDF5Checkpoint(tree, byteCount: bytes.count)
    }
    return try KerasModel.file(of: tree, byteCount: bytes.count)
  }
}

/// Keras 3 archives.
public enum KerasFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "Keras archive"

  static let weightsName = "model.weights.h5"

  /// A zip archive with `model.weights.h5` in it, or the name.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    if path.hasSuffix(".keras") { return true }
    guard ZipArchive.recognizes(start), let archive = try? ZipArchive(path: path) else {
      return false
    }
    return archive[weightsName] != nil
  }

  /// Opens an archive: the weights where they lie, the configuration beside them.
  public static func open(_ path: String) throws -> any Checkpoint {
    let archive = try ZipArchive(path: path)
    guard let weights = archive[weightsName] else {
      throw CheckpointError(path: path, .missingEntry(weightsName))
    }
    let contents = try archive.contents(of: weights)
    let tree = try HDF5Tree(path: path, bytes: contents.storage, range: contents.range)
    return try KerasModel.file(
      of: tree, byteCount: archive.bytes.count,
      configuration: try json("config.json", in: archive),
      version: try json("metadata.json", in: archive)?["keras_version"]?.string)
  }

  private static func json(
    _ name: String, in archive: ZipArchive
  ) throws(CheckpointError) -> JSONValue? {
    guard let entry = archive[name] else { return nil }
    let contents = try archive.contents(of: entry)
    let text = ByteReader(contents.storage).array(contents.range)
    do throws(JSONError) {
      return try JSONValue(parsing: text)
    } catch {
      throw CheckpointError(path: archive.path, tensor: name, .badHeader(error))
    }
  }
}

// Opens NAME.condensed: a safetensors file whose metadata holds the manifest.

public import Checkpoints
public import JSONDocuments
public import Tensors

/// A bundle. Opening reads the header; weights stay mapped and in their encodings.
public struct ModelBundle: Checkpoint {
  /// The folder or file, as the caller named it.
  public let path: String
  /// What the bundle says about itself.
  public let bundleManifest: BundleManifest
  /// The stored tensors, in the order of the data.
  public let tensorNames: [String]
  private let file: SafetensorsFile

  /// What the format is called in messages.
  public var formatName: String { "bundle" }
  /// The model's configuration.
  public var configuration: JSONValue { bundleManifest.configuration }
  /// The encoded weights.
  public var manifest: WeightManifest { bundleManifest.weights }
  /// Files beside the weights.
  public var sideFileNames: [String] { bundleManifest.sideFiles.map(\.name) }
  /// Bytes of everything.
  public var byteCount: Int { file.byteCount }

  /// Opens a bundle.
  public init(path: String) throws {
    try self.init(file: try SafetensorsFile(path: path))
  }

  /// Opens a file whose header is read already.
  public init(file: SafetensorsFile) throws(CheckpointError) {
    path = file.path
    self.file = file
    let metadata = file.header.metadata
    guard metadata["format"] == BundleManifest.format else {
      throw CheckpointError(
        path: file.path, .missing(key: "__metadata__.format", expected: BundleManifest.format))
    }
    guard metadata["version"] == String(BundleManifest.version) else {
      throw CheckpointError(
        path: file.path,
        .unsupported(
          "version \(metadata["version"] ?? "none") of the bundle format (this program reads "
            + "\(BundleManifest.version))"))
    }
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue(parsing: metadata["manifest"] ?? "")
    } catch {
      throw CheckpointError(path: file.path, .badHeader(error))
    }
    do throws(CheckpointError.Problem) {
      bundleManifest = try BundleManifest(json: json)
    } catch {
      throw CheckpointError(path: file.path, error)
    }
    let files = Set(bundleManifest.sideFiles.map(\.tensorName))
    tensorNames = file.tensorNames.filter {
      !files.contains($0) && !$0.hasPrefix(BundleManifest.padPrefix)
    }
    for side in bundleManifest.sideFiles {
      guard let tensor = file.tensor(side.tensorName), tensor.dtype == .uint8 else {
        throw CheckpointError(path: file.path, tensor: side.tensorName, .tensorNotFound)
      }
    }
  }

  /// A view of one stored tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? {
    name.hasPrefix(BundleManifest.padPrefix) || name.hasPrefix("file:") ? nil : file.tensor(name)
  }

  /// The bytes of a file beside the weights.
  public func sideFile(_ name: String) throws -> [UInt8] {
    guard let side = bundleManifest.sideFiles.first(where: { $0.name == name }),
      let tensor = file.tensor(side.tensorName)
    else { throw CheckpointError(path: path, .missingFile(name)) }
    let stored = tensor.withBytes { unsafe $0.withUnsafeBytes { unsafe [UInt8]($0) } }
    guard side.isDeflated else { return stored }
    guard let bytes = Deflate.inflate(stored, byteCount: side.byteCount) else {
      throw CheckpointError(
        path: path, tensor: side.tensorName, .unsupported("a damaged zlib stream"))
    }
    return bytes
  }

  /// Compares every tensor's bytes with the manifest's hashes, on all threads.
  ///
  /// - Throws: `CheckpointError` with the first tensor, in the order of the manifest, that differs.
  public func verifyHashes() throws(CheckpointError) {
    let listed = Set(bundleManifest.hashes.map(\.tensor))
    for name in file.tensorNames
    where !name.hasPrefix(BundleManifest.padPrefix) && !listed.contains(name) {
      throw CheckpointError(
        path: path, tensor: name, .missing(key: "manifest.sha256.\(name)", expected: "a hash"))
    }
    let hashes = bundleManifest.hashes
    let found = ParallelLoop.map(hashes.count) { index in
      file.tensor(hashes[index].tensor).map { ContentHash.of($0) } ?? ""
    }
    for (hash, found) in zip(hashes, found) where hash.digits != found {
      if found.isEmpty { throw CheckpointError(path: path, tensor: hash.tensor, .tensorNotFound) }
      throw CheckpointError(
        path: path, tensor: hash.tensor, .hashMismatch(found: found, expected: hash.digits))
    }
  }
}

// Writes tensors as an HDF5 file that h5py and any other HDF5 program reads.
//
// Layout   one dataset for each tensor in the root, in the order of writing; side files as bytes in the group
//          `condense_files`; the configuration and the manifest as JSON in attributes of the root
// Types    IEEE floats; bfloat16 as a float type of its own (sign 15, exponent 7…14, mantissa 0…6, bias
//          127), booleans as h5py's enumeration over one byte: what is read is bit for bit what was written

import CHDF5
public import Checkpoints
public import JSONDocuments
public import Tensors

import Glibc

/// Writes one file, tensor after tensor.
public struct HDF5Writer: ~Copyable {
  private let path: String
  private let temporaryPath: String
  private let options: Options
  private var file: hid_t = -1
  private var isFinished = false

  /// How datasets are stored.
  public struct Options: Sendable {
    /// Elements of a chunk that is deflated by this level, 1 to 9; nil stores each tensor in one piece,
    /// which a reader maps.
    public var deflateLevel: UInt32?
    /// Elements of a chunk, along the outermost dimension as many rows as fit.
    public var chunkElements = 1 << 16

    /// Options; by default tensors are stored in one piece.
    public init(deflateLevel: UInt32? = nil) { self.deflateLevel = deflateLevel }
  }

  /// Starts a file, which appears under its name when it is finished.
  public init(
    path: String, configuration: JSONValue? = nil, manifest: WeightManifest? = nil,
    options: Options = Options()
  ) throws(CheckpointError) {
    self.path = path
    self.options = options
    temporaryPath = path + ".partial"
    let temporaryPath = temporaryPath
    file = try HDF5Library.withLock { () throws(CheckpointError) in
      try HDF5Writing.createFile(temporaryPath, path: path)
    }
    try attribute(HDF5Names.versionAttribute, HDF5Names.version)
    if let configuration {
      try attribute(HDF5Names.configurationAttribute, configuration.compactText)
    }
    if let manifest, !manifest.entries.isEmpty {
      try attribute(HDF5Names.manifestAttribute, manifest.json.compactText)
    }
  }

  /// Appends a tensor; no two have one name.
  public mutating func write(_ name: String, _ tensor: Tensor) throws(CheckpointError) {
    try dataset(HDF5Names.escaped(name), tensor, named: name)
  }

  /// Appends a side file.
  public mutating func writeFile(_ name: String, _ bytes: [UInt8]) throws(CheckpointError) {
    let tensor = Tensor(.uint8, shape: [bytes.count], copying: bytes)
    try dataset(HDF5Names.files + "/" + HDF5Names.escaped(name), tensor, named: name)
  }

  /// Completes the file under its name.
  public consuming func finish() throws {
    let file = file
    self.file = -1
    let path = path
    try HDF5Library.withLock { () throws(CheckpointError) in
      guard H5Fclose(file) >= 0 else { throw HDF5Writing.error(path, nil) }
    }
    let descriptor = unsafe open(temporaryPath, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0, fsync(descriptor) == 0 else {
      throw FileError(path: path, operation: "write", code: errno)
    }
    close(descriptor)
    try FilePath.rename(temporaryPath, to: path)
    isFinished = true
  }

  deinit {
    guard !isFinished else { return }
    if file >= 0 {
      let file = file
      HDF5Library.withLock { _ = H5Fclose(file) }
    }
    _ = unsafe unlink(temporaryPath)
  }

  private func attribute(_ name: String, _ text: String) throws(CheckpointError) {
    let (file, path) = (file, path)
    try HDF5Library.withLock { () throws(CheckpointError) in
      try HDF5Writing.attribute(of: file, name, text, path: path)
    }
  }

  private func dataset(
    _ link: String, _ tensor: Tensor, named name: String
  ) throws(CheckpointError) {
    let (file, path, options) = (file, path, options)
    try HDF5Library.withLock { () throws(CheckpointError) in
      guard HDF5Writing.dataset(in: file, link, tensor, options) else {
        throw HDF5Writing.error(path, name)
      }
    }
  }
}

// Writes tensors as an HDF5 file that h5py and any other HDF5 program reads.
//
// Layout   one dataset for each tensor in the root, in the order of writing; side files as bytes in the group
//          `condense_files`; the configuration and the manifest as JSON in attributes of the root
// Types    IEEE floats; bfloat16 as a float type of its own (sign 15, exponent 7…14, mantissa 0…6, bias
//          127), booleans as h5py's enumeration over one byte: what is read is bit for bit what was written

public import Checkpoints
public import JSONDocuments
public import Tensors

/// Writes one file, tensor after tensor.
public struct HDF5Writer: ~Copyable {
  private let output: HDF5Output
  private let options: Options

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
    let output = try HDF5Output(path: path)
    try output.attribute(HDF5Names.versionAttribute, HDF5Names.version)
    if let configuration {
      try output.attribute(HDF5Names.configurationAttribute, configuration.compactText)
    }
    if let manifest, !manifest.entries.isEmpty {
      try output.attribute(HDF5Names.manifestAttribute, manifest.json.compactText)
    }
    self.options = options
    self.output = output
  }

  /// Appends a tensor; no two have one name.
  public mutating func write(_ name: String, _ tensor: Tensor) throws(CheckpointError) {
    try output.dataset(HDF5Names.escaped(name), tensor, named: name, options)
  }

  /// Appends a side file.
  public mutating func writeFile(_ name: String, _ bytes: [UInt8]) throws(CheckpointError) {
    let tensor = Tensor(.uint8, shape: [bytes.count], copying: bytes)
    try output.dataset(
      HDF5Names.files + "/" + HDF5Names.escaped(name), tensor, named: name, options)
  }

  /// Completes the file under its name.
  public consuming func finish() throws { try output.finish() }
}

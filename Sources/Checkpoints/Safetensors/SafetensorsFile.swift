public import Tensors

/// One mapped safetensors file. Opening reads the header only; tensors are views of the mapping.
public struct SafetensorsFile: Sendable {
  /// The file, as the caller named it.
  public let path: String
  /// The checked header.
  public let header: SafetensorsHeader
  private let bytes: StoredBytes
  private let indices: [String: Int]

  /// Maps a file and checks its header.
  ///
  /// - Throws: `CheckpointError` for what the file holds, `FileError` when it cannot be opened.
  public init(path: String) throws {
    try self.init(try StoredBytes(mapping: path), path: path)
  }

  /// A file whose bytes are in memory already, such as a side file of a bundle.
  ///
  /// - Parameter path: What errors call it.
  public init(contentsOf bytes: [UInt8], path: String) throws(CheckpointError) {
    try self.init(StoredBytes(copying: bytes), path: path)
  }

  private init(_ bytes: StoredBytes, path: String) throws(CheckpointError) {
    do throws(SafetensorsHeader.Failure) {
      header = try bytes.withBytes(0..<bytes.count) { span throws(SafetensorsHeader.Failure) in
        try SafetensorsHeader(of: span)
      }
    } catch {
      throw CheckpointError(path: path, tensor: error.tensor, error.problem)
    }
    self.path = path
    self.bytes = bytes
    var indices: [String: Int] = [:]
    for (index, entry) in header.entries.enumerated() {
      // Two names that Swift holds equal although their bytes differ cannot both be looked up.
      if let other = indices.updateValue(index, forKey: entry.name) {
        throw CheckpointError(
          path: path, tensor: entry.name, .duplicateTensor(other: header.entries[other].name))
      }
    }
    self.indices = indices
  }

  /// The names, in the order of the data.
  public var tensorNames: [String] { header.entries.map(\.name) }
  /// Bytes of the whole file.
  public var byteCount: Int { bytes.count }

  /// A view of one tensor; nil when the file has none of this name.
  public func tensor(_ name: String) -> Tensor? {
    guard let index = indices[name] else { return nil }
    let entry = header.entries[index]
    let start = header.dataStart
    return Tensor(
      dtype: entry.dtype, shape: entry.shape, storage: bytes,
      range: start + entry.range.lowerBound..<start + entry.range.upperBound)
  }
}

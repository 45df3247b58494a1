// Writes NumPy archives: stored entries, each array's data on a multiple of 64 bytes, so that it can be mapped.
//
// Source   APPNOTE.TXT 6.3.10 (zip64 where a size needs it), the NumPy format; see ZipArchive.swift
// Types    bfloat16 is stored as two bytes of no type ('<V2'), as the ml_dtypes package does

public import Tensors

/// Writes one `.npz`, array after array.
public struct NumPyArchiveWriter: ~Copyable {
  private var file: OutputFile
  private var directory: [UInt8] = []
  private var count = 0

  /// Starts a file, which appears under its name when it is finished.
  public init(path: String) throws(FileError) { file = try OutputFile(path: path) }

  /// Appends an array; no two have one name.
  ///
  /// - Throws: `CheckpointError` for a name that no archive may have, `FileError`.
  public mutating func write(_ name: String, _ tensor: Tensor) throws {
    guard ZipDirectory.isSafeName(name + ".npy") else {
      throw CheckpointError(path: file.path, tensor: name, .unsafeEntryName(name))
    }
    let entry = Array((name + ".npy").utf8)
    let start = file.byteCount
    let header = NumPyHeader.bytes(dtype: tensor.dtype, shape: tensor.shape)
    let size = header.count + tensor.byteCount
    let checksum = tensor.withBytes {
      Deflate.crc32($0, after: unsafe Deflate.crc32(header.span.bytes))
    }
    // An extra field whose length brings the data to its place; 0x6364 is no one's identifier.
    let needsZip64 = size > 0xFFFF_FFF0
    var extra = needsZip64 ? little(1, 2) + little(16, 2) + little(size, 8) + little(size, 8) : []
    let used = start + 30 + entry.count + extra.count + 4 + header.count
    let padding = (64 - used % 64) % 64
    extra += little(0x6364, 2) + little(padding, 2) + [UInt8](repeating: 0, count: padding)
    let sizes = needsZip64 ? little(0xFFFF_FFFF, 4) : little(size, 4)
    // Version, flags (names are UTF-8), method, time, date (1 January 1980), checksum, sizes.
    let common =
      little(needsZip64 ? 45 : 20, 2) + little(1 << 11, 2) + little(0, 4) + little(33, 2)
      + little(Int(checksum), 4) + sizes + sizes + little(entry.count, 2)
    try file.write(little(0x0403_4B50, 4) + common + little(extra.count, 2) + entry + extra)
    try file.write(header)
    let failure = tensor.withBytes { span -> FileError? in
      do throws(FileError) { try file.write(span) } catch { return error }
      return nil
    }
    if let failure { throw failure }
    addToDirectory(entry, common, size: size, start: start, needsZip64: needsZip64)
  }

  private mutating func addToDirectory(
    _ entry: [UInt8], _ common: [UInt8], size: Int, start: Int, needsZip64: Bool
  ) {
    let isFar = start > 0xFFFF_FFF0
    var fields = needsZip64 ? little(size, 8) + little(size, 8) : []
    if isFar { fields += little(start, 8) }
    let extra = fields.isEmpty ? [] : little(1, 2) + little(fields.count, 2) + fields
    directory += little(0x0201_4B50, 4) + little(45, 2) + common + little(extra.count, 2)
    directory += little(0, 10) + little(isFar ? 0xFFFF_FFFF : start, 4) + entry + extra
    count += 1
  }

  /// Completes the file under its name.
  public consuming func finish() throws(FileError) {
    let start = file.byteCount
    try file.write(directory)
    let end = file.byteCount
    if count >= 0xFFFF || end > 0xFFFF_FFF0 {
      try file.write(
        little(0x0606_4B50, 4) + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8)
          + little(count, 8) + little(count, 8) + little(directory.count, 8) + little(start, 8))
      try file.write(little(0x0706_4B50, 4) + little(0, 4) + little(end, 8) + little(1, 4))
    }
    let shortCount = little(min(count, 0xFFFF), 2)
    try file.write(
      little(0x0605_4B50, 4) + little(0, 4) + shortCount + shortCount
        + little(min(directory.count, 0xFFFF_FFFF), 4) + little(min(start, 0xFFFF_FFFF), 4)
        + little(0, 2))
    try file.finish()
  }
}

/// An integer in so many bytes.
private func little(_ value: Int, _ size: Int) -> [UInt8] {
  (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

extension NumPyHeader {
  /// The header of an array in row-major order, which fills a multiple of 64 bytes.
  static func bytes(dtype: DType, shape: [Int]) -> [UInt8] {
    let dimensions = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
    var text =
      "{'descr': '\(typeWord(dtype))', 'fortran_order': False, 'shape': (\(dimensions)), }"
    let used = (10 + text.utf8.count + 1) % 64
    text += String(repeating: " ", count: (64 - used) % 64) + "\n"
    return magic + [1, 0] + little(text.utf8.count, 2) + Array(text.utf8)
  }

  private static func typeWord(_ dtype: DType) -> String {
    switch dtype {
    case .float64: "<f8"
    case .float32: "<f4"
    case .float16: "<f2"
    case .bfloat16: "<V2"
    case .int64: "<i8"
    case .int32: "<i4"
    case .int16: "<i2"
    case .int8: "|i1"
    case .uint64: "<u8"
    case .uint32: "<u4"
    case .uint16: "<u2"
    case .uint8: "|u1"
    case .bool: "|b1"
    }
  }
}

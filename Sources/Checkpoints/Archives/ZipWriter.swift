// Writes zip archives of stored entries, each entry's data on a multiple of 64 bytes, so that it can be mapped.
//
// Source   APPNOTE.TXT 6.3.10 (zip64 where a size needs it); see ZipArchive.swift

public import Tensors

/// Writes one archive, entry after entry.
public struct ZipWriter: ~Copyable {
  private var file: OutputFile
  private var directory: [UInt8] = []
  private var count = 0

  /// Starts a file, which appears under its name when it is finished.
  public init(path: String) throws(FileError) { file = try OutputFile(path: path) }

  /// Appends an entry; no two have one name.
  ///
  /// - Parameters:
  ///   - header: Bytes before the data.
  ///   - data: Whose bytes follow them.
  /// - Throws: `CheckpointError` for a name that no archive may have, `FileError`.
  public mutating func write(_ name: String, header: [UInt8] = [], _ data: Tensor) throws {
    guard ZipDirectory.isSafeName(name) else {
      throw CheckpointError(path: file.path, tensor: name, .unsafeEntryName(name))
    }
    let entry = Array(name.utf8)
    let start = file.byteCount
    let size = header.count + data.byteCount
    let checksum = data.withBytes {
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
    let failure = data.withBytes { span -> FileError? in
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
func little(_ value: Int, _ size: Int) -> [UInt8] {
  (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

// The central directory of a zip archive and the local headers that it points to.

import Tensors

/// Reads the directory; see ZipArchive.swift for the source.
enum ZipDirectory {
  private static let endSignature: UInt64 = 0x0605_4B50
  private static let end64Signature: UInt64 = 0x0606_4B50
  private static let locatorSignature: UInt64 = 0x0706_4B50
  private static let centralSignature: UInt64 = 0x0201_4B50
  private static let localSignature: UInt64 = 0x0403_4B50

  /// The entries in the order of their bytes.
  static func entries(
    of bytes: StoredBytes
  ) throws(CheckpointError.Problem) -> [ZipArchive.Entry] {
    var (count, directory) = try directory(of: bytes)
    guard count <= ZipArchive.entryLimit else {
      throw .tooMany(
        what: "entries in the archive", count: Int(clamping: count), limit: ZipArchive.entryLimit)
    }
    var entries: [ZipArchive.Entry] = []
    for _ in 0..<count { entries.append(try centralHeader(&directory, of: bytes)) }
    guard directory.offset == directory.end else {
      throw .damaged(
        what: "the archive's directory goes on after its last entry", offset: directory.offset)
    }
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    for (entry, next) in zip(entries, entries.dropFirst())
    where entry.range.upperBound > next.range.lowerBound {
      throw .damaged(
        what: "the archive's entries '\(entry.name)' and '\(next.name)' share bytes",
        offset: next.range.lowerBound)
    }
    return entries
  }

  /// The number of entries and the bytes of the central directory.
  private static func directory(
    of bytes: StoredBytes
  ) throws(CheckpointError.Problem) -> (count: UInt64, directory: ByteReader) {
    guard let end = endRecord(of: bytes) else {
      throw .damaged(what: "no end of an archive's directory", offset: bytes.count)
    }
    var reader = ByteReader(bytes, at: end + 4)
    guard try reader.integer(4) == 0 else { throw .unsupported("an archive in several parts") }
    let countHere = try reader.integer(2)
    var count = try reader.integer(2)
    var size = try reader.integer(4)
    var start = try reader.integer(4)
    guard countHere == count else { throw .unsupported("an archive in several parts") }
    if count == 0xFFFF || size == 0xFFFF_FFFF || start == 0xFFFF_FFFF, end >= 20 {
      var locator = ByteReader(bytes, at: end - 20)
      if try locator.integer(4) == locatorSignature {
        try locator.skip(4)
        var record = ByteReader(bytes, at: 0)
        try record.skip(try locator.integer(8))
        guard try record.integer(4) == end64Signature else {
          throw .damaged(what: "no zip64 end of the archive's directory", offset: record.offset)
        }
        try record.skip(20)
        guard try record.integer(8) == (try record.integer(8)) else {
          throw .unsupported("an archive in several parts")
        }
        record = ByteReader(bytes, at: record.offset - 8)
        count = try record.integer(8)
        size = try record.integer(8)
        start = try record.integer(8)
      }
    }
    var directory = ByteReader(bytes, at: 0, end: end)
    try directory.skip(start)
    guard size <= UInt64(end - directory.offset), count <= size / 46 else {
      throw .damaged(
        what: "the archive's directory claims \(count) entries in \(size) bytes", offset: end)
    }
    return (count, ByteReader(bytes, at: directory.offset, end: directory.offset + Int(size)))
  }

  /// Where the end record starts: the last one whose comment fills the rest of the file.
  private static func endRecord(of bytes: StoredBytes) -> Int? {
    guard bytes.count >= 22 else { return nil }
    var start = bytes.count - 22
    let first = max(0, start - 0xFFFF)
    while start >= first {
      var reader = ByteReader(bytes, at: start)
      if (try? reader.integer(4)) == endSignature {
        reader = ByteReader(bytes, at: start + 20)
        if let comment = try? reader.integer(2),
          start + 22 + Int(comment) == bytes.count
        {
          return start
        }
      }
      start -= 1
    }
    return nil
  }

  private static func centralHeader(
    _ directory: inout ByteReader, of bytes: StoredBytes
  ) throws(CheckpointError.Problem) -> ZipArchive.Entry {
    let start = directory.offset
    guard try directory.integer(4) == centralSignature else {
      throw .damaged(what: "no entry of the archive's directory", offset: start)
    }
    try directory.skip(4)
    let flags = try directory.integer(2)
    let method = try directory.integer(2)
    try directory.skip(4)
    let checksum = UInt32(try directory.integer(4))
    var sizes = ZipSizes()
    sizes.stored = try directory.integer(4)
    sizes.inflated = try directory.integer(4)
    let nameLength = try directory.integer(2)
    let extraLength = try directory.integer(2)
    let commentLength = try directory.integer(2)
    try directory.skip(8)
    sizes.header = try directory.integer(4)
    let name = try name(try directory.claim(nameLength), of: bytes)
    let extra = try directory.claim(extraLength)
    _ = try directory.claim(commentLength)
    try sizes.readZip64(ByteReader(bytes, at: extra.lowerBound, end: extra.upperBound))
    guard flags & 0x2041 == 0 else { throw .unsupported("the encrypted entry '\(name)'") }
    guard method == 0 || method == 8 else {
      throw .unsupported("compression method \(method) of the entry '\(name)'")
    }
    let range = try data(sizes, name: name, of: bytes)
    guard let byteCount = Int(exactly: sizes.inflated),
      method == 0
        ? byteCount == range.count : Deflate.canHold(byteCount, streamBytes: range.count)
    else {
      throw .damaged(
        what: "the entry '\(name)' of \(range.count) bytes claims to hold \(sizes.inflated)",
        offset: start)
    }
    return ZipArchive.Entry(
      name: name, isDeflated: method == 8, range: range, byteCount: byteCount, checksum: checksum)
  }

  /// The bytes after the local header, which has lengths of its own.
  private static func data(
    _ sizes: ZipSizes, name: String, of bytes: StoredBytes
  ) throws(CheckpointError.Problem) -> Range<Int> {
    var local = ByteReader(bytes, at: 0)
    try local.skip(sizes.header)
    guard try local.integer(4) == localSignature else {
      throw .damaged(what: "no header of the entry '\(name)'", offset: local.offset - 4)
    }
    try local.skip(22)
    let nameLength = try local.integer(2)
    let extraLength = try local.integer(2)
    let localName = try local.claim(nameLength)
    guard try Self.name(localName, of: bytes) == name else {
      throw .damaged(
        what: "the header of the entry '\(name)' has another name", offset: localName.lowerBound)
    }
    _ = try local.claim(extraLength)
    return try local.claim(sizes.stored)
  }

  /// Whether a name stays inside the archive, should anyone ever unpack it.
  static func isSafeName(_ name: String) -> Bool {
    let bytes = name.utf8
    return !bytes.isEmpty && bytes.count < 4096 && !bytes.contains(0)
      && !bytes.contains(UInt8(ascii: "\\")) && bytes.first != UInt8(ascii: "/")
      && !name.split(separator: "/", omittingEmptySubsequences: false).contains("..")
  }

  private static func name(
    _ range: Range<Int>, of bytes: StoredBytes
  ) throws(CheckpointError.Problem) -> String {
    let raw = ByteReader(bytes).array(range)
    guard let name = String(validating: raw, as: UTF8.self) else {
      throw .unsafeEntryName(String(decoding: raw.prefix(80), as: UTF8.self))
    }
    guard isSafeName(name) else { throw .unsafeEntryName(String(name.prefix(80))) }
    return name
  }
}

/// Sizes and the place of an entry, which zip64 stores in an extra field where 32 bits are too few.
private struct ZipSizes {
  var stored: UInt64 = 0
  var inflated: UInt64 = 0
  var header: UInt64 = 0

  mutating func readZip64(_ extra: ByteReader) throws(CheckpointError.Problem) {
    var extra = extra
    let unknown: UInt64 = 0xFFFF_FFFF
    guard inflated == unknown || stored == unknown || header == unknown else { return }
    while extra.end - extra.offset >= 4 {
      let identifier = try extra.integer(2)
      let size = try extra.integer(2)
      let field = try extra.claim(size)
      guard identifier == 1 else { continue }
      var extra = ByteReader(extra.bytes, at: field.lowerBound, end: field.upperBound)
      if inflated == unknown { inflated = try extra.integer(8) }
      if stored == unknown { stored = try extra.integer(8) }
      if header == unknown { header = try extra.integer(8) }
      return
    }
  }
}

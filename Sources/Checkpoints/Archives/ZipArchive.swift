// Reads zip archives, as torch.save, numpy.savez and Keras 3 write them. Nothing is ever unpacked to disk.
//
// Source   APPNOTE.TXT 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT: end of central
//          directory 4.3.16, zip64 4.3.14 and 4.3.15, central header 4.3.12, local header 4.3.7,
//          zip64 extra field 4.5.3
// Refused  names that lead out, two entries of one name, entries that share bytes, encryption, methods
//          other than stored and deflated: https://www.bamsoftware.com/hacks/zipbomb/ shows why

public import Tensors

/// The directory of a zip archive, checked before any entry is read.
public struct ZipArchive: Sendable {
  /// A file in the archive.
  public struct Entry: Sendable, Equatable {
    /// Its path in the archive.
    public let name: String
    /// Whether its bytes are deflated.
    public let isDeflated: Bool
    /// Where its stored bytes lie in the file.
    public let range: Range<Int>
    /// Its size when it is inflated.
    public let byteCount: Int
    /// The CRC-32 of its inflated bytes.
    public let checksum: UInt32
  }

  /// The file, as the caller named it.
  public let path: String
  /// The entries, in the order of their bytes.
  public let entries: [Entry]
  /// The whole file.
  public let bytes: StoredBytes
  private let indices: [String: Int]

  /// No archive of tensors has more entries.
  public static let entryLimit = 1 << 18

  /// Whether a file begins like an archive with something in it, or is an empty one.
  public static func recognizes(_ start: [UInt8]) -> Bool {
    start.starts(with: [0x50, 0x4B, 3, 4]) || start.starts(with: [0x50, 0x4B, 5, 6])
  }

  /// Maps a file and checks its directory.
  public init(path: String) throws {
    try self.init(path: path, bytes: try StoredBytes(mapping: path))
  }

  /// Checks the directory of a file that is mapped already.
  public init(path: String, bytes: StoredBytes) throws(CheckpointError) {
    self.path = path
    self.bytes = bytes
    do throws(CheckpointError.Problem) {
      entries = try ZipDirectory.entries(of: bytes)
      var indices: [String: Int] = [:]
      for (index, entry) in entries.enumerated() {
        if indices.updateValue(index, forKey: entry.name) != nil {
          throw .duplicateEntry(entry.name)
        }
      }
      self.indices = indices
    } catch {
      throw CheckpointError(path: path, error)
    }
  }

  /// An entry; nil when there is none of this name.
  public subscript(name: String) -> Entry? { indices[name].map { entries[$0] } }

  /// Inflates an entry to nothing, so that a later reading cannot fail.
  ///
  /// - Parameter body: Sees the bytes, at most 64 KB at a time; the checksum needs them all.
  func check(
    _ entry: Entry, _ body: (RawSpan) -> Void = { _ in }
  ) throws(CheckpointError) {
    let isWhole = bytes.withBytes(entry.range) { span -> Bool in
      var sum: UInt32 = 0
      guard entry.isDeflated else {
        body(span)
        return Deflate.crc32(span) == entry.checksum
      }
      let isWhole = Deflate.inflateRaw(span, byteCount: entry.byteCount) { piece in
        sum = Deflate.crc32(piece, after: sum)
        body(piece)
        return true
      }
      return isWhole && sum == entry.checksum
    }
    guard isWhole else { throw CheckpointError(path: path, .damagedEntry(entry.name)) }
  }

  /// An entry's bytes: where they lie in the file, or a copy when they are deflated.
  ///
  /// - Throws: `CheckpointError` when they are not those that were stored, or would take more than
  ///   `DecodedLimit` allows. Stored bytes are not read, so that only their size is checked.
  public func contents(
    of entry: Entry
  ) throws(CheckpointError) -> (storage: StoredBytes, range: Range<Int>) {
    guard entry.isDeflated else { return (bytes, entry.range) }
    let limit = DecodedLimit.bytes(fileBytes: bytes.count)
    guard entry.byteCount <= limit else {
      throw CheckpointError(
        path: path,
        .tooLarge(what: "'\(entry.name)' inflates to", bytes: entry.byteCount, limit: limit))
    }
    try check(entry)
    return (inflated(entry), 0..<entry.byteCount)
  }

  /// The bytes of a deflated entry that was checked before.
  func inflated(_ entry: Entry) -> StoredBytes {
    StoredBytes(count: entry.byteCount) { target in
      bytes.withBytes(entry.range) { span in
        var offset = 0
        _ = Deflate.inflateRaw(span, byteCount: entry.byteCount) { piece in
          unsafe piece.withUnsafeBytes { source in
            unsafe target.withUnsafeMutableBytes { target in
              unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + source.count])
                .copyMemory(from: source)
            }
          }
          offset += piece.byteCount
          return true
        }
      }
    }
  }
}

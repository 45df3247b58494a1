// What the child process found in an HDF5 file. The layout is that of hdf5_reader.h; nothing in it is
// trusted, for the child may have been taken over by the file.

import CHDF5Reader
import Checkpoints
import Glibc
import Tensors

/// A dataset, an attribute or a complaint.
struct HDF5Record {
  enum Kind: UInt32 {
    case error = 1
    case inFile, decoded, skipped, refused, tooLarge, attribute, alias, chunked
  }

  let kind: Kind
  let dtype: DType
  let isBigEndian: Bool
  let shape: [Int]
  let offset: Int
  let byteCount: Int
  /// The path from the root, without a leading slash; of an attribute: object, NUL, attribute.
  let name: String
  let text: String
  /// The strings of an attribute.
  let strings: [String]
}

/// The records, and the memory in which decoded elements lie.
struct HDF5Answer {
  let records: [HDF5Record]
  let memory: StoredBytes

  /// Reads a file's bytes in a child process.
  ///
  /// - Parameters:
  ///   - range: Where the file lies in the bytes, which may be an archive.
  ///   - listsChunks: Gives the places of chunks instead of the elements in them.
  init(of bytes: StoredBytes, range: Range<Int>, path: String, listsChunks: Bool = false) throws {
    guard !range.isEmpty else {
      throw CheckpointError(path: path, .truncated(needed: 8, available: 0))
    }
    let limit = DecodedLimit.bytes(fileBytes: range.count)
    // Inflating gives more than 100 MB a second; a loop ends after a second or some.
    let seconds = UInt32(clamping: 1 + limit / 100_000_000)
    let outcome = HDF5Library.withLock {
      bytes.withBytes(range) { span in
        unsafe span.withUnsafeBytes { buffer -> hdf5_outcome in
          guard let start = buffer.baseAddress else {
            return hdf5_outcome(descriptor: -1, used: 0, error: EINVAL, signal: 0)
          }
          return unsafe hdf5_read(
            start, buffer.count, limit, seconds,
            Int32(listsChunks ? HDF5_LISTS_CHUNKS : HDF5_DECODES_CHUNKS))
        }
      }
    }
    if outcome.error != 0 {
      throw FileError(path: path, operation: "start a reader for", code: outcome.error)
    }
    guard outcome.signal == 0 else {
      throw CheckpointError(path: path, .readerStopped(signal: Int(outcome.signal)))
    }
    defer { close(outcome.descriptor) }
    memory = try StoredBytes(mapping: outcome.descriptor, path: path)
    records = try Self.records(in: memory, path: path)
  }

  private static func records(
    in memory: StoredBytes, path: String
  ) throws(CheckpointError) -> [HDF5Record] {
    do throws(CheckpointError.Problem) {
      var budget = DecodedLimit.bytes(fileBytes: memory.count)
      var records: [HDF5Record] = []
      let head = MemoryLayout<hdf5_answer>.size
      guard memory.count >= head else { throw .damaged(what: "no answer", offset: 0) }
      // The first record follows the head; each one names a later one.
      var place = (head + 63) / 64 * 64
      while place < memory.count {
        let (record, next) = try Self.record(in: memory, at: place)
        budget -= 256 + record.name.utf8.count + 2 * record.text.utf8.count
        guard budget > 0 else {
          throw .tooLarge(what: "its records take", bytes: -budget, limit: memory.count)
        }
        records.append(record)
        guard next > place else { break }
        place = next
      }
      return records
    } catch {
      throw CheckpointError(path: path, error)
    }
  }

  private static func record(
    in memory: StoredBytes, at place: Int
  ) throws(CheckpointError.Problem) -> (HDF5Record, next: Int) {
    var reader = ByteReader(memory, at: place)
    func number(_ value: UInt64) throws(CheckpointError.Problem) -> Int {
      guard let value = Int(exactly: value) else {
        throw .damaged(what: "a number beyond 2^63", offset: place)
      }
      return value
    }
    let next = try number(try reader.integer(8))
    let offset = try reader.integer(8)
    let bytes = try reader.integer(8)
    let kind = HDF5Record.Kind(rawValue: UInt32(try reader.integer(4)))
    let dtypeIndex = Int(try reader.integer(4))
    let isBigEndian = try reader.integer(4) != 0
    let rank = try reader.integer(4)
    let nameLength = try reader.integer(4)
    let textLength = try reader.integer(4)
    guard let kind, dtypeIndex < DType.allCases.count, rank <= 32 else {
      throw .damaged(what: "no record", offset: place)
    }
    var shape: [Int] = []
    for _ in 0..<rank { shape.append(Int(clamping: try reader.integer(8))) }
    let name = reader.array(try reader.claim(nameLength))
    let text = reader.array(try reader.claim(textLength))
    let isAttribute = kind == .attribute
    return (
      HDF5Record(
        kind: kind, dtype: DType.allCases[dtypeIndex], isBigEndian: isBigEndian, shape: shape,
        offset: Int(clamping: offset), byteCount: Int(clamping: bytes),
        name: String(decoding: name, as: UTF8.self),
        text: isAttribute ? "" : String(decoding: text, as: UTF8.self),
        strings: isAttribute
          ? text.split(separator: 0, omittingEmptySubsequences: false).dropLast()
            .map { String(decoding: $0, as: UTF8.self) } : []), next
    )
  }
}

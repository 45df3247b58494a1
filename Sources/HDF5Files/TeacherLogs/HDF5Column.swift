// Datasets of which only the places of the chunks come from libhdf5. The chunks themselves are taken from the
// mapped file, inflated and put in order here: by many threads, and with no more trust than any other bytes.
//
// Source   HDF5 File Format Specification Version 3.0, filters 1 (deflate) and 2 (shuffle)

import Checkpoints
import Tensors

/// A dataset whose rows (of the first dimension) are read in pieces.
struct HDF5Column: Sendable {
  /// Where a chunk's stored bytes are, and which filters were left out for it.
  struct Place: Sendable {
    let range: Range<Int>
    let mask: Int
  }

  /// How the elements are stored.
  enum Storage: Sendable {
    /// In one piece.
    case piece(StoredBytes, Range<Int>)
    /// In chunks of so many whole rows.
    case chunks(rows: Int, filters: [Filter], places: [Place])
  }

  /// What was done to a chunk, in the order of writing.
  enum Filter: Int, Sendable {
    case deflate = 1
    case shuffle = 2
  }

  let name: String
  let dtype: DType
  let shape: [Int]
  let storage: Storage

  /// Rows: elements of the first dimension.
  var rows: Int { shape[0] }
  /// Bytes of a row.
  let rowBytes: Int

  /// A chunk is held in memory as a whole.
  static let chunkLimit = 64 << 20

  /// A column of a record of the child process; nil for records that are no datasets.
  init?(
    _ record: HDF5Record, file: StoredBytes, memory: StoredBytes
  ) throws(CheckpointError.Problem) {
    name = record.name
    dtype = record.dtype
    shape = record.shape
    switch record.kind {
    case .error: throw .hdf5(record.text)
    case .refused: throw .unsupported(record.text)
    case .tooLarge:
      throw .tooLarge(
        what: "its elements take", bytes: record.byteCount,
        limit: DecodedLimit.bytes(fileBytes: file.count))
    case .skipped, .alias, .attribute: return nil
    case .inFile, .decoded, .chunked: break
    }
    guard shape.count >= 1, let count = elementCount(of: shape),
      let size = elementCount(of: [dtype.byteCount] + shape.dropFirst()),
      count <= .max / dtype.byteCount
    else { throw .badShape(shape) }
    rowBytes = size
    guard !record.isBigEndian || dtype.byteCount == 1 else {
      throw .unsupported("big-endian numbers in a teacher log")
    }
    let source = record.kind == .inFile ? file : memory
    guard record.offset <= source.count, record.byteCount <= source.count - record.offset else {
      throw .badOffsets(
        begin: record.offset, end: record.offset.addingReportingOverflow(record.byteCount).0,
        available: source.count)
    }
    let range = record.offset..<record.offset + record.byteCount
    guard record.kind == .chunked else {
      guard range.count == count * dtype.byteCount else {
        throw .sizeMismatch(
          shape: shape, bytes: range.count, expected: count * dtype.byteCount)
      }
      storage = .piece(source, range)
      return
    }
    storage = try Self.chunks(
      ByteReader(memory, at: range.lowerBound, end: range.upperBound), shape: shape,
      rowBytes: rowBytes, fileBytes: file.count)
  }

  /// The table of hdf5_reader.h, checked: every chunk once, whole rows, bytes that lie in the file.
  private static func chunks(
    _ table: ByteReader, shape: [Int], rowBytes: Int, fileBytes: Int
  ) throws(CheckpointError.Problem) -> Storage {
    var table = table
    func word(_ table: inout ByteReader) throws(CheckpointError.Problem) -> Int {
      Int(clamping: try table.integer(8))
    }
    guard try word(&table) == shape.count else { throw .badShape(shape) }
    let rows = try word(&table)
    for size in shape.dropFirst() {
      guard try word(&table) == size else { throw .unsupported("chunks that part rows") }
    }
    let (bytes, overflow) = rows.multipliedReportingOverflow(by: rowBytes)
    guard rows > 0, !overflow, bytes <= chunkLimit else {
      throw .tooLarge(what: "a chunk takes", bytes: overflow ? .max : bytes, limit: chunkLimit)
    }
    var filters: [Filter] = []
    for _ in 0..<min(try word(&table), 32) {
      let id = try word(&table)
      guard let filter = Filter(rawValue: id) else { throw .unsupported("filter \(id)") }
      filters.append(filter)
    }
    let count = try word(&table)
    let expected = rowBytes == 0 ? 0 : shape[0] / rows + (shape[0] % rows == 0 ? 0 : 1)
    guard count == expected, count <= table.available / 32 else {
      throw .damaged(what: "\(count) of \(expected) chunks", offset: 0)
    }
    var places = [Place?](repeating: nil, count: count)
    for _ in 0..<count {
      let row = try word(&table)
      for _ in shape.dropFirst() where try word(&table) != 0 {
        throw .unsupported("chunks that part rows")
      }
      let address = try word(&table), size = try word(&table), mask = try word(&table)
      guard row % rows == 0, row / rows < count, places[row / rows] == nil else {
        throw .damaged(what: "two chunks of one place", offset: address)
      }
      guard address <= fileBytes, size <= fileBytes - address else {
        throw .badOffsets(
          begin: address, end: address.addingReportingOverflow(size).0, available: fileBytes)
      }
      places[row / rows] = Place(range: address..<address + size, mask: mask)
    }
    return .chunks(rows: rows, filters: filters, places: places.compactMap { $0 })
  }

  /// The elements of a chunk; nil when its bytes do not give them.
  func decode(chunk: Int, of file: StoredBytes) -> [UInt8]? {
    guard case .chunks(let rows, let filters, let places) = storage else { return nil }
    let place = places[chunk], size = rows * rowBytes
    var bytes = file.withBytes(place.range) { span in
      unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
    }
    for (index, filter) in filters.enumerated().reversed() where place.mask >> index & 1 == 0 {
      switch filter {
      case .deflate:
        guard let inflated = Deflate.inflate(bytes, byteCount: size) else { return nil }
        bytes = inflated
      case .shuffle: bytes = Self.unshuffled(bytes, elementBytes: dtype.byteCount)
      }
    }
    return bytes.count == size ? bytes : nil
  }

  /// Bytes by place in their element: all first bytes, all second bytes, and so on.
  static func shuffled(_ bytes: [UInt8], elementBytes: Int) -> [UInt8] {
    reordered(bytes, elementBytes: elementBytes) { element, byte, count in
      (to: byte * count + element, from: element * elementBytes + byte)
    }
  }

  /// The bytes that were shuffled.
  static func unshuffled(_ bytes: [UInt8], elementBytes: Int) -> [UInt8] {
    reordered(bytes, elementBytes: elementBytes) { element, byte, count in
      (to: element * elementBytes + byte, from: byte * count + element)
    }
  }

  @inline(__always) private static func reordered(
    _ bytes: [UInt8], elementBytes: Int, _ places: (Int, Int, Int) -> (to: Int, from: Int)
  ) -> [UInt8] {
    guard elementBytes > 1 else { return bytes }
    // Bytes that fill no element stay at the end.
    var result = bytes
    let count = bytes.count / elementBytes
    for element in 0..<count {
      for byte in 0..<elementBytes {
        let place = places(element, byte, count)
        result[place.to] = bytes[place.from]
      }
    }
    return result
  }
}

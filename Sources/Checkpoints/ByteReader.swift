package import Tensors

/// A forward cursor over untrusted bytes. Every read is checked against the end.
package struct ByteReader {
  package let bytes: StoredBytes
  package private(set) var offset: Int
  package let end: Int

  /// A cursor at `offset`, which ends before `end` or the file's end.
  package init(_ bytes: StoredBytes, at offset: Int = 0, end: Int? = nil) {
    self.bytes = bytes
    self.end = min(end ?? bytes.count, bytes.count)
    self.offset = offset
  }

  /// The bytes left.
  package var available: Int { max(0, end - offset) }

  /// Claims the next `length` bytes and says where they are.
  package mutating func claim(_ length: UInt64) throws(CheckpointError.Problem) -> Range<Int> {
    guard let count = Int(exactly: length), count <= available else {
      throw .truncated(
        needed: UInt64(clamping: offset).addingReportingOverflow(length).partialValue,
        available: end)
    }
    defer { offset += count }
    return offset..<offset + count
  }

  /// Leaves bytes out.
  package mutating func skip(_ length: UInt64) throws(CheckpointError.Problem) {
    _ = try claim(length)
  }

  /// The next byte.
  package mutating func byte() throws(CheckpointError.Problem) -> UInt8 {
    let range = try claim(1)
    return byte(at: range.lowerBound)
  }

  /// A byte that was claimed.
  package func byte(at offset: Int) -> UInt8 {
    bytes.withBytes(offset..<offset + 1) { unsafe $0.unsafeLoad(fromByteOffset: 0, as: UInt8.self) }
  }

  /// An unsigned little-endian integer of 1 to 8 bytes.
  package mutating func integer(_ size: Int) throws(CheckpointError.Problem) -> UInt64 {
    let range = try claim(UInt64(size))
    return bytes.withBytes(range) { span in
      (0..<size).reduce(UInt64(0)) { sum, index in
        sum | UInt64(unsafe span.unsafeLoad(fromByteOffset: index, as: UInt8.self))
          << UInt64(8 * index)
      }
    }
  }

  /// A signed little-endian integer of 4 bytes.
  package mutating func int32() throws(CheckpointError.Problem) -> Int {
    Int(Int32(bitPattern: UInt32(try integer(4))))
  }

  /// The bytes up to the next line feed, which is claimed too.
  package mutating func line() throws(CheckpointError.Problem) -> Range<Int> {
    let start = offset
    while try byte() != UInt8(ascii: "\n") {}
    return start..<offset - 1
  }

  /// Claimed bytes as an array.
  package func array(_ range: Range<Int>) -> [UInt8] {
    bytes.withBytes(range) { span in unsafe span.withUnsafeBytes { unsafe [UInt8]($0) } }
  }

  /// Claimed bytes as text; nil when they are not UTF-8.
  package func text(_ range: Range<Int>) -> String? {
    String(validating: array(range), as: UTF8.self)
  }

  /// The next bytes as an array.
  package mutating func next(_ count: Int) throws(CheckpointError.Problem) -> [UInt8] {
    array(try claim(UInt64(count)))
  }

  /// A length of 8 bytes that fits into what is left.
  package mutating func length() throws(CheckpointError.Problem) -> Int {
    let length = try integer(8)
    guard length <= UInt64(available) else {
      let (needed, overflow) = UInt64(offset).addingReportingOverflow(length)
      throw .truncated(needed: overflow ? .max : needed, available: end)
    }
    return Int(length)
  }
}

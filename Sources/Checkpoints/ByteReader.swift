// Reads numbers and byte runs one after the other, and never past the end.

import Tensors

/// A place in some stored bytes.
struct ByteReader {
  let storage: StoredBytes
  /// Where reading ends.
  let end: Int
  /// The next byte.
  private(set) var offset: Int

  /// A reader of a part of some bytes.
  init(_ storage: StoredBytes, range: Range<Int>) {
    self.storage = storage
    offset = range.lowerBound
    end = range.upperBound
  }

  /// Bytes that are left.
  var rest: Int { end - offset }

  /// Passes over some bytes and says where they lie.
  mutating func take(_ count: Int) throws(CheckpointError.Problem) -> Range<Int> {
    guard count >= 0, count <= rest else {
      throw .truncated(
        needed: UInt64(clamping: offset) + UInt64(clamping: max(0, count)), available: end)
    }
    defer { offset += count }
    return offset..<offset + count
  }

  /// The next bytes.
  mutating func bytes(_ count: Int) throws(CheckpointError.Problem) -> [UInt8] {
    storage.withBytes(try take(count)) { span in
      unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
    }
  }

  /// The next four bytes as an integer.
  mutating func uint32() throws(CheckpointError.Problem) -> UInt32 {
    storage.withBytes(try take(4)) {
      unsafe $0.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt32.self)
    }
  }

  /// The next eight bytes as an integer.
  mutating func uint64() throws(CheckpointError.Problem) -> UInt64 {
    storage.withBytes(try take(8)) {
      unsafe $0.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self)
    }
  }

  /// A 64-bit length that fits into what is left.
  mutating func length() throws(CheckpointError.Problem) -> Int {
    let length = try uint64()
    guard length <= UInt64(rest) else {
      let (needed, overflow) = UInt64(offset).addingReportingOverflow(length)
      throw .truncated(needed: overflow ? .max : needed, available: end)
    }
    return Int(length)
  }
}

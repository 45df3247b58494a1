public import Tensors

import Crypto

/// SHA-256 of bytes, as 64 hexadecimal digits.
public struct ContentHash: Sendable {
  private var state = SHA256()

  /// The hash of nothing, so far.
  public init() {}

  /// Adds bytes.
  public mutating func update(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes { unsafe state.update(bufferPointer: $0) }
  }

  /// Adds a text's UTF-8 and a zero byte, so that two texts never hash like their concatenation.
  public mutating func update(_ text: String) {
    var bytes = Array(text.utf8)
    bytes.append(0)
    unsafe update(bytes.span.bytes)
  }

  /// The digits.
  public var digits: String {
    let hexadecimal = Array("0123456789abcdef".utf8)
    return String(
      decoding: state.finalize().flatMap {
        [hexadecimal[Int($0 >> 4)], hexadecimal[Int($0 & 15)]]
      },
      as: UTF8.self)
  }

  /// The hash of a byte array.
  public static func of(_ bytes: [UInt8]) -> String {
    var hash = ContentHash()
    unsafe hash.update(bytes.span.bytes)
    return hash.digits
  }

  /// The hash of a tensor's stored bytes.
  public static func of(_ tensor: Tensor) -> String {
    tensor.withBytes { bytes in
      var hash = ContentHash()
      hash.update(bytes)
      return hash.digits
    }
  }

  /// The hash of a file, read in pieces: a mapping would count every page of it as the program's memory.
  public static func of(file path: String) throws(FileError) -> String {
    var hash = ContentHash()
    try FilePath.forEachPiece(of: path) { hash.update($0) }
    return hash.digits
  }
}

// zlib streams for side files: smaller where text is stored, never trusted when read.

import CZlib

/// Deflating and inflating through zlib.
enum Deflate {
  /// The zlib stream of some bytes at the highest level.
  static func deflate(_ bytes: [UInt8]) -> [UInt8] {
    var count = compressBound(uLong(bytes.count))
    var output = [UInt8](repeating: 0, count: Int(count))
    let status = unsafe compress2(&output, &count, bytes, uLong(bytes.count), Z_BEST_COMPRESSION)
    precondition(status == Z_OK, "compress2 gave \(status)")
    output.removeLast(output.count - Int(count))
    return output
  }

  /// The bytes of a stream that must give exactly `byteCount` bytes; nil when it does not.
  static func inflate(_ stream: [UInt8], byteCount: Int) -> [UInt8]? {
    // Deflate cannot shrink by more than 1032 to 1, so a larger claim is a lie, refused before memory is
    // taken (https://zlib.net/zlib_tech.html).
    guard byteCount >= 0, byteCount <= stream.count * 1032 + 64 else { return nil }
    // One byte more, so that a stream that gives more is seen, also where none is expected.
    var output = [UInt8](repeating: 0, count: byteCount + 1)
    var count = uLong(byteCount + 1)
    let status = unsafe uncompress(&output, &count, stream, uLong(stream.count))
    guard status == Z_OK, Int(count) == byteCount else { return nil }
    output.removeLast()
    return output
  }
}

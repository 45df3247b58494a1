// zlib streams for side files and the raw streams of zip archives: smaller where text is stored, never
// trusted when read.
//
// Source   RFC 1950 (zlib), RFC 1951 (deflate); the bound of 1032 to 1 is https://zlib.net/zlib_tech.html

import CZlib

/// Deflating and inflating through zlib.
public enum Deflate {
  /// The zlib stream of some bytes at the highest level.
  public static func deflate(_ bytes: [UInt8]) -> [UInt8] {
    var count = compressBound(uLong(bytes.count))
    var output = [UInt8](repeating: 0, count: Int(count))
    let status = unsafe compress2(&output, &count, bytes, uLong(bytes.count), Z_BEST_COMPRESSION)
    precondition(status == Z_OK, "compress2 gave \(status)")
    output.removeLast(output.count - Int(count))
    return output
  }

  /// The zlib stream of numbers whose bytes repeat little: Huffman codes more than matches.
  public static func deflate(numbers bytes: [UInt8]) -> [UInt8] {
    var state = unsafe z_stream()
    // The most memory makes the largest blocks.
    let start = unsafe deflateInit2_(
      &state, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS, MAX_MEM_LEVEL, Z_FILTERED, ZLIB_VERSION,
      Int32(MemoryLayout<z_stream>.size))
    precondition(start == Z_OK, "deflateInit2 gave \(start)")
    defer { unsafe _ = deflateEnd(&state) }
    var input = bytes
    var output = [UInt8](
      repeating: 0, count: unsafe Int(deflateBound(&state, uLong(bytes.count))))
    let count = unsafe input.withUnsafeMutableBufferPointer { source in
      unsafe output.withUnsafeMutableBufferPointer { target in
        unsafe state.next_in = source.baseAddress
        unsafe state.avail_in = uInt(source.count)
        unsafe state.next_out = target.baseAddress
        unsafe state.avail_out = uInt(target.count)
        let status = unsafe CZlib.deflate(&state, Z_FINISH)
        precondition(status == Z_STREAM_END, "deflate gave \(status)")
        return unsafe target.count - Int(state.avail_out)
      }
    }
    output.removeLast(output.count - count)
    return output
  }

  /// The bytes of a stream that must give exactly `byteCount` bytes; nil when it does not.
  public static func inflate(_ stream: [UInt8], byteCount: Int) -> [UInt8]? {
    guard canHold(byteCount, streamBytes: stream.count) else { return nil }
    // One byte more, so that a stream that gives more is seen, also where none is expected.
    var output = [UInt8](repeating: 0, count: byteCount + 1)
    var count = uLong(byteCount + 1)
    let status = unsafe uncompress(&output, &count, stream, uLong(stream.count))
    guard status == Z_OK, Int(count) == byteCount else { return nil }
    output.removeLast()
    return output
  }

  /// Whether a stream can give so many bytes: a larger claim is a lie, refused before memory is taken.
  static func canHold(_ byteCount: Int, streamBytes: Int) -> Bool {
    byteCount >= 0 && byteCount <= streamBytes * 1032 + 64
  }

  /// Inflates a raw stream (no zlib header) that must give exactly `byteCount` bytes, piece by piece.
  ///
  /// - Parameter body: Gets the next bytes, at most 64 KB at a time; false ends the work early.
  /// - Returns: Whether the stream is whole and gave so many bytes, or `body` ended it.
  static func inflateRaw(
    _ stream: RawSpan, byteCount: Int, _ body: (RawSpan) -> Bool
  ) -> Bool {
    guard canHold(byteCount, streamBytes: stream.byteCount) else { return false }
    var state = unsafe z_stream()
    // A negative window means: no header and no checksum (zlib.h, inflateInit2).
    guard
      unsafe inflateInit2_(
        &state, -MAX_WBITS, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { return false }
    defer { unsafe _ = inflateEnd(&state) }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
    defer { unsafe buffer.deallocate() }
    return unsafe stream.withUnsafeBytes { source -> Bool in
      guard let start = source.baseAddress else { return false }
      var read = 0
      var written = 0
      while true {
        if unsafe state.avail_in == 0, read < source.count {
          let count = min(source.count - read, 1 << 30)
          // zlib reads through the pointer only; its type lacks the `const`.
          unsafe state.next_in = UnsafeMutablePointer(
            mutating: (start + read).assumingMemoryBound(to: Bytef.self))
          unsafe state.avail_in = uInt(count)
          read += count
        }
        unsafe state.next_out = buffer.baseAddress?.assumingMemoryBound(to: Bytef.self)
        unsafe state.avail_out = uInt(buffer.count)
        let status = unsafe CZlib.inflate(&state, Z_NO_FLUSH)
        let count = unsafe buffer.count - Int(state.avail_out)
        written += count
        guard written <= byteCount else { return false }
        if count > 0 {
          let piece = unsafe RawSpan(
            _unsafeBytes: UnsafeRawBufferPointer(rebasing: buffer[0..<count]))
          if !body(piece) { return true }
        }
        if status == Z_STREAM_END { return written == byteCount }
        guard status == Z_OK, unsafe count > 0 || state.avail_in > 0 || read < source.count else {
          return false
        }
      }
    }
  }

  /// The CRC-32 that zip archives store, of `bytes` after those that gave `start`.
  static func crc32(_ bytes: RawSpan, after start: UInt32 = 0) -> UInt32 {
    unsafe bytes.withUnsafeBytes { source in
      guard let base = source.baseAddress else { return start }
      var sum = uLong(start)
      var offset = 0
      while offset < source.count {
        let count = min(source.count - offset, 1 << 30)
        sum = unsafe CZlib.crc32(
          sum, (base + offset).assumingMemoryBound(to: Bytef.self), uInt(count))
        offset += count
      }
      return UInt32(truncatingIfNeeded: sum)
    }
  }
}

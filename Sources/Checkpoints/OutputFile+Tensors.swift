// Tensors on their way into a file: pieces are converted and written at their places by all threads.

import Glibc
public import Tensors

extension OutputFile {
  /// Elements that one thread converts at a time: they stay in its cache.
  private static var pieceElements: Int { 1 << 17 }

  /// Appends a tensor's elements in another floating type, or its bytes as they are.
  public mutating func write(_ tensor: Tensor, as dtype: DType) throws(FileError) {
    let converts = tensor.dtype != dtype
    precondition(
      !converts || (tensor.dtype.isFloat && dtype.isFloat), "\(tensor.dtype) as \(dtype)")
    let piece = Self.pieceElements
    guard tensor.count > piece else {
      return try write(bytesOf: converts ? tensor.converted(to: dtype) : tensor)
    }
    try flush()
    let start = byteCount, descriptor = descriptor, size = dtype.byteCount
    let codes = ParallelLoop.map((tensor.count + piece - 1) / piece) { index -> Int32 in
      let elements = index * piece..<min((index + 1) * piece, tensor.count)
      let offset = start + elements.lowerBound * size
      if converts {
        return tensor.converted(elements: elements, to: dtype).withBytes {
          Self.writeAll($0, to: descriptor, at: offset)
        }
      }
      return tensor.withBytes { bytes in
        let range = elements.lowerBound * size..<elements.upperBound * size
        return Self.writeAll(bytes.extracting(range), to: descriptor, at: offset)
      }
    }
    if let code = codes.first(where: { $0 != 0 }) {
      throw FileError(path: path, operation: "write", code: code)
    }
    try continueWriting(after: tensor.count * size)
  }

  private mutating func write(bytesOf tensor: Tensor) throws(FileError) {
    let failure = tensor.withBytes { span -> FileError? in
      do throws(FileError) { try write(span) } catch { return error }
      return nil
    }
    if let failure { throw failure }
  }

  /// Writes at a place; the system's error number, or 0.
  private static func writeAll(_ bytes: RawSpan, to descriptor: Int32, at start: Int) -> Int32 {
    var offset = 0
    while offset < bytes.byteCount {
      let written = unsafe bytes.extracting(offset..<bytes.byteCount).withUnsafeBytes {
        unsafe pwrite(descriptor, $0.baseAddress, $0.count, off_t(start + offset))
      }
      if written < 0 {
        if errno == EINTR { continue }
        return errno
      }
      offset += written
    }
    return 0
  }
}

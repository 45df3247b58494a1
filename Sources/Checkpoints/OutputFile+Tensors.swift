// Tensors on their way into a file, converted piece by piece on all threads.

public import Tensors

extension OutputFile {
  /// Elements that one thread converts at a time: they stay in its cache.
  private static var pieceElements: Int { 1 << 17 }

  /// Appends a tensor's elements in another floating type, or its bytes as they are.
  public mutating func write(_ tensor: Tensor, as dtype: DType) throws(FileError) {
    guard tensor.dtype != dtype, tensor.dtype.isFloat, dtype.isFloat else {
      precondition(tensor.dtype == dtype, "\(tensor.dtype) written as \(dtype)")
      try write(bytesOf: tensor)
      return
    }
    let piece = Self.pieceElements, atOnce = 2 * ParallelLoop.threads
    for first in stride(from: 0, to: tensor.count, by: piece * atOnce) {
      let pieces = (min(tensor.count - first, piece * atOnce) + piece - 1) / piece
      let converted = ParallelLoop.map(pieces) { index -> Tensor in
        let start = first + index * piece
        return tensor.converted(elements: start..<min(start + piece, tensor.count), to: dtype)
      }
      for part in converted { try write(bytesOf: part) }
    }
  }

  private mutating func write(bytesOf tensor: Tensor) throws(FileError) {
    let failure = tensor.withBytes { span -> FileError? in
      do throws(FileError) { try write(span) } catch { return error }
      return nil
    }
    if let failure { throw failure }
  }
}

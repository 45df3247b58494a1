// The matrices of llama2.c's version 2 and of bitllama2.c, decoded to floats when they are used.

import Tensors

/// An encoded matrix `[rows, columns]` in a file.
struct LlamaCMatrix: Sendable {
  let storage: LlamaCHeader.Storage
  let rows: Int
  let columns: Int
  let bytes: StoredBytes
  let offset: Int
  /// Rows of a head where its rows are interleaved.
  let headSize: Int?

  /// The row of the file that is row `row` of the tensor.
  private func storedRow(_ row: Int) -> Int {
    guard let headSize else { return row }
    let (head, index) = (row / headSize, row % headSize)
    let half = headSize / 2
    return head * headSize + (index < half ? 2 * index : 2 * (index - half) + 1)
  }

  /// The tensor as float32.
  func tensor() -> Tensor {
    let count = rows * columns
    var values = [Float](repeating: 0, count: count)
    let item = LlamaCLayout.Item(
      name: "", shape: [rows, columns], offset: offset, rows: .asStored, isFloat: false)
    let size = LlamaCLayout.storedBytes(of: item, as: storage)
    bytes.withBytes(offset..<offset + size) { span in
      for row in 0..<rows {
        let first = storedRow(row) * columns
        for column in 0..<columns {
          values[row * columns + column] = value(at: first + column, of: count, in: span)
        }
      }
    }
    return Tensor(.float32, shape: [rows, columns], copying: values)
  }

  private func value(at index: Int, of count: Int, in span: RawSpan) -> Float {
    switch storage {
    case .groups(let size):
      let code = unsafe span.unsafeLoad(fromByteOffset: index, as: Int8.self)
      let scale = unsafe span.unsafeLoadUnaligned(
        fromByteOffset: count + 4 * (index / size), as: Float.self)
      return Float(code) * scale
    case .ternary:
      let scale = unsafe span.unsafeLoadUnaligned(fromByteOffset: 0, as: Float.self)
      let packed = unsafe span.unsafeLoad(fromByteOffset: 4 + index / 4, as: UInt8.self)
      let code = packed >> UInt8(6 - 2 * (index % 4)) & 3
      return code == 1 ? scale : code == 3 ? -scale : 0
    case .legacy, .floats: preconditionFailure("a matrix of floats is a view")
    }
  }

  /// Two bits are 00, 01 or 11: 10 is no ternary weight, and a sign that this is not such a file.
  func checkTernary() throws(CheckpointError.Problem) {
    let count = (rows * columns + 3) / 4
    let wrong = bytes.withBytes(offset + 4..<offset + 4 + count) { span -> Int? in
      for index in 0..<count {
        let packed = unsafe span.unsafeLoad(fromByteOffset: index, as: UInt8.self)
        if packed >> 1 & ~packed & 0x55 != 0 { return index }
      }
      return nil
    }
    if let wrong {
      throw .damaged(what: "a weight that is not -1, 0 or 1", offset: offset + 4 + wrong)
    }
  }
}

// GPTQ into ggml's blocks: scales and codes of each block are chosen when its turn comes, errors go to later columns.
//
// Source   Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, Algorithm 1; lazy blocks, section 3.4. Groups of a
//          codebook: Tseng et al., "QuIP#", ICML 2024, arXiv:2402.04396, section 4 (block LDL), in GPTQ's order
// Given    W [outputs, inputs]; H = mean of x x^T [inputs, inputs]
// Result   blocks that greedily minimise ||(W - Q) X||, rows independent of each other
// Cost     outputs * inputs^2 multiply-adds through BLAS, 2/3 inputs^3 for the factor, two fits of each block
// Differs  columns keep their order, as a block is 32 to 256 consecutive ones; a block's scales are fitted to weights
//          that already carry the feedback, an error of column j counting 1 / U_jj^2 (gguf_feedback.h)
// Checked  GPTQBlocksTests: equals the recurrence in Double with the blocks' own values; errors far below rounding's

import Encodings
import LinearAlgebra
import Tensors

extension GPTQ {
  /// Algorithm 1 into blocks; the columns keep their order.
  func round(_ weight: Matrix, _ feedback: Feedback, onto encoding: GGUFBlocks) -> EncodedMatrix {
    let columns = weight.columns
    let rowBytes = encoding.rowBytes(inputs: columns)
    var bytes = [UInt8](repeating: 0, count: weight.rows * rowBytes)
    let pieces = (weight.rows + Self.rowsAtOnce - 1) / Self.rowsAtOnce
    ParallelLoop.parts(
      of: &bytes, count: pieces,
      range: { piece in
        piece * Self.rowsAtOnce * rowBytes..<min((piece + 1) * Self.rowsAtOnce, weight.rows)
          * rowBytes
      }
    ) { piece, blocks in
      let first = piece * Self.rowsAtOnce
      let rows = first..<min(first + Self.rowsAtOnce, weight.rows)
      round(weight, rows, factor: feedback.factor, onto: encoding, into: &blocks)
    }
    let layout = encoding.parts(outputs: weight.rows, inputs: columns)[0]
    return EncodedMatrix(
      encoding: encoding, outputs: weight.rows, inputs: columns,
      parts: [Tensor(.uint8, shape: layout.shape, copying: bytes)])
  }

  /// Algorithm 1 on some rows, panel by panel.
  private func round(
    _ weight: Matrix, _ rows: Range<Int>, factor: [Float], onto encoding: GGUFBlocks,
    into blocks: inout MutableSpan<UInt8>
  ) {
    let columns = weight.columns, count = rows.count
    let rowBytes = encoding.rowBytes(inputs: columns), panel = GGUFBlocks.panelColumns
    // [columns, rows]: the weights, less the errors that were pushed onto them.
    var w = [Float](repeating: 0, count: columns * count)
    for (index, row) in rows.enumerated() {
      for column in 0..<columns {
        w[column * count + index] = weight.values[row * columns + column]
      }
    }
    var errors = [Float](repeating: 0, count: panel * count)
    for start in stride(from: 0, to: columns, by: panel) {
      let end = min(start + panel, columns)
      var span = w.mutableSpan
      var own = span._mutatingExtracting(start * count..<end * count)
      var errorSpan = errors.mutableSpan
      var target = blocks._mutatingExtracting(
        encoding.rowBytes(inputs: start)..<(count - 1) * rowBytes + encoding.rowBytes(inputs: end))
      encoding.roundPanel(
        &own, rows: count, columns: end - start,
        factor: factor.span.extracting(start * columns + start..<columns * columns),
        factorStride: columns, errors: &errorSpan, blocks: &target, rowBytes: rowBytes)
      guard end < columns else { break }
      // W[:, rest] -= E U[panel, rest], through BLAS.
      var later = w.mutableSpan
      var rest = later._mutatingExtracting(end * count..<columns * count)
      BLAS.addProduct(
        scale: -1, factor.span.extracting(start * columns + end..<columns * columns),
        transposed: true, aStride: columns, errors.span, bStride: count, to: &rest,
        cStride: count, rows: columns - end, columns: count, depth: end - start)
    }
  }
}

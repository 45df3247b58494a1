// Rounding into ggml's blocks with error feedback: what a GPTQ loop does inside a panel of columns.
//
// Source   Sources/CKernels/gguf_feedback.h
// Checked  GPTQBlocksTests: what the loop used is what the blocks decode to, and the errors it reports are theirs

import CKernels

extension GGUFBlocks {
  /// Columns of a panel: whole blocks of every format.
  public static let panelColumns = 256

  /// Rounds some columns of some rows, in order, each error pushed onto the later columns of the panel.
  ///
  /// The scales of a block are chosen when its turn comes, on weights that carry the feedback of all earlier columns.
  ///
  /// - Parameters:
  ///   - weights: `[columns, rows]`: the weights less the feedback of earlier panels. Overwritten.
  ///   - rows: How many rows: a column of them is one vector.
  ///   - columns: At most `panelColumns`, a multiple of `columnMultiple`.
  ///   - factor: U of Algorithm 1 from the panel's corner on: U of the panel's i and j is at `i * factorStride + j`.
  ///   - errors: `[columns, rows]`; receives `(w - q) / U_jj`, to be pushed onto the columns after the panel.
  ///   - blocks: Receives row r's blocks of the panel at `r * rowBytes`, `rowBytes` being the stride of rows.
  public func roundPanel(
    _ weights: inout MutableSpan<Float>, rows: Int, columns: Int, factor: Span<Float>,
    factorStride: Int, errors: inout MutableSpan<Float>, blocks: inout MutableSpan<UInt8>,
    rowBytes: Int
  ) {
    let type = type, tile = Self.tileRows
    let panelBytes = self.rowBytes(inputs: columns)
    precondition(columns <= Self.panelColumns && rows > 0 && columns > 0)
    precondition(weights.count >= columns * rows && errors.count >= columns * rows)
    precondition(factor.count >= (columns - 1) * factorStride + columns)
    precondition(blocks.count >= (rows - 1) * rowBytes + panelBytes)
    unsafe weights.withUnsafeMutableBufferPointer { weights in
      unsafe errors.withUnsafeMutableBufferPointer { errors in
        unsafe factor.withUnsafeBufferPointer { factor in
          unsafe blocks.withUnsafeMutableBufferPointer { blocks in
            unsafe GGUFCodebook.withKernelView(of: type) { codebook, _ in
              guard let w = weights.baseAddress, let e = errors.baseAddress,
                let u = factor.baseAddress, let out = blocks.baseAddress
              else { return }
              for first in stride(from: 0, to: rows, by: tile) {
                // SAFETY: the counts are checked above; row r of the tile is row first + r of all buffers.
                var panel = unsafe kernel_gguf_panel(
                  type: type.rawValue, block_columns: type.blockColumns,
                  block_bytes: type.blockBytes, codebook: codebook, w: w + first,
                  errors: e + first, stride: rows, rows: min(tile, rows - first),
                  columns: columns, u: u, u_stride: factorStride, out: out + first * rowBytes,
                  out_stride: rowBytes)
                unsafe kernel_gguf_feedback(&panel)
              }
            }
          }
        }
      }
    }
  }
}

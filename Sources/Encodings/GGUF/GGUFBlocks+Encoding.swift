// Weights into ggml's blocks: the codes with the least importance-weighted squared error that a search finds.
//
// Given    weight [outputs, inputs]; importance a [inputs], such as the mean square of each input
// Result   blocks whose values q nearly minimise, row by row, Σ_j a_j (x_j - q_j)²
// Search   Sources/CKernels/gguf_fit_*.h: steps are tried as in llama.cpp (ggml-quants.c), then scales, minima and codes
//          are refitted to what the block really stores (halves, 4- to 8-bit multiples) and chosen by the true error
//          last, a block's halves grow until its values are as large as its weights (restore_size in gguf_encode.h)
// Differs  from llama.cpp's fits, whose weights are a_j √(σ² + x_j²): here they are the a_j of the objective
// Limits   a weight beyond what the format's scale can reach (65504 times the largest level) becomes the largest value
//          of its sign; below half the smallest scale (2⁻²⁵) it becomes zero
// Checked  GGUFEncodingTests

import CKernels
public import Tensors

extension GGUFBlocks {
  /// Rows that one call of the kernel encodes.
  static let tileRows = 16

  /// Encodes a matrix.
  ///
  /// The bytes do not depend on the number of threads, nor a row's bytes on the other rows.
  ///
  /// - Parameters:
  ///   - weight: `[outputs, inputs]`, finite, `inputs` a multiple of `columnMultiple`.
  ///   - importance: `[inputs]`, not negative: how much a squared error in each column costs; 1 each when nil.
  public func encode(_ weight: Matrix, importance: [Float]?) -> EncodedMatrix {
    encode(weight, importance: importance, level: kernel_gguf_levels() - 1)
  }

  /// Encodes with the code for a CPU level: 0 runs anywhere. The bytes are the same.
  func encode(_ weight: Matrix, importance: [Float]?, level: Int) -> EncodedMatrix {
    let inputs = weight.columns, outputs = weight.rows
    precondition(importance.map { $0.count == inputs } ?? true)
    let rowBytes = rowBytes(inputs: inputs)
    var bytes = [UInt8](repeating: 0, count: outputs * rowBytes)
    let tiles = (outputs + Self.tileRows - 1) / Self.tileRows
    ParallelLoop.parts(
      of: &bytes, count: tiles,
      range: { tile in
        tile * Self.tileRows * rowBytes..<min((tile + 1) * Self.tileRows, outputs) * rowBytes
      }
    ) { tile, target in
      let rows = tile * Self.tileRows..<min((tile + 1) * Self.tileRows, outputs)
      encode(
        weight.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs),
        rows: rows.count, inputs: inputs, importance: importance,
        level: level, into: &target)
    }
    let tensor = Tensor(.uint8, shape: [outputs, rowBytes], copying: bytes)
    return EncodedMatrix(encoding: self, outputs: outputs, inputs: inputs, parts: [tensor])
  }

  private func encode(
    _ values: Span<Float>, rows: Int, inputs: Int, importance: [Float]?,
    level: Int, into target: inout MutableSpan<UInt8>
  ) {
    let rowBytes = rowBytes(inputs: inputs), type = type
    precondition(values.count == rows * inputs && target.count == rows * rowBytes)
    unsafe values.withUnsafeBufferPointer { values in
      unsafe target.withUnsafeMutableBufferPointer { target in
        unsafe (importance ?? []).withUnsafeBufferPointer { importance in
          unsafe GGUFCodebook.withKernelView(of: type) { codebook, grid in
            guard let from = values.baseAddress, let to = target.baseAddress else { return }
            // SAFETY: the counts are checked above; all buffers outlive the call.
            var job = unsafe kernel_gguf_rows(
              type: type.rawValue, block_columns: type.blockColumns,
              block_bytes: type.blockBytes, codebook: codebook, grid: grid, x: from, stride: inputs,
              rows: rows, columns: inputs,
              importance: importance.isEmpty ? nil : importance.baseAddress, out: to,
              out_stride: rowBytes)
            unsafe kernel_gguf_encode(level, &job)
          }
        }
      }
    }
  }
}

extension GGUFCodebook {
  /// Calls `body` with a format's codebook as the encoder searches it and as the decoder reads it; an empty one when
  /// it has none.
  static func withKernelView(
    of type: GGUFBlockType,
    _ body: (UnsafePointer<kernel_gguf_codebook>, UnsafePointer<UInt8>?) -> Void
  ) {
    let book = of(type)
    unsafe (book?.digits ?? []).withUnsafeBufferPointer { digits in
      unsafe (book?.firsts ?? []).withUnsafeBufferPointer { firsts in
        unsafe (book?.starts ?? []).withUnsafeBufferPointer { starts in
          unsafe (book?.pointsByFirst ?? []).withUnsafeBufferPointer { pointsByFirst in
            unsafe (book?.firstStarts ?? []).withUnsafeBufferPointer { firstStarts in
              unsafe (book?.values ?? []).withUnsafeBytes { values in
                var view = unsafe kernel_gguf_codebook(
                  width: book?.width ?? 0, seconds: max(0, starts.count - 1),
                  digits: digits.baseAddress, firsts: firsts.baseAddress,
                  starts: starts.baseAddress, points_by_first: pointsByFirst.baseAddress,
                  first_starts: firstStarts.baseAddress)
                unsafe withUnsafePointer(to: &view) {
                  unsafe body($0, values.baseAddress?.assumingMemoryBound(to: UInt8.self))
                }
              }
            }
          }
        }
      }
    }
  }
}

// Products of activations as signed bytes with codes around 128, summed exactly in integers.
//
// The sums are integers, so that a result does not depend on how the work is cut, nor on the kernel that is chosen by
// the CPU.

import CKernels

/// Activations as signed bytes, a scale a row.
struct ByteRows {
  /// `[rows, stride]`, zero beyond the columns.
  private(set) var codes: [Int8]
  private(set) var scales: [Float]
  /// The sum of each row's codes.
  private(set) var sums: [Int32]
  /// Columns, filled up to words of four.
  let stride: Int

  /// Rounds each row to 127ths of its largest value.
  init(_ x: Matrix) {
    let columns = x.columns
    let stride = (columns + 3) / 4 * 4
    self.stride = stride
    let rows = ParallelLoop.map((x.rows + 63) / 64) { block -> ([Int8], [Float], [Int32]) in
      let range = block * 64..<min((block + 1) * 64, x.rows)
      var codes = [Int8](repeating: 0, count: range.count * stride)
      var scales = [Float](repeating: 0, count: range.count)
      var sums = [Int32](repeating: 0, count: range.count)
      for (index, row) in range.enumerated() {
        let values = x.values.span.extracting(row * columns..<(row + 1) * columns)
        unsafe values.withUnsafeBufferPointer { values in
          unsafe codes.withUnsafeMutableBufferPointer { codes in
            guard let from = values.baseAddress, let to = codes.baseAddress else { return }
            scales[index] = unsafe kernel_quantize_row(
              from, to + index * stride, &sums[index], columns)
          }
        }
      }
      return (codes, scales, sums)
    }
    codes = rows.flatMap { $0.0 }
    scales = rows.flatMap { $0.1 }
    sums = rows.flatMap { $0.2 }
  }
}

/// `y = x Wᵀ` with x rounded to bytes, row by row.
public enum ByteProduct {
  /// Rows from which packing the codes pays.
  private static let packedRows = 8

  /// The product.
  ///
  /// - Parameters:
  ///   - x: `[tokens, inputs]`.
  ///   - codes: `[outputs, inputs]`, a byte a weight: weight = scale · (code − 128).
  ///   - scales: One a row of the codes.
  /// - Returns: `[tokens, outputs]`.
  public static func apply(_ x: Matrix, codes: RawSpan, scales: [Float]) -> Matrix {
    let inputs = x.columns, outputs = scales.count
    precondition(codes.byteCount == outputs * inputs)
    guard x.rows > 0, outputs > 0, inputs > 0 else { return Matrix(rows: x.rows, columns: outputs) }
    let rows = ByteRows(x)
    let packs =
      x.rows >= packedRows && inputs <= Int(KERNEL_BYTE_PANEL_DEPTH)
      && kernel_has_byte_panels() != 0
    return packs
      ? packed(rows, x.rows, inputs, codes, scales) : dots(rows, x.rows, inputs, codes, scales)
  }

  /// Row by row, as a decoding step reads the codes: once, where they lie.
  private static func dots(
    _ x: ByteRows, _ count: Int, _ inputs: Int, _ codes: RawSpan, _ scales: [Float]
  ) -> Matrix {
    let outputs = scales.count
    var turned = [Float](repeating: 0, count: outputs * count)
    unsafe codes.withUnsafeBytes { codes in
      // SAFETY: only read, and the loop ends before the span does.
      nonisolated(unsafe) let codes = unsafe codes
      ParallelLoop.overRows(of: &turned, rowLength: count, blockRows: 64) { block, part in
        unsafe x.codes.withUnsafeBufferPointer { x8 in
          guard let from = x8.baseAddress,
            let weights = unsafe codes.assumingMemoryBound(to: UInt8.self).baseAddress
          else { return }
          for (index, row) in block.enumerated() {
            for token in 0..<count {
              let sum = unsafe kernel_byte_dot(
                from + token * x.stride, weights + row * inputs, inputs)
              part[index * count + token] =
                Float(sum - 128 * Int64(x.sums[token])) * (x.scales[token] * scales[row])
            }
          }
        }
      }
    }
    guard count > 1 else { return Matrix(rows: 1, columns: outputs, values: turned) }
    var result = Matrix(unwrittenRows: count, columns: outputs)
    ParallelLoop.overRows(of: &result.values, rowLength: outputs, blockRows: 16) { rows, part in
      for (index, token) in rows.enumerated() {
        for row in 0..<outputs { part[index * outputs + row] = turned[row * count + token] }
      }
    }
    return result
  }

  /// Panel by panel: packed once, read by every block of tokens.
  private static func packed(
    _ x: ByteRows, _ count: Int, _ inputs: Int, _ codes: RawSpan, _ scales: [Float]
  ) -> Matrix {
    let outputs = scales.count, width = Int(KERNEL_BYTE_PANEL)
    let panels = (outputs + width - 1) / width, panelBytes = x.stride * width
    var packed = [UInt8](repeating: 0, count: panels * panelBytes)
    unsafe codes.withUnsafeBytes { codes in
      // SAFETY: only read, and the loop ends before the span does.
      nonisolated(unsafe) let codes = unsafe codes
      ParallelLoop.parts(
        of: &packed, count: panels, range: { $0 * panelBytes..<($0 + 1) * panelBytes }
      ) { index, panel in
        let rows = index * width..<min((index + 1) * width, outputs)
        unsafe panel.withUnsafeMutableBufferPointer { panel in
          guard let to = panel.baseAddress,
            let from = unsafe codes.assumingMemoryBound(to: UInt8.self).baseAddress
          else { return }
          unsafe kernel_pack_bytes(
            from + rows.lowerBound * inputs, inputs, rows.count, inputs, to)
        }
      }
    }
    var result = Matrix(unwrittenRows: count, columns: outputs)
    // A block of tokens stays in the second-level cache while all panels pass.
    let blockRows = max(12, min(240, (1 << 18) / x.stride / 12 * 12))
    ParallelLoop.overRows(of: &result.values, rowLength: outputs, blockRows: blockRows) {
      rows, part in
      unsafe x.codes.withUnsafeBufferPointer { x8 in
        unsafe packed.withUnsafeBufferPointer { panels8 in
          unsafe part.withUnsafeMutableBufferPointer { part in
            guard let from = x8.baseAddress, let panel = panels8.baseAddress,
              let to = part.baseAddress
            else { return }
            for index in 0..<panels {
              let column = index * width
              unsafe x.scales.withUnsafeBufferPointer { xScales in
                unsafe x.sums.withUnsafeBufferPointer { xSums in
                  unsafe scales.withUnsafeBufferPointer { scales in
                    guard let xScales = xScales.baseAddress, let xSums = xSums.baseAddress,
                      let scales = scales.baseAddress
                    else { return }
                    unsafe kernel_multiply_byte_panel(
                      from + rows.lowerBound * x.stride, rows.count, panel + index * panelBytes,
                      inputs, xScales + rows.lowerBound, xSums + rows.lowerBound, scales + column,
                      to + column, outputs, min(width, outputs - column))
                  }
                }
              }
            }
          }
        }
      }
    }
    return result
  }
}

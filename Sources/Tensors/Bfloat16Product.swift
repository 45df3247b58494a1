// Products of float matrices whose factors are rounded to bfloat16 and whose sums are float32: half the multiplications
// where the CPU has an instruction for pairs of them, the same arithmetic elsewhere.
//
// Source   Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019, arXiv:1905.12322
// Checked  Bfloat16ProductTests: rounded factors multiplied in Double; the number of threads changes no bit

import CKernels

/// What the factors of a product are rounded to.
public enum ProductPrecision: String, Sendable, CaseIterable {
  /// They stay as they are.
  case float32
  /// Eight bits of precision; sums stay float32.
  case bfloat16
}

enum Bfloat16Product {
  private static let blockRows = 240

  /// `result[i, j] += Σ_p left[i, p] · right(j, p)`, or `=` when it does not add.
  ///
  /// - Parameters:
  ///   - left: `rows` rows of `depth` values, `stride` apart; with `isLeftTurned` `depth` rows of `rows` values.
  ///   - right: Rows `[columns, depth]`, or, with `isTransposed`, `[depth, columns]`.
  static func multiply(
    _ left: Span<Float>, stride: Int, isLeftTurned: Bool = false, rows: Int, depth: Int,
    _ right: Span<Float>, isTransposed: Bool, to result: inout Matrix, adds: Bool
  ) {
    let columns = result.columns, width = PanelProduct.width
    precondition(result.rows == rows && right.count >= depth * columns)
    let panels = (columns + width - 1) / width, pairs = (depth + 1) / 2
    var packed = [UInt16](unwritten: panels * pairs * 2 * width)
    ParallelLoop.parts(
      of: &packed, count: panels,
      range: { $0 * pairs * 2 * width..<($0 + 1) * pairs * 2 * width }
    ) { index, panel in
      let first = index * width, count = min(width, columns - first)
      let source = right.extracting((isTransposed ? first : first * depth)..<right.count)
      pack(
        source, stride: isTransposed ? columns : depth, count: count, depth: depth,
        isTransposed: isTransposed, into: &panel)
    }
    ParallelLoop.overRows(of: &result.values, rowLength: columns, blockRows: blockRows) {
      block, part in
      var own = [UInt16](unwritten: block.count * 2 * pairs)
      if isLeftTurned {
        let turned = AddedProduct.turned(left, stride: stride, block, depth: depth)
        round(turned.span, stride: depth, rows: block.count, depth: depth, into: &own)
      } else {
        round(
          left.extracting(block.lowerBound * stride..<left.count), stride: stride,
          rows: block.count, depth: depth, into: &own)
      }
      for index in 0..<panels {
        let first = index * width
        multiply(
          own, packed, panel: index, rows: block.count, pairs: pairs, into: &part, offset: first,
          stride: columns, columns: min(width, columns - first), adds: adds)
      }
    }
  }

  private static func pack(
    _ source: Span<Float>, stride: Int, count: Int, depth: Int, isTransposed: Bool,
    into panel: inout MutableSpan<UInt16>
  ) {
    let needed = isTransposed ? (depth - 1) * stride + count : (count - 1) * stride + depth
    precondition(source.count >= needed && panel.count >= (depth + 1) / 2 * 2 * PanelProduct.width)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe panel.withUnsafeMutableBufferPointer { panel in
        guard let from = source.baseAddress, let to = panel.baseAddress else { return }
        if isTransposed {
          unsafe kernel_pack_columns_bf16(from, stride, count, depth, to)
        } else {
          unsafe kernel_pack_rows_bf16(from, stride, count, depth, to)
        }
      }
    }
  }

  private static func round(
    _ source: Span<Float>, stride: Int, rows: Int, depth: Int, into target: inout [UInt16]
  ) {
    precondition(source.count >= (rows - 1) * stride + depth)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        unsafe kernel_round_pairs_bf16(from, stride, rows, depth, to, (depth + 1) / 2 * 2)
      }
    }
  }

  private static func multiply(
    _ left: [UInt16], _ packed: [UInt16], panel: Int, rows: Int, pairs: Int,
    into result: inout MutableSpan<Float>, offset: Int, stride: Int, columns: Int, adds: Bool
  ) {
    precondition(result.count >= offset + (rows - 1) * stride + columns)
    unsafe left.withUnsafeBufferPointer { left in
      unsafe packed.withUnsafeBufferPointer { packed in
        unsafe result.withUnsafeMutableBufferPointer { result in
          guard let a = left.baseAddress, let b = packed.baseAddress, let c = result.baseAddress
          else { return }
          unsafe kernel_multiply_panel_bf16(
            a, 2 * pairs, rows, b + panel * pairs * 2 * PanelProduct.width, pairs, c + offset,
            stride, columns, adds ? 1 : 0)
        }
      }
    }
  }
}

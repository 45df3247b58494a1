// Products with a packed right side. A panel holds `width` columns of the right matrix, depth-major and
// zero-filled, so that the kernel reads it in order.

import CKernels

/// Packing and multiplying of panels.
public enum PanelProduct {
  /// Columns of a panel.
  public static let width = kernel_panel_width()

  /// Packs rows of a row-major matrix, so that each row becomes one column of the panel.
  ///
  /// - Parameters:
  ///   - source: `count` rows of `depth` values, `stride` apart.
  ///   - panel: `[depth, width]`.
  public static func pack(
    rows source: Span<Float>, stride: Int, count: Int, depth: Int,
    into panel: inout MutableSpan<Float>
  ) {
    precondition(
      (1...width).contains(count) && depth > 0 && stride >= depth
        && source.count >= (count - 1) * stride + depth && panel.count >= depth * width)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe panel.withUnsafeMutableBufferPointer { panel in
        guard let from = source.baseAddress, let to = panel.baseAddress else { return }
        unsafe kernel_pack_rows(from, stride, count, depth, to)
      }
    }
  }

  /// Packs columns of a row-major matrix `[depth, count]`, rows `stride` apart.
  public static func pack(
    columns source: Span<Float>, stride: Int, count: Int, depth: Int,
    into panel: inout MutableSpan<Float>
  ) {
    precondition(
      (1...width).contains(count) && depth > 0 && stride >= count
        && source.count >= (depth - 1) * stride + count && panel.count >= depth * width)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe panel.withUnsafeMutableBufferPointer { panel in
        guard let from = source.baseAddress, let to = panel.baseAddress else { return }
        unsafe kernel_pack_columns(from, stride, count, depth, to)
      }
    }
  }

  /// `result[i, column + j] = Σ_p left[i, p] · panel[p, j]`.
  ///
  /// - Parameters:
  ///   - left: `rows` rows of `depth` values, `leftStride` apart.
  ///   - panel: `[depth, width]`, of which `columns` are wanted.
  ///   - result: `rows` rows, `resultStride` apart; the product starts at its first value.
  ///   - adds: Whether the product is added to what the result holds.
  public static func multiply(
    _ left: Span<Float>, leftStride: Int, rows: Int, panel: Span<Float>, depth: Int,
    into result: inout MutableSpan<Float>, resultOffset: Int, resultStride: Int, columns: Int,
    adds: Bool = false
  ) {
    precondition(
      rows > 0 && depth > 0 && (1...width).contains(columns) && leftStride >= depth
        && left.count >= (rows - 1) * leftStride + depth && panel.count >= depth * width
        && resultOffset >= 0
        && result.count >= resultOffset + (rows - 1) * resultStride + columns)
    unsafe left.withUnsafeBufferPointer { left in
      unsafe panel.withUnsafeBufferPointer { panel in
        unsafe result.withUnsafeMutableBufferPointer { result in
          guard let a = left.baseAddress, let b = panel.baseAddress, let c = result.baseAddress
          else { return }
          let product =
            unsafe adds ? kernel_add_panel_product : kernel_multiply_panel
          unsafe product(
            a, leftStride, rows, b, depth, c + resultOffset, resultStride, columns)
        }
      }
    }
  }

  /// `target[column * targetStride + row] = source[row * stride + column]`.
  static func transpose(
    _ source: Span<Float>, stride: Int, rows: Int, columns: Int,
    into target: inout MutableSpan<Float>, targetStride: Int
  ) {
    guard rows > 0, columns > 0 else { return }
    precondition(
      stride >= columns && targetStride >= rows
        && source.count >= (rows - 1) * stride + columns
        && target.count >= (columns - 1) * targetStride + rows)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        unsafe kernel_transpose(from, stride, rows, columns, to, targetStride)
      }
    }
  }
}

// Swift's side of the kernels for rows that store only the weights that a mask names.

import CKernels

/// Rows whose zeros are not stored. Masks have a bit a column, lowest first, whole bytes a row.
public enum SparseProduct {
  /// Values that kernels may read beyond a row's last.
  public static let padding = 16

  /// Writes a row, zeros and all.
  ///
  /// - Parameter values: The row's values in the order of the columns; room for all columns, and `padding` more.
  public static func expand(
    mask: Span<UInt8>, values: Span<Float>, into row: inout MutableSpan<Float>
  ) {
    check(mask: mask, values: values, columns: row.count)
    unsafe mask.withUnsafeBufferPointer { mask in
      unsafe values.withUnsafeBufferPointer { values in
        unsafe row.withUnsafeMutableBufferPointer { row in
          guard let bits = mask.baseAddress, let from = values.baseAddress, let to = row.baseAddress
          else { return }
          unsafe kernel_sparse_expand(
            bits, from, to, row.count)
        }
      }
    }
  }

  /// The product of a row with a vector.
  public static func dot(mask: Span<UInt8>, values: Span<Float>, with x: Span<Float>) -> Float {
    check(mask: mask, values: values, columns: x.count)
    return unsafe mask.withUnsafeBufferPointer { mask in
      unsafe values.withUnsafeBufferPointer { values in
        unsafe x.withUnsafeBufferPointer { x in
          guard let bits = mask.baseAddress, let from = values.baseAddress, let x0 = x.baseAddress
          else { return 0 }
          return unsafe kernel_sparse_dot(
            bits, from, x0, x.count)
        }
      }
    }
  }

  private static func check(mask: Span<UInt8>, values: Span<Float>, columns: Int) {
    precondition(mask.count == (columns + 7) / 8)
    // A mask stores no more than all columns.
    precondition(columns + padding <= values.count)
  }
}

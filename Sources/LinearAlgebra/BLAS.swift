// The calls into OpenBLAS. It runs single-threaded inside our own loops: its results then do not depend
// on the number of threads, and two pools never compete for the cores.

import COpenBLAS
import Tensors

/// Products through BLAS.
public enum BLAS {
  /// Leaves all threads to `ParallelLoop`. Done once, before the first call.
  private static let singleThreaded: Void = openblas_set_num_threads(1)

  /// The library's version and the core type it chose, for reports.
  public static var description: String {
    _ = singleThreaded
    guard let core = unsafe openblas_get_corename() else { return "OpenBLAS" }
    return unsafe "OpenBLAS \(String(cString: core))"
  }

  /// `c += scale · a · b`, row-major.
  ///
  /// - Parameters:
  ///   - a: `[rows, depth]`, rows `aStride` apart; with `transposed`, `[depth, rows]`.
  ///   - b: `[depth, columns]`, rows `bStride` apart.
  ///   - c: `[rows, columns]`, rows `cStride` apart.
  public static func addProduct(
    scale: Float, _ a: Span<Float>, transposed: Bool, aStride: Int, _ b: Span<Float>, bStride: Int,
    to c: inout MutableSpan<Float>, cStride: Int, rows: Int, columns: Int, depth: Int
  ) {
    _ = singleThreaded
    guard rows > 0, columns > 0, depth > 0 else { return }
    let aRows = transposed ? depth : rows, aColumns = transposed ? rows : depth
    precondition(
      a.count >= (aRows - 1) * aStride + aColumns && b.count >= (depth - 1) * bStride + columns
        && c.count >= (rows - 1) * cStride + columns)
    unsafe a.withUnsafeBufferPointer { a in
      unsafe b.withUnsafeBufferPointer { b in
        unsafe c.withUnsafeMutableBufferPointer { c in
          unsafe cblas_sgemm(
            CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, Int32(rows),
            Int32(columns), Int32(depth), scale, a.baseAddress, Int32(aStride), b.baseAddress,
            Int32(bStride), 1, c.baseAddress, Int32(cStride))
        }
      }
    }
  }

  /// Rows of a result that one call computes: fixed, so that the number of threads changes no bit.
  private static let blockRows = 64

  /// `a · b` in double, row-major `[rows, columns]`.
  ///
  /// - Parameters:
  ///   - a: `[rows, depth]`.
  ///   - b: `[depth, columns]`; with `transposed`, `[columns, depth]`.
  public static func product(
    _ a: [Double], _ b: [Double], transposed: Bool = false, rows: Int, depth: Int, columns: Int
  ) -> [Double] {
    _ = singleThreaded
    precondition(a.count == rows * depth && b.count == depth * columns)
    var result = [Double](repeating: 0, count: rows * columns)
    guard rows > 0, depth > 0, columns > 0 else { return result }
    ParallelLoop.parts(
      of: &result, count: (rows + blockRows - 1) / blockRows,
      range: { $0 * blockRows * columns..<min(($0 + 1) * blockRows, rows) * columns }
    ) { block, part in
      let first = block * blockRows, count = min(blockRows, rows - first)
      let left = a.span.extracting(first * depth..<(first + count) * depth)
      unsafe left.withUnsafeBufferPointer { left in
        unsafe b.withUnsafeBufferPointer { b in
          unsafe part.withUnsafeMutableBufferPointer { part in
            unsafe cblas_dgemm(
              CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans, Int32(count),
              Int32(columns), Int32(depth), 1, left.baseAddress, Int32(depth), b.baseAddress,
              Int32(transposed ? depth : columns), 0, part.baseAddress, Int32(columns))
          }
        }
      }
    }
    return result
  }

  /// The upper triangle of `xᵀ x` for some rows of the result, in float32.
  ///
  /// - Parameters:
  ///   - x: `[samples, width]`.
  ///   - rows: Rows of the result; columns from `rows.lowerBound` on are computed.
  ///   - result: `[rows, width]`.
  static func gram(
    _ x: Span<Float>, samples: Int, width: Int, rows: Range<Int>, into result: inout [Float]
  ) {
    _ = singleThreaded
    precondition(x.count >= samples * width && result.count >= rows.count * width)
    unsafe x.withUnsafeBufferPointer { x in
      unsafe result.withUnsafeMutableBufferPointer { result in
        guard let start = x.baseAddress, let target = result.baseAddress else { return }
        unsafe cblas_sgemm(
          CblasRowMajor, CblasTrans, CblasNoTrans, Int32(rows.count),
          Int32(width - rows.lowerBound), Int32(samples), 1, start + rows.lowerBound, Int32(width),
          start + rows.lowerBound, Int32(width), 0, target + rows.lowerBound, Int32(width))
      }
    }
  }
}

// The factor that error feedback needs: U upper triangular with (H + damping I)^-1 = U^T U.
//
// Source   Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, section 3.3
// Method   With P the reversal of order and L L^T = P (H + damping I) P, U = P L^-1 P: one Cholesky
//          factorization and one triangular inverse instead of Cholesky, inverse, Cholesky.
// Cost     size^3 / 3 + size^3 / 3 operations in double, through LAPACK
// Checked  InverseFactorTests: U^T U (H + damping I) = I

import CLAPACKE
import Tensors

/// Why a second-moment matrix cannot be factorized.
public struct FactorizationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The order of the leading part that is not positive definite.
  public let order: Int
  /// The matrix's size.
  public let size: Int

  /// One line without a full stop.
  public var description: String {
    "the second-moment matrix of \(size) inputs is not positive definite (order \(order)); "
      + "raise the damping or use more calibration tokens"
  }
}

/// U, upper triangular, with `(h + damping · I)⁻¹ = Uᵀ U`; computed in the memory of `h`.
///
/// - Parameters:
///   - h: Symmetric, positive semidefinite.
///   - damping: Added to the diagonal; absolute, not relative.
/// - Throws: `FactorizationError` when the damped matrix is not positive definite.
public func inverseFactor(
  of h: consuming DoubleMatrix, damping: Double
) throws(FactorizationError) -> DoubleMatrix {
  let n = h.size
  guard n > 0 else { return h }
  var values = h.values
  h = DoubleMatrix(size: 0)
  // P h P, whose element (i, j) is h(n-1-i, n-1-j): the values in reverse order.
  values.reverse()
  for i in 0..<n { values[i * n + i] += damping }
  let order = Int32(n)
  let failed = unsafe values.withUnsafeMutableBufferPointer { buffer -> Int32 in
    let status = unsafe LAPACKE_dpotrf(LAPACK_COL_MAJOR, 0x4C, order, buffer.baseAddress, order)
    guard status == 0 else { return status }
    return unsafe LAPACKE_dtrtri(LAPACK_COL_MAJOR, 0x4C, 0x4E, order, buffer.baseAddress, order)
  }
  guard failed == 0 else { throw FactorizationError(order: abs(Int(failed)), size: n) }
  // Now L^-1, column-major and lower: its element (r, c) is at c * n + r. U(i, j) = L^-1(n-1-i, n-1-j) is
  // at n^2 - 1 - (j * n + i): reverse the values once more, transpose, clear the other triangle.
  values.reverse()
  let reversed = values
  ParallelLoop.parts(
    of: &values, count: (n + transposedTile - 1) / transposedTile,
    range: { $0 * transposedTile * n..<min(($0 + 1) * transposedTile, n) * n }
  ) { tile, target in
    let rows = tile * transposedTile..<min((tile + 1) * transposedTile, n)
    // Square tiles: a column of the source would miss the cache at every element.
    for start in stride(from: rows.lowerBound, to: n, by: transposedTile) {
      for j in start..<min(start + transposedTile, n) {
        for i in rows.lowerBound..<min(rows.upperBound, j) {
          target[(i - rows.lowerBound) * n + j] = reversed[j * n + i]
        }
      }
    }
    for i in rows {
      for j in 0..<i { target[(i - rows.lowerBound) * n + j] = 0 }
    }
  }
  return DoubleMatrix(size: n, values: values)
}

/// Rows and columns of a tile of a transposition.
private let transposedTile = 32

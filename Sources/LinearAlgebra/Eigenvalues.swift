// The eigenvalues of a symmetric matrix.
//
// Cost     4/3 size^3 operations in double, through LAPACK (dsyev: tridiagonal form, then QR)
// Checked  EigenvaluesTests: known matrices; trace and sum of squares

import CLAPACKE

/// The eigenvalues of a symmetric matrix, least first.
///
/// - Parameter matrix: Symmetric; only its lower triangle is read.
/// - Returns: `size` values; nil when an element is infinite or NaN, or LAPACK does not converge.
public func eigenvalues(of matrix: DoubleMatrix) -> [Double]? {
  let n = matrix.size
  guard n > 0 else { return [] }
  var values = matrix.values
  guard values.allSatisfy(\.isFinite) else { return nil }
  var result = [Double](repeating: 0, count: n)
  let status = unsafe values.withUnsafeMutableBufferPointer { a in
    unsafe result.withUnsafeMutableBufferPointer { w in
      // Row-major lower is column-major upper.
      unsafe LAPACKE_dsyev(
        LAPACK_COL_MAJOR, 0x4E, 0x55, Int32(n), a.baseAddress, Int32(n), w.baseAddress)
    }
  }
  return status == 0 ? result : nil
}

// The eigenvectors of a symmetric matrix.
//
// Cost     about 9 size^3 operations in double, through LAPACK (dsyevd: tridiagonal form, then divide and conquer)
// Checked  EigenvectorsTests: Q diag(values) Q^T gives the matrix back, Q^T Q = I

import CLAPACKE

/// A symmetric matrix as Q diag(values) Qᵀ.
///
/// - Parameter matrix: Symmetric; only its lower triangle is read.
/// - Returns: `size` values, least first, and Qᵀ `[size, size]`, an eigenvector a row; nil when an element is infinite or
///   NaN, or LAPACK does not converge.
public func eigenvectors(
  of matrix: consuming DoubleMatrix
) -> (values: [Double], vectors: DoubleMatrix)? {
  let n = matrix.size
  guard n > 0 else { return ([], DoubleMatrix(size: 0)) }
  var values = matrix.values
  guard values.allSatisfy(\.isFinite) else { return nil }
  var result = [Double](repeating: 0, count: n)
  let status = unsafe values.withUnsafeMutableBufferPointer { a in
    unsafe result.withUnsafeMutableBufferPointer { w in
      // Row-major lower is column-major upper; column-major eigenvectors in columns are row-major in rows.
      unsafe LAPACKE_dsyevd(
        LAPACK_COL_MAJOR, 0x56, 0x55, Int32(n), a.baseAddress, Int32(n), w.baseAddress)
    }
  }
  return status == 0 ? (result, DoubleMatrix(size: n, values: values)) : nil
}

// Rows of X with X A = B for a symmetric positive definite A: normal equations.
//
// Cost     size^3 / 3 + 2 rows * size^2 operations in double, through LAPACK (dposv: Cholesky, two triangular solves)
// Checked  PositiveSolveTests: X A = B

import CLAPACKE

/// X with `X A = B`.
///
/// - Parameters:
///   - a: Symmetric and positive definite; only one triangle is read.
///   - right: B, row-major `[rows, a.size]`.
/// - Returns: X, row-major `[rows, a.size]`.
/// - Throws: `FactorizationError` when the matrix is not positive definite, or when numbers are infinite or NaN.
public func solve(
  _ right: consuming [Double], positive a: consuming DoubleMatrix
) throws(FactorizationError) -> [Double] {
  let n = a.size
  guard n > 0 else { return right }
  precondition(right.count % n == 0)
  let rows = right.count / n
  guard rows > 0 else { return right }
  // X A = B is A Xᵀ = Bᵀ; rows of B are the columns of Bᵀ as LAPACK stores them.
  var result = right
  var values = a.values
  a = DoubleMatrix(size: 0)
  let status = unsafe values.withUnsafeMutableBufferPointer { matrix in
    unsafe result.withUnsafeMutableBufferPointer { target in
      unsafe LAPACKE_dposv(
        LAPACK_COL_MAJOR, 0x4C, Int32(n), Int32(rows), matrix.baseAddress, Int32(n),
        target.baseAddress, Int32(n))
    }
  }
  // An infinite pivot passes the factorization.
  guard status == 0, result.allSatisfy(\.isFinite) else {
    throw FactorizationError(order: abs(Int(status)), size: n)
  }
  return result
}

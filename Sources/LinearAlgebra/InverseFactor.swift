// The factor that error feedback needs: U upper triangular with (H + damping I)^-1 = U^T U.
//
// Source   Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, section 3.3
// Method   With P the reversal of order and L L^T = P (H + damping I) P, U = P L^-1 P: one Cholesky
//          factorization and one triangular inverse instead of Cholesky, inverse, Cholesky.
// Cost     size^3 / 3 + size^3 / 3 operations in double, through LAPACK
// Checked  InverseFactorTests: U^T U (H + damping I) = I

import CLAPACKE

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

/// U, upper triangular, with `(h + damping · I)⁻¹ = Uᵀ U`.
///
/// - Parameters:
///   - h: Symmetric, positive semidefinite.
///   - damping: Added to the diagonal; absolute, not relative.
/// - Throws: `FactorizationError` when the damped matrix is not positive definite.
public func inverseFactor(
  of h: DoubleMatrix, damping: Double
) throws(FactorizationError) -> DoubleMatrix {
  let n = h.size
  guard n > 0 else { return h }
  // P h P, whose element (i, j) is h(n-1-i, n-1-j): the values in reverse order.
  var reversed = [Double](h.values.reversed())
  for i in 0..<n { reversed[i * n + i] += damping }
  let order = Int32(n)
  // Row-major upper is column-major lower: the calls see the transposed matrix, which is the same one.
  let failed = unsafe reversed.withUnsafeMutableBufferPointer { buffer -> Int32 in
    let status = unsafe LAPACKE_dpotrf(LAPACK_COL_MAJOR, 0x4C, order, buffer.baseAddress, order)
    guard status == 0 else { return status }
    return unsafe LAPACKE_dtrtri(LAPACK_COL_MAJOR, 0x4C, 0x4E, order, buffer.baseAddress, order)
  }
  guard failed == 0 else { throw FactorizationError(order: abs(Int(failed)), size: n) }
  // `reversed` holds L^-1 column-major, lower: element (i, j), i >= j, at j * n + i. Reversing the array
  // gives P L^-1 P column-major, upper; U row-major is its transposed reading.
  var result = DoubleMatrix(size: n)
  for i in 0..<n {
    for j in i..<n {
      // U(i, j) = L^-1(n-1-i, n-1-j) with n-1-i >= n-1-j
      result.values[i * n + j] = reversed[(n - 1 - j) * n + (n - 1 - i)]
    }
  }
  return result
}

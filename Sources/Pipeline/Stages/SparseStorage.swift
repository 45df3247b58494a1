// How a pruned matrix is stored.

import Encodings
import Tensors

/// The encoding of pruned matrices.
enum SparseStorage {
  /// A matrix with its zeros, in the type that it had; float64 becomes float32.
  static func encode(_ weight: Matrix, dtype: DType) -> EncodedMatrix {
    encoding(dtype: dtype).encode(weight)
  }

  /// The encoding that a matrix will get.
  static func encoding(dtype: DType) -> PlainFloats {
    PlainFloats(dtype == .float64 ? .float32 : dtype)
  }
}

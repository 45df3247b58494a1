// How a pruned matrix is stored.

import Encodings
import Pruning
import Tensors

/// The encoding of pruned matrices: floats of the type that they had, float64 as float32.
enum SparseStorage {
  /// A matrix with its zeros, without them where that is smaller.
  static func encode(
    _ weight: Matrix, dtype: DType, pattern: SparsityPattern, storesZeros: Bool
  ) -> EncodedMatrix {
    let dense = floats(dtype).encode(weight)
    return storesZeros ? dense : SparseEncoding.packed(dense, pattern: pattern) ?? dense
  }

  /// The encoding that a matrix will get when it has just the zeros that are asked for.
  static func encoding(
    dtype: DType, goal: SparsityGoal, storesZeros: Bool
  ) -> any WeightEncoding {
    let floats = floats(dtype)
    guard !storesZeros else { return floats }
    return SparseEncoding.planned(
      floats, outputs: goal.outputs, inputs: goal.inputs, zeros: goal.zeros, pattern: goal.pattern)
  }

  private static func floats(_ dtype: DType) -> PlainFloats {
    PlainFloats(dtype == .float64 ? .float32 : dtype)
  }
}

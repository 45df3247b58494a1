// Eight-bit weights with a scale a row, multiplied with activations rounded to eight bits, a scale a token.
//
// Source   the arithmetic of Xiao et al., "SmoothQuant", arXiv:2211.10438, with scales a token as in Yao et al.,
//          "ZeroQuant", arXiv:2206.01861
// Layout   W:codes   U8  [outputs, inputs]  a byte a weight
//          W:scales  F16 [outputs, 1]
// Decode   weight = scale * (code - 128)
// Product  a token's inputs x are rounded to x8 = round(127 x / max |x|); y = Σ x8 (code - 128), an exact integer, times
//          max |x| / 127 times the row's scale
// Checked  W8A8Tests: products equal those of a definition in integers, whatever the kernel and the number of tokens

public import Tensors

/// `w8a8`.
public struct W8A8: WeightEncoding, Equatable {
  /// The codes and scales, as group integers of one group a row.
  public static let weights = GroupIntegers(bits: 8, grouping: .channel, isSymmetric: true)

  /// The encoding.
  public init() {}

  /// `w8a8`.
  public var name: String { Self.nameList }
  /// The name.
  public static let nameList = "w8a8"

  /// The encoding of its name.
  public static func named(_ name: String) -> W8A8? { name == nameList ? W8A8() : nil }

  /// Codes and scales.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    Self.weights.parts(outputs: outputs, inputs: inputs)
  }

  /// The matrix over its parts.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    W8A8Matrix(
      weights: GroupIntegerMatrix(
        encoding: Self.weights, outputs: outputs, inputs: inputs, parts: parts))
  }
}

/// The weights, and the product in integers.
struct W8A8Matrix: LinearOperator {
  let weights: GroupIntegerMatrix

  var outputs: Int { weights.outputs }
  var inputs: Int { weights.inputs }
  var storedBits: Int { weights.storedBits }

  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    weights.decode(rows: rows, into: &target)
  }

  /// The activations become bytes too.
  var multipliesDecodedRows: Bool { false }

  func product(with x: Matrix) -> Matrix {
    let scales = weights.parts[1].floats()
    return weights.parts[0].withBytes { ByteProduct.apply(x, codes: $0, scales: scales) }
  }
}

// A matrix stored as floats: one tensor under the weight's own name.

public import Tensors

/// float32, float16 or bfloat16 values in rows (and float64, read only).
public struct PlainFloats: WeightEncoding, Equatable {
  /// The element type.
  public let dtype: DType

  /// Floats of a type.
  public init(_ dtype: DType) {
    precondition(dtype.isFloat, "\(dtype) is no floating type")
    self.dtype = dtype
  }

  /// `f32`, `f16`, `bf16` or `f64`.
  public var name: String { dtype.rawValue.lowercased() }
  /// The names.
  public static let nameList = "f32, f16, bf16"

  /// The float type of a name.
  public static func named(_ name: String) -> PlainFloats? {
    guard let dtype = DType(rawValue: name.uppercased()), dtype.isFloat, name == name.lowercased()
    else { return nil }
    return PlainFloats(dtype)
  }

  /// The tensor itself.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    [EncodedPart(suffix: "", dtype: dtype, shape: [outputs, inputs])]
  }

  /// Every value rounded to the type; float64 is not written.
  public func encode(_ weight: Matrix) -> EncodedMatrix {
    let tensor = Tensor(.float32, shape: [weight.rows, weight.columns], copying: weight.values)
    return EncodedMatrix(
      encoding: self, outputs: weight.rows, inputs: weight.columns,
      parts: [tensor.converted(to: dtype)])
  }

  /// The tensor as a matrix.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    FloatMatrix(parts[0])
  }
}

/// A tensor of floats as a matrix; mapped float32 rows are used where they lie.
public struct FloatMatrix: LinearOperator {
  private let tensor: Tensor

  /// A matrix over a tensor of floats; all dimensions but the last count as rows.
  public init(_ tensor: Tensor) {
    precondition(tensor.dtype.isFloat, "\(tensor.dtype) is no floating type")
    self.tensor = tensor
  }

  /// A matrix over values in memory.
  public init(_ matrix: Matrix) {
    self.init(Tensor(.float32, shape: [matrix.rows, matrix.columns], copying: matrix.values))
  }

  /// Rows.
  public var outputs: Int { tensor.rows }
  /// Columns.
  public var inputs: Int { tensor.columns }
  /// The tensor's bits.
  public var storedBits: Int { tensor.byteCount * 8 }

  /// Widens rows to float32.
  public func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    tensor.readFloats(
      elements: rows.lowerBound * inputs..<rows.upperBound * inputs, into: &target)
  }

  /// Hands out mapped float32 rows.
  public func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool {
    tensor.withFloatsInPlace(
      elements: rows.lowerBound * inputs..<rows.upperBound * inputs, body) != nil
  }
}

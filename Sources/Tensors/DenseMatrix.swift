/// Floats in memory as an operator, without a copy: the weights that training changes.
public struct DenseMatrix: LinearOperator {
  /// `[outputs, inputs]`.
  public let matrix: Matrix
  /// What factors of products are rounded to.
  public let precision: ProductPrecision

  /// An operator over a matrix.
  public init(_ matrix: Matrix, precision: ProductPrecision = .float32) {
    self.matrix = matrix.unrecorded
    self.precision = precision
  }

  /// Rows.
  public var outputs: Int { matrix.rows }
  /// Columns.
  public var inputs: Int { matrix.columns }
  /// 32 bits a value.
  public var storedBits: Int { 32 * matrix.values.count }

  /// Copies rows.
  public func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    let source = matrix.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs)
    for i in source.indices { target[i] = source[i] }
  }

  /// In float32 they are.
  public var multipliesDecodedRows: Bool { precision == .float32 }

  /// In the matrix's own precision; few rows always in float32.
  public func product(with x: Matrix) -> Matrix {
    guard precision == .bfloat16, x.rows > 4, inputs > 0 else {
      return product(ofDecodedRowsWith: x)
    }
    var result = Matrix(unwrittenRows: x.rows, columns: outputs)
    Bfloat16Product.multiply(
      x.values.span, stride: inputs, rows: x.rows, depth: inputs, matrix.values.span,
      isTransposed: false, to: &result, adds: false)
    return result
  }

  /// Hands out the rows where they lie.
  public func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool {
    body(matrix.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs))
    return true
  }
}

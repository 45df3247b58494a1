/// Floats in memory as an operator, without a copy: the weights that training changes.
public struct DenseMatrix: LinearOperator {
  /// `[outputs, inputs]`.
  public let matrix: Matrix

  /// An operator over a matrix.
  public init(_ matrix: Matrix) { self.matrix = matrix.unrecorded }

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

  /// Hands out the rows where they lie.
  public func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool {
    body(matrix.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs))
    return true
  }
}

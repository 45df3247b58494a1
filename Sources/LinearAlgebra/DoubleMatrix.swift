/// Doubles in rows: second moments and their factors.
public struct DoubleMatrix: Sendable, Equatable {
  /// Rows and columns of a square matrix.
  public let size: Int
  /// Row-major, `size * size` values.
  public var values: [Double]

  /// A square matrix over given values.
  public init(size: Int, values: [Double]) {
    precondition(values.count == size * size)
    self.size = size
    self.values = values
  }

  /// A square matrix of zeros.
  public init(size: Int) {
    self.init(size: size, values: [Double](repeating: 0, count: size * size))
  }

  /// Ones on the diagonal.
  public init(identity size: Int) {
    self.init(size: size)
    for index in 0..<size { self[index, index] = 1 }
  }

  /// One element.
  @inlinable public subscript(row: Int, column: Int) -> Double {
    get { values[row * size + column] }
    set { values[row * size + column] = newValue }
  }

  /// The diagonal.
  public var diagonal: [Double] { (0..<size).map { self[$0, $0] } }
}

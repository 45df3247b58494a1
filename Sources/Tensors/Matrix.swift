/// Floats in rows: activations `[tokens, width]`, a weight `[outputs, inputs]`.
public struct Matrix: Sendable, Equatable {
  /// The number of rows.
  public let rows: Int
  /// The number of columns.
  public let columns: Int
  /// Row-major, `rows * columns` values.
  public var values: [Float]
  /// How the values were made, for gradients; nil in inference.
  public var record: GradientRecord?

  /// A matrix over given values, `rows * columns` of them.
  public init(rows: Int, columns: Int, values: [Float]) {
    precondition(values.count == rows * columns, "\(values.count) values for \(rows) x \(columns)")
    self.rows = rows
    self.columns = columns
    self.values = values
    record = nil
  }

  /// Whether size and values are equal; how they were made does not count.
  public static func == (left: Matrix, right: Matrix) -> Bool {
    left.rows == right.rows && left.columns == right.columns && left.values == right.values
  }

  /// A matrix of zeros.
  public init(rows: Int, columns: Int) {
    self.init(rows: rows, columns: columns, values: [Float](repeating: 0, count: rows * columns))
  }

  /// `values` are `[columns, rows]`, as products with few rows come.
  public init(turned values: [Float], rows: Int, columns: Int) {
    precondition(values.count == rows * columns)
    guard rows > 1 else {
      self.init(rows: rows, columns: columns, values: values)
      return
    }
    self.init(rows: rows, columns: columns)
    for column in 0..<columns {
      for row in 0..<rows { self.values[row * columns + column] = values[column * rows + row] }
    }
  }

  /// A matrix whose every value is written before it is read: results of products.
  init(unwrittenRows rows: Int, columns: Int) {
    self.init(rows: rows, columns: columns, values: [Float](unwritten: rows * columns))
  }

  /// The indices of a row's values.
  @inlinable public func range(ofRow row: Int) -> Range<Int> {
    row * columns..<(row + 1) * columns
  }

  /// The values of one row, copied.
  public func row(_ row: Int) -> [Float] { Array(values[range(ofRow: row)]) }

  /// A copy of some rows.
  public func rows(_ rows: Range<Int>) -> Matrix {
    let range = rows.lowerBound * columns..<rows.upperBound * columns
    var result = Matrix(rows: rows.count, columns: columns, values: Array(values[range]))
    if let record {
      let height = self.rows
      result.record = GradientRecord(of: [record]) { gradient, _ in
        var whole = Matrix(rows: height, columns: gradient.columns)
        whole.values.replaceSubrange(range, with: gradient.values)
        return [whole]
      }
    }
    return result
  }

  /// Adds another matrix of the same size.
  public mutating func add(_ other: Matrix) {
    precondition(other.rows == rows && other.columns == columns)
    guard !values.isEmpty else { return }
    func add(_ part: inout MutableSpan<Float>, _ source: Span<Float>) {
      for i in source.indices { part[i] += source[i] }
    }
    guard record != nil || other.record != nil else {
      self = changed(with: other) { add(&$0, $1) }
      return
    }
    let record = GradientRecord(of: [record, other.record]) { gradient, _ in [gradient, gradient] }
    self = changedCopy(with: other) { add(&$0, $1) }
    self.record = record
  }

  /// The matrix after a change of its values that reads those of another of the same size; in place where it is the
  /// only owner of them. `body` gets some whole rows of both, in parallel.
  public consuming func changed(
    with other: Matrix, _ body: (inout MutableSpan<Float>, Span<Float>) -> Void
  ) -> Matrix {
    precondition(other.rows == rows && other.columns == columns)
    guard !values.isEmpty else { return self }
    let columns = columns
    ParallelLoop.overRows(of: &values, rowLength: columns, blockRows: max(32, 8192 / columns)) {
      rows, part in
      body(
        &part, other.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns))
    }
    return self
  }

  /// The same, without a record, for a matrix whose values are kept: each thread copies the rows that it changes.
  public func changedCopy(
    with other: Matrix, _ body: (inout MutableSpan<Float>, Span<Float>) -> Void
  ) -> Matrix {
    precondition(other.rows == rows && other.columns == columns)
    var result = Matrix(unwrittenRows: rows, columns: columns)
    guard !values.isEmpty else { return result }
    ParallelLoop.overRows(
      of: &result.values, rowLength: columns, blockRows: max(32, 8192 / columns)
    ) { rows, part in
      let range = rows.lowerBound * columns..<rows.upperBound * columns
      let own = values.span.extracting(range)
      for i in own.indices { part[i] = own[i] }
      body(&part, other.values.span.extracting(range))
    }
    return result
  }

  /// Every value times a factor.
  public func scaled(by factor: Float) -> Matrix {
    var result = changedCopy(with: self) { part, _ in
      for i in part.indices { part[i] *= factor }
    }
    result.record = GradientRecord(of: [record]) { gradient, _ in [gradient.scaled(by: factor)] }
    return result
  }

  /// The matrices' rows, one under the other; all have the same width.
  public static func stack(_ parts: [Matrix]) -> Matrix {
    var values: [Float] = []
    values.reserveCapacity(parts.reduce(0) { $0 + $1.values.count })
    for part in parts { values += part.values }
    var result = Matrix(
      rows: parts.reduce(0) { $0 + $1.rows }, columns: parts.first?.columns ?? 0, values: values)
    if parts.contains(where: { $0.record != nil }) {
      let heights = parts.map(\.rows)
      result.record = GradientRecord(of: parts.map(\.record)) { gradient, _ in
        var start = 0
        return heights.map { height in
          defer { start += height }
          return gradient.rows(start..<start + height)
        }
      }
    }
    return result
  }
}

extension Array where Element: BitwiseCopyable {
  /// Memory of which every value is written before it is read.
  init(unwritten count: Int) {
    unsafe self.init(unsafeUninitializedCapacity: count) { _, initialized in initialized = count }
  }
}

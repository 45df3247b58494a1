// Matrices side by side, and the same values in rows of another length.

extension Matrix {
  /// The same values in other rows, with the record of the way back.
  public func reshaped(rows: Int, columns: Int) -> Matrix {
    if rows == self.rows { return self }
    var result = Matrix(rows: rows, columns: columns, values: values)
    let height = self.rows, width = self.columns
    result.record = GradientRecord(of: [record]) { gradient, _ in
      [Matrix(rows: height, columns: width, values: gradient.values)]
    }
    return result
  }

  /// A copy of some columns.
  public func columns(_ range: Range<Int>) -> Matrix {
    precondition(range.lowerBound >= 0 && range.upperBound <= columns)
    if range == 0..<columns { return self }
    let width = columns
    var result = Matrix(unwrittenRows: rows, columns: range.count)
    ParallelLoop.overRows(
      of: &result.values, rowLength: range.count, blockRows: max(1, 8192 / max(1, range.count))
    ) { rows, part in
      for (index, row) in rows.enumerated() {
        let source = values.span.extracting(
          row * width + range.lowerBound..<row * width + range.upperBound)
        var target = part._mutatingExtracting(index * range.count..<(index + 1) * range.count)
        for i in source.indices { target[i] = source[i] }
      }
    }
    result.record = GradientRecord(of: [record]) { gradient, _ in
      var whole = Matrix(rows: gradient.rows, columns: width)
      whole.writeColumns(gradient, at: range.lowerBound)
      return [whole]
    }
    return result
  }

  /// A copy of some columns, in any order, without a record.
  public func selectingColumns(_ columns: [Int]) -> Matrix {
    precondition(columns.allSatisfy { (0..<self.columns).contains($0) })
    let width = self.columns
    var result = Matrix(unwrittenRows: rows, columns: columns.count)
    ParallelLoop.overRows(
      of: &result.values, rowLength: columns.count, blockRows: max(1, 8192 / max(1, columns.count))
    ) { rows, part in
      for (index, row) in rows.enumerated() {
        for (place, column) in columns.enumerated() {
          part[index * columns.count + place] = values[row * width + column]
        }
      }
    }
    return result
  }

  /// A copy of some rows, in any order, without a record.
  public func selectingRows(_ rows: [Int]) -> Matrix {
    precondition(rows.allSatisfy { (0..<self.rows).contains($0) })
    return Matrix(
      rows: rows.count, columns: columns, values: rows.flatMap { values[range(ofRow: $0)] })
  }

  /// The matrices' columns, one beside the other; all have the same rows.
  public static func sideBySide(_ parts: [Matrix]) -> Matrix {
    if parts.count == 1 { return parts[0] }
    let widths = parts.map(\.columns)
    var result = Matrix(
      unwrittenRows: parts.first?.rows ?? 0, columns: widths.reduce(0, +))
    var start = 0
    for part in parts {
      precondition(part.rows == result.rows, "\(part.rows) rows beside \(result.rows)")
      result.writeColumns(part, at: start)
      start += part.columns
    }
    result.record = GradientRecord(of: parts.map(\.record)) { gradient, _ in
      var start = 0
      return widths.map { width in
        defer { start += width }
        return gradient.columns(start..<start + width)
      }
    }
    return result
  }

  private mutating func writeColumns(_ part: Matrix, at first: Int) {
    let width = columns, count = part.columns
    guard count > 0, rows > 0 else { return }
    ParallelLoop.overRows(of: &values, rowLength: width, blockRows: max(1, 8192 / width)) {
      rows, target in
      for (index, row) in rows.enumerated() {
        let source = part.values.span.extracting(row * count..<(row + 1) * count)
        var own = target._mutatingExtracting(index * width + first..<index * width + first + count)
        for i in source.indices { own[i] = source[i] }
      }
    }
  }
}

// The two products of a linear layer's backward pass. With y = x Wᵀ and g the gradient of y, the gradient of x
// is g W, and that of W is Σ over tokens of g xᵀ.
//
// Cost     tokens * outputs * inputs multiply-adds each, through the panels of the forward pass
// Checked  GradientProductTests: the definitions in Double; the number of threads changes no bit

extension LinearOperator {
  /// `g W`: `[tokens, outputs]` to `[tokens, inputs]`. Encoded rows are decoded a few at a time.
  public func applyTransposed(to gradient: Matrix) -> Matrix {
    precondition(
      gradient.columns == outputs, "\(gradient.columns) values for \(outputs) outputs")
    let tokens = gradient.rows, inputs = inputs, outputs = outputs
    guard tokens > 0, inputs > 0, outputs > 0 else { return Matrix(rows: tokens, columns: inputs) }
    var result = Matrix(unwrittenRows: tokens, columns: inputs)
    var scratch: [Float] = []
    for start in stride(from: 0, to: outputs, by: AddedProduct.depth) {
      let rows = start..<min(start + AddedProduct.depth, outputs)
      let left = gradient.values.span.extracting(start..<gradient.values.count)
      let isInPlace = withRowsInPlace(rows) { weights in
        AddedProduct.multiply(
          left, stride: outputs, rows: tokens, weights, depth: rows.count, to: &result,
          adds: start > 0, precision: precision)
      }
      if isInPlace { continue }
      if scratch.count != rows.count * inputs {
        scratch = [Float](unwritten: rows.count * inputs)
      }
      ParallelLoop.overRows(of: &scratch, rowLength: inputs, blockRows: 64) { block, part in
        decode(rows: start + block.lowerBound..<start + block.upperBound, into: &part)
      }
      AddedProduct.multiply(
        left, stride: outputs, rows: tokens, scratch.span, depth: rows.count, to: &result,
        adds: start > 0, precision: precision)
    }
    return result
  }
}

extension Matrix {
  /// `Σ over rows t of self[t]ᵀ right[t]`: `[columns, right.columns]`. With the gradient of a linear layer's
  /// output as `self` and its input as `right`, the gradient of its weight.
  public func transposedProduct(
    _ right: Matrix, precision: ProductPrecision = .float32
  ) -> Matrix {
    guard rows > 0 else { return Matrix(rows: columns, columns: right.columns) }
    var result = Matrix(unwrittenRows: columns, columns: right.columns)
    result.takeTransposedProduct(self, right, adds: false, precision: precision)
    return result
  }

  /// Adds `leftᵀ right` to `self`, `[left.columns, right.columns]`: gradients that add up over batches.
  public mutating func addTransposedProduct(
    _ left: Matrix, _ right: Matrix, precision: ProductPrecision = .float32
  ) {
    takeTransposedProduct(left, right, adds: true, precision: precision)
  }

  private mutating func takeTransposedProduct(
    _ left: Matrix, _ right: Matrix, adds: Bool, precision: ProductPrecision
  ) {
    precondition(left.rows == right.rows, "\(left.rows) rows and \(right.rows) rows")
    precondition(rows == left.columns && columns == right.columns)
    guard left.rows > 0, rows > 0, columns > 0 else { return }
    for start in stride(from: 0, to: left.rows, by: AddedProduct.depth) {
      let depth = min(AddedProduct.depth, left.rows - start)
      AddedProduct.multiply(
        left.values.span.extracting(start * left.columns..<left.values.count),
        stride: left.columns, isTurned: true, rows: rows,
        right.values.span.extracting(start * columns..<(start + depth) * columns),
        depth: depth, to: &self, adds: adds || start > 0, precision: precision)
    }
  }

  /// The sums of the columns, in Double: the gradient of a bias from that of the output.
  public func columnSums() -> [Float] {
    var sums = [Double](repeating: 0, count: columns)
    for row in 0..<rows {
      let source = values.span.extracting(range(ofRow: row))
      for column in source.indices { sums[column] += Double(source[column]) }
    }
    return sums.map { Float($0) }
  }
}

/// Products of bounded depth. The pieces of a longer depth are added in order.
enum AddedProduct {
  /// Depth of one piece: its panel of 32 columns stays in the second-level cache.
  static let depth = 512
  /// Rows that go over all panels together; a multiple of the tile's 12.
  private static let blockRows = 120

  /// `result[i, j] = Σ_p left[i, p] · right[p, j]`, added to what the result holds with `adds`.
  ///
  /// - Parameters:
  ///   - left: `rows` rows of `depth` values, `stride` apart; with `isTurned` `depth` rows of `rows` values.
  ///   - right: `[depth, result.columns]`, row-major.
  static func multiply(
    _ left: Span<Float>, stride leftStride: Int, isTurned: Bool = false, rows: Int,
    _ right: Span<Float>, depth: Int, to result: inout Matrix, adds: Bool,
    precision: ProductPrecision
  ) {
    if precision == .bfloat16 {
      return Bfloat16Product.multiply(
        left, stride: leftStride, isLeftTurned: isTurned, rows: rows, depth: depth, right,
        isTransposed: true, to: &result, adds: adds)
    }
    let width = PanelProduct.width, columns = result.columns
    precondition(result.rows == rows && right.count >= depth * columns)
    let panels = (columns + width - 1) / width
    var packed = [Float](unwritten: panels * depth * width)
    ParallelLoop.overRows(of: &packed, rowLength: depth * width, blockRows: 1) { index, panel in
      let column = index.lowerBound * width
      PanelProduct.pack(
        columns: right.extracting(column..<right.count), stride: columns,
        count: min(width, columns - column), depth: depth, into: &panel)
    }
    ParallelLoop.overRows(of: &result.values, rowLength: columns, blockRows: blockRows) {
      block, part in
      func sweep(_ from: Span<Float>, stride: Int, _ part: inout MutableSpan<Float>) {
        for index in 0..<panels {
          let first = index * width
          PanelProduct.multiply(
            from, leftStride: stride, rows: block.count,
            panel: packed.span.extracting(index * depth * width..<(index + 1) * depth * width),
            depth: depth, into: &part, resultOffset: first, resultStride: columns,
            columns: min(width, columns - first), adds: adds)
        }
      }
      if isTurned {
        sweep(
          turned(left, stride: leftStride, block, depth: depth).span, stride: depth, &part)
      } else {
        sweep(
          left.extracting(block.lowerBound * leftStride..<left.count), stride: leftStride, &part)
      }
    }
  }

  /// Some columns of `depth` rows, `stride` apart, as rows `[columns, depth]`.
  static func turned(
    _ source: Span<Float>, stride: Int, _ columns: Range<Int>, depth: Int
  ) -> [Float] {
    var result = [Float](unwritten: columns.count * depth)
    var target = result.mutableSpan
    PanelProduct.transpose(
      source.extracting(columns.lowerBound..<source.count), stride: stride, rows: depth,
      columns: columns.count, into: &target, targetStride: depth)
    return result
  }
}

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
    var result = Matrix(rows: tokens, columns: inputs)
    guard tokens > 0, inputs > 0, outputs > 0 else { return result }
    var scratch: [Float] = []
    for start in stride(from: 0, to: outputs, by: AddedProduct.depth) {
      let rows = start..<min(start + AddedProduct.depth, outputs)
      let left = gradient.values.span.extracting(start..<gradient.values.count)
      let isInPlace = withRowsInPlace(rows) { weights in
        AddedProduct.add(
          left, stride: outputs, rows: tokens, weights, depth: rows.count, to: &result,
          precision: precision)
      }
      if isInPlace { continue }
      if scratch.count != rows.count * inputs {
        scratch = [Float](repeating: 0, count: rows.count * inputs)
      }
      ParallelLoop.overRows(of: &scratch, rowLength: inputs, blockRows: 64) { block, part in
        decode(rows: start + block.lowerBound..<start + block.upperBound, into: &part)
      }
      AddedProduct.add(
        left, stride: outputs, rows: tokens, scratch.span, depth: rows.count, to: &result,
        precision: precision)
    }
    return result
  }
}

extension Matrix {
  /// `Σ over rows t of self[t]ᵀ right[t]`: `[columns, right.columns]`. With the gradient of a linear layer's
  /// output as `self` and its input as `right`, the gradient of its weight.
  public func transposedProduct(_ right: Matrix) -> Matrix {
    var result = Matrix(rows: columns, columns: right.columns)
    result.addTransposedProduct(self, right)
    return result
  }

  /// Adds `leftᵀ right` to `self`, `[left.columns, right.columns]`: gradients that add up over batches.
  public mutating func addTransposedProduct(
    _ left: Matrix, _ right: Matrix, precision: ProductPrecision = .float32
  ) {
    let rows = left.rows, columns = left.columns
    precondition(rows == right.rows, "\(rows) rows and \(right.rows) rows")
    precondition(self.rows == columns && self.columns == right.columns)
    guard rows > 0, columns > 0, right.columns > 0 else { return }
    for start in stride(from: 0, to: rows, by: AddedProduct.depth) {
      let depth = min(AddedProduct.depth, rows - start)
      var turned = [Float](repeating: 0, count: columns * depth)
      ParallelLoop.overRows(of: &turned, rowLength: depth, blockRows: 32) { block, part in
        PanelProduct.transpose(
          left.values.span.extracting(
            start * columns + block.lowerBound..<left.values.count), stride: columns, rows: depth,
          columns: block.count, into: &part, targetStride: depth)
      }
      AddedProduct.add(
        turned.span, stride: depth, rows: columns,
        right.values.span.extracting(start * right.columns..<(start + depth) * right.columns),
        depth: depth, to: &self, precision: precision)
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

/// Products of bounded depth, added to a result. The pieces of the depth are added in order.
enum AddedProduct {
  /// Depth of one piece: its panel of 32 columns stays in the second-level cache.
  static let depth = 512
  /// Rows that go over all panels together; a multiple of the tile's 12.
  private static let blockRows = 120

  /// `result[i, j] += Σ_p left[i, p] · right[p, j]`.
  ///
  /// - Parameters:
  ///   - left: `rows` rows of `depth` values, `stride` apart.
  ///   - right: `[depth, result.columns]`, row-major.
  static func add(
    _ left: Span<Float>, stride leftStride: Int, rows: Int, _ right: Span<Float>, depth: Int,
    to result: inout Matrix, precision: ProductPrecision
  ) {
    if precision == .bfloat16 {
      return Bfloat16Product.multiply(
        left, stride: leftStride, rows: rows, depth: depth, right, isTransposed: true, to: &result,
        adds: true)
    }
    let width = PanelProduct.width, columns = result.columns
    precondition(result.rows == rows && right.count >= depth * columns)
    let panels = (columns + width - 1) / width
    var packed = [Float](repeating: 0, count: panels * depth * width)
    ParallelLoop.overRows(of: &packed, rowLength: depth * width, blockRows: 1) { index, panel in
      let column = index.lowerBound * width
      PanelProduct.pack(
        columns: right.extracting(column..<right.count), stride: columns,
        count: min(width, columns - column), depth: depth, into: &panel)
    }
    ParallelLoop.overRows(of: &result.values, rowLength: columns, blockRows: blockRows) {
      block, part in
      let from = left.extracting(block.lowerBound * leftStride..<left.count)
      for index in 0..<panels {
        let first = index * width
        PanelProduct.multiply(
          from, leftStride: leftStride, rows: block.count,
          panel: packed.span.extracting(index * depth * width..<(index + 1) * depth * width),
          depth: depth, into: &part, resultOffset: first, resultStride: columns,
          columns: min(width, columns - first), adds: true)
      }
    }
  }
}

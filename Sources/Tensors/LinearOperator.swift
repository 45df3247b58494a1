// A weight matrix as the networks use it: something that gives its rows and multiplies.
//
// Products with few rows of activations read each weight row once and take dot products; products with
// many pack weight rows into panels. Both are written here once, for every encoding.

/// A matrix `[outputs, inputs]` in any encoding: y = W x.
public protocol LinearOperator: Sendable {
  /// Rows of the matrix: the width of a result.
  var outputs: Int { get }
  /// Columns of the matrix: the width of an argument.
  var inputs: Int { get }
  /// Every stored bit: codes, scales and tables.
  var storedBits: Int { get }
  /// Writes some rows as floats, `[rows, inputs]`, to the start of `target`.
  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>)
  /// Calls `body` with the rows `[rows, inputs]` where they already lie in memory as floats, and returns
  /// true; returns false when they do not.
  func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool
  /// What the factors of the products of a backward pass are rounded to.
  var precision: ProductPrecision { get }
  /// `x Wᵀ` for at least one row and one output; `apply` checks sizes and adds a bias.
  func product(with x: Matrix) -> Matrix
  /// Whether `product` is that of the rows as `decode` gives them, so that they may be packed by others.
  var multipliesDecodedRows: Bool { get }
}

extension LinearOperator {
  /// They stay as they are, unless a conformer says otherwise.
  public var precision: ProductPrecision { .float32 }

  /// They are, unless a conformer says otherwise.
  public var multipliesDecodedRows: Bool { true }

  /// Not in place, unless a conformer says otherwise.
  public func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool { false }

  /// Stored bits over the number of weights.
  public var bitsPerWeight: Double { Double(storedBits) / Double(max(1, outputs * inputs)) }

  /// The whole matrix as floats.
  public func decoded() -> Matrix {
    var matrix = Matrix(rows: outputs, columns: inputs)
    ParallelLoop.overRows(of: &matrix.values, rowLength: inputs, blockRows: 64) { rows, part in
      decode(rows: rows, into: &part)
    }
    return matrix
  }

  /// Some rows by index, as an embedding reads them. The indices must lie below `outputs`.
  public func gather(_ rows: [Int32]) -> Matrix {
    var result = Matrix(unwrittenRows: rows.count, columns: inputs)
    ParallelLoop.overRows(of: &result.values, rowLength: inputs, blockRows: 64) { block, part in
      for (index, row) in block.enumerated() {
        var target = part._mutatingExtracting(index * inputs..<(index + 1) * inputs)
        decode(rows: Int(rows[row])..<Int(rows[row]) + 1, into: &target)
      }
    }
    return result
  }

  /// `y = x Wᵀ` (+ bias): `[tokens, inputs]` to `[tokens, outputs]`.
  ///
  /// Each value of the result is summed in one order, whatever the number of threads; few rows (at
  /// most 4) are summed in another order than many.
  public func apply(to x: Matrix, bias: [Float]? = nil) -> Matrix {
    precondition(x.columns == inputs, "\(x.columns) inputs for a matrix of \(outputs) x \(inputs)")
    precondition(bias.map { $0.count == outputs } ?? true)
    guard x.rows > 0, outputs > 0 else { return Matrix(rows: x.rows, columns: outputs) }
    var result = product(with: x)
    if let bias {
      let width = bias.count
      ParallelLoop.overRows(of: &result.values, rowLength: width, blockRows: 64) { rows, part in
        let bias = bias.span
        for row in 0..<rows.count {
          var target = part._mutatingExtracting(row * width..<(row + 1) * width)
          for i in bias.indices { target[i] += bias[i] }
        }
      }
    }
    return result
  }

  /// In float32, unless a conformer says otherwise.
  public func product(with x: Matrix) -> Matrix { product(ofDecodedRowsWith: x) }

  /// The product in float32 with rows as `decode` gives them.
  public func product(ofDecodedRowsWith x: Matrix) -> Matrix {
    x.rows <= 4 || inputs == 0 ? applyToFew(x) : applyToMany(x)
  }

  /// Calls `body` with rows as floats, in place or decoded into `scratch`.
  func withRows(
    _ rows: Range<Int>, scratch: inout [Float], _ body: (Span<Float>) -> Void
  ) {
    if withRowsInPlace(rows, body) { return }
    if scratch.count < rows.count * inputs {
      scratch = [Float](unwritten: rows.count * inputs)
    }
    var target = scratch.mutableSpan
    decode(rows: rows, into: &target)
    body(scratch.span.extracting(0..<rows.count * inputs))
  }

  private func applyToFew(_ x: Matrix) -> Matrix {
    let tokens = x.rows, inputs = inputs
    // [outputs, tokens], so that each block of outputs is one piece; turned at the end.
    var turned = [Float](repeating: 0, count: outputs * tokens)
    let block = max(1, min(64, 16384 / max(1, inputs)))
    ParallelLoop.overRows(of: &turned, rowLength: tokens, blockRows: block) { rows, part in
      var scratch: [Float] = []
      withRows(rows, scratch: &scratch) { weights in
        for row in 0..<rows.count {
          let weight = weights.extracting(row * inputs..<(row + 1) * inputs)
          for token in 0..<tokens {
            part[row * tokens + token] = dot(
              x.values.span.extracting(token * inputs..<(token + 1) * inputs), weight)
          }
        }
      }
    }
    return Matrix(turned: turned, rows: tokens, columns: outputs)
  }

  private func applyToMany(_ x: Matrix) -> Matrix {
    let width = PanelProduct.width, inputs = inputs, outputs = outputs
    var result = Matrix(unwrittenRows: x.rows, columns: outputs)
    // Panels of up to 4 MB are packed at a time, then every block of rows goes over them. A block of
    // rows and one panel stay in the second-level cache.
    let panels = (outputs + width - 1) / width
    let panelsAtOnce = max(1, min(panels, (1 << 20) / (inputs * width)))
    let blockRows = max(12, min(240, (1 << 17) / inputs / 12 * 12))
    var packed = [Float](unwritten: panelsAtOnce * inputs * width)
    for first in stride(from: 0, to: panels, by: panelsAtOnce) {
      let count = min(panelsAtOnce, panels - first)
      ParallelLoop.parts(
        of: &packed, count: count,
        range: {
          $0 * inputs * width..<($0 + 1) * inputs * width
        }
      ) { index, panel in
        let rows = (first + index) * width..<min((first + index + 1) * width, outputs)
        var scratch: [Float] = []
        withRows(rows, scratch: &scratch) { weights in
          PanelProduct.pack(
            rows: weights, stride: inputs, count: rows.count, depth: inputs, into: &panel)
        }
      }
      ParallelLoop.overRows(of: &result.values, rowLength: outputs, blockRows: blockRows) {
        rows, part in
        let left = x.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs)
        for index in 0..<count {
          let column = (first + index) * width
          PanelProduct.multiply(
            left, leftStride: inputs, rows: rows.count,
            panel: packed.span.extracting(index * inputs * width..<(index + 1) * inputs * width),
            depth: inputs, into: &part, resultOffset: column, resultStride: outputs,
            columns: min(width, outputs - column))
        }
      }
    }
    return result
  }
}

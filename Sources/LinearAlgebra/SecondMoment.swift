// H = Σ x xᵀ of a layer's inputs, the statistic behind GPTQ and its relatives.
//
// Given    activations [samples, width], in batches
// Result   the sum, symmetric, in double
// Cost     samples * width^2 multiply-adds in float32, in blocks of 256 samples that are added in double
// Checked  SecondMomentTests: equals the sum in Double

public import Tensors

/// A running sum of outer products.
public struct SecondMoment: Sendable {
  /// The width of a sample.
  public let width: Int
  /// How many samples were added.
  public private(set) var samples = 0
  /// The upper triangle of the sum, row-major.
  private var sum: [Double]

  /// Samples per float32 block: enough for a fast product, few enough for 24 bits.
  private static let blockSamples = 256
  /// Rows of the result that one call computes.
  private static let blockRows = 128

  /// The empty sum.
  public init(width: Int) {
    self.width = width
    sum = [Double](repeating: 0, count: width * width)
  }

  /// Adds every row of `x`.
  public mutating func add(_ x: Matrix) {
    precondition(x.columns == width)
    samples += x.rows
    let width = width
    let blocks = (width + Self.blockRows - 1) / Self.blockRows
    ParallelLoop.parts(
      of: &sum, count: blocks,
      range: { block in
        block * Self.blockRows * width..<min((block + 1) * Self.blockRows, width) * width
      }
    ) { block, part in
      let rows = block * Self.blockRows..<min((block + 1) * Self.blockRows, width)
      var gram = [Float](repeating: 0, count: rows.count * width)
      for start in stride(from: 0, to: x.rows, by: Self.blockSamples) {
        let count = min(Self.blockSamples, x.rows - start)
        BLAS.gram(
          x.values.span.extracting(start * width..<(start + count) * width), samples: count,
          width: width, rows: rows, into: &gram)
        for row in 0..<rows.count {
          let source = gram.span.extracting(row * width + rows.lowerBound + row..<(row + 1) * width)
          var target = part._mutatingExtracting(
            row * width + rows.lowerBound + row..<(row + 1) * width)
          for i in source.indices { target[i] += Double(source[i]) }
        }
      }
    }
  }

  /// The mean of `x xᵀ`, both triangles, in the memory of the sum; zero when nothing was added.
  public consuming func mean() -> DoubleMatrix {
    let width = width
    var values = sum
    sum = []
    let scale = samples > 0 ? 1 / Double(samples) : 0
    for row in 0..<width {
      for column in row..<width {
        let value = values[row * width + column] * scale
        values[row * width + column] = value
        values[column * width + row] = value
      }
    }
    return DoubleMatrix(size: width, values: values)
  }
}

// Σ (x − y) yᵀ of what a layer reads in two states of a model: x in the original, y in the one quantized so far.
//
// Source   Li et al., "GPTAQ", ICML 2025, arXiv:2504.02692, section 3 (ΔX Xᵀ)
// Given    activations [samples, width] of the same tokens, in batches
// Result   the sum, in double; with Σ y yᵀ added it is Σ x yᵀ
// Cost     samples * width^2 multiply-adds in float32, in blocks of 256 samples that are added in double
// Differs  differences are multiplied, not the inputs, whose products are larger and nearly cancel
// Checked  CrossMomentTests: equals the sum in Double

public import Tensors

/// A running sum of outer products of differences and inputs.
public struct CrossMoment: Sendable {
  /// The width of a sample.
  public let width: Int
  /// How many samples were added.
  public private(set) var samples = 0
  /// `[width, width]`, rows of the differences.
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

  /// Adds the rows of `original`, less those of `current`, times the rows of `current`.
  public mutating func add(original: Matrix, current: Matrix) {
    precondition(original.columns == width && current.columns == width)
    precondition(original.rows == current.rows, "two states of the same tokens")
    samples += current.rows
    let width = width, count = current.rows
    var differences = original.values
    for i in differences.indices { differences[i] -= current.values[i] }
    let difference = differences
    let blocks = (width + Self.blockRows - 1) / Self.blockRows
    ParallelLoop.parts(
      of: &sum, count: blocks,
      range: { block in
        block * Self.blockRows * width..<min((block + 1) * Self.blockRows, width) * width
      }
    ) { block, part in
      let rows = block * Self.blockRows..<min((block + 1) * Self.blockRows, width)
      for start in stride(from: 0, to: count, by: Self.blockSamples) {
        let depth = min(Self.blockSamples, count - start)
        var product = [Float](repeating: 0, count: rows.count * width)
        var target = product.mutableSpan
        BLAS.addProduct(
          scale: 1,
          difference.span.extracting(start * width + rows.lowerBound..<(start + depth) * width),
          transposed: true, aStride: width,
          current.values.span.extracting(start * width..<(start + depth) * width), bStride: width,
          to: &target, cStride: width, rows: rows.count, columns: width, depth: depth)
        let source = product.span
        for i in source.indices { part[i] += Double(source[i]) }
      }
    }
  }

  /// The mean of `(x − y) yᵀ`, in the memory of the sum; zero when nothing was added.
  public consuming func mean() -> DoubleMatrix {
    let width = width
    var values = sum
    sum = []
    let scale = samples > 0 ? 1 / Double(samples) : 0
    for i in values.indices { values[i] *= scale }
    return DoubleMatrix(size: width, values: values)
  }
}

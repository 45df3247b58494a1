// Σ t yᵀ of what a layer should give and what it reads: the right-hand side of the least-squares problem for its weight.
//
// Given    targets [samples, outputs] and inputs [samples, inputs] of the same tokens, in batches
// Result   the sum [outputs, inputs], in double
// Cost     samples * outputs * inputs multiply-adds in float32, in blocks of 256 samples that are added in double
// Checked  ProductMomentTests: equals the sum in Double

public import Tensors

/// A running sum of outer products of targets and inputs.
public struct ProductMoment: Sendable {
  /// The width of a target.
  public let outputs: Int
  /// The width of an input.
  public let inputs: Int
  /// How many samples were added.
  public private(set) var samples = 0
  /// `[outputs, inputs]`.
  private var sum: [Double]

  /// Samples per float32 block: enough for a fast product, few enough for 24 bits.
  private static let blockSamples = 256
  /// Rows of the result that one call computes.
  private static let blockRows = 64

  /// The empty sum.
  public init(outputs: Int, inputs: Int) {
    self.outputs = outputs
    self.inputs = inputs
    sum = [Double](repeating: 0, count: outputs * inputs)
  }

  /// Adds the rows of `targets` times those of `y`.
  public mutating func add(targets: Matrix, inputs y: Matrix) {
    precondition(targets.columns == outputs && y.columns == inputs && targets.rows == y.rows)
    samples += y.rows
    let outputs = outputs, inputs = inputs, count = y.rows
    let blocks = (outputs + Self.blockRows - 1) / Self.blockRows
    ParallelLoop.parts(
      of: &sum, count: blocks,
      range: { block in
        block * Self.blockRows * inputs..<min((block + 1) * Self.blockRows, outputs) * inputs
      }
    ) { block, part in
      let rows = block * Self.blockRows..<min((block + 1) * Self.blockRows, outputs)
      for start in stride(from: 0, to: count, by: Self.blockSamples) {
        let depth = min(Self.blockSamples, count - start)
        var product = [Float](repeating: 0, count: rows.count * inputs)
        var target = product.mutableSpan
        BLAS.addProduct(
          scale: 1,
          targets.values.span.extracting(
            start * outputs + rows.lowerBound..<(start + depth) * outputs),
          transposed: true, aStride: outputs,
          y.values.span.extracting(start * inputs..<(start + depth) * inputs), bStride: inputs,
          to: &target, cStride: inputs, rows: rows.count, columns: inputs, depth: depth)
        let source = product.span
        for i in source.indices { part[i] += Double(source[i]) }
      }
    }
  }

  /// The mean of `t yᵀ`, row-major `[outputs, inputs]`, in the memory of the sum; zero when nothing was added.
  public consuming func mean() -> [Double] {
    var values = sum
    sum = []
    let scale = samples > 0 ? 1 / Double(samples) : 0
    for i in values.indices { values[i] *= scale }
    return values
  }
}

// How much a part of a network turns the residual stream.
//
// Source   Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024,
//          arXiv:2403.03853, section 3.2, equation 1
// Given    the stream before and behind the part, [tokens, width], in batches
// Result   1 less the mean over tokens of the cosine of both
// Checked  StructuredImportanceTests: the definition in Double

public import Tensors

/// A running mean of 1 − cos.
public struct BlockInfluence: Sendable {
  private var sum = 0.0
  private var tokens = 0

  /// The empty mean.
  public init() {}

  /// Adds every token of a batch.
  public mutating func add(before: Matrix, behind: Matrix) {
    precondition(before.rows == behind.rows && before.columns == behind.columns)
    tokens += before.rows
    sum += ParallelLoop.map(before.rows) { row -> Double in
      let range = before.range(ofRow: row)
      let a = before.values.span.extracting(range), b = behind.values.span.extracting(range)
      let scale = (Double(dot(a, a)) * Double(dot(b, b))).squareRoot()
      return scale > 0 ? 1 - Double(dot(a, b)) / scale : 0
    }.reduce(0, +)
  }

  /// The mean; 0 when nothing was added.
  public var mean: Double { tokens > 0 ? sum / Double(tokens) : 0 }
}

// Importance of heads and channels by the size of their activations.
//
// Source   Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation" (Minitron), NeurIPS
//          2024, arXiv:2407.14679, section 2.2: heads by the L2 norm of their outputs, MLP channels by their
//          activations, channels of the stream by the norms' outputs
// Given    activations [tokens, groups * size], in batches
// Result   for each group the mean over tokens of the L2 norm of its channels, [groups]
// Differs  the mean is over all tokens of all sequences; Minitron takes L2 means over the batch
// Checked  StructuredImportanceTests: the definition in Double

public import Tensors

/// A running mean of the norms of groups of channels.
public struct ActivationImportance: Sendable {
  /// Channels of a group.
  public let groupSize: Int
  private var sums: [Double]
  private var tokens = 0

  /// The empty mean.
  public init(groups: Int, groupSize: Int) {
    precondition(groups > 0 && groupSize > 0)
    self.groupSize = groupSize
    sums = [Double](repeating: 0, count: groups)
  }

  /// Adds every row of `x`.
  public mutating func add(_ x: Matrix) {
    let size = groupSize, groups = sums.count
    precondition(x.columns == groups * size)
    tokens += x.rows
    let block = max(1, 64 / size)
    ParallelLoop.parts(
      of: &sums, count: (groups + block - 1) / block,
      range: { $0 * block..<min(groups, ($0 + 1) * block) }
    ) { index, part in
      for row in 0..<x.rows {
        for place in 0..<part.count {
          let start = row * x.columns + (index * block + place) * size
          if size == 1 {
            part[place] += Double(abs(x.values[start]))
          } else {
            let values = x.values.span.extracting(start..<start + size)
            part[place] += Double(dot(values, values)).squareRoot()
          }
        }
      }
    }
  }

  /// The means, `[groups]`.
  public var means: [Double] { sums.map { $0 / Double(max(1, tokens)) } }
}

// Importance of heads and channels by the loss: how steeply it rises as each is faded out.
//
// Source   Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv:1906.10771 (first-order
//          Taylor); gates in front of heads and channels, squared gradients by sample: Kwon et al., "A Fast Post-Training
//          Pruning Framework for Transformers", NeurIPS 2022, arXiv:2204.09656, section 3.2
// Given    a layer's inputs x and the gradient d = g W of the loss with respect to them, [tokens, groups * size]
// Result   for each group the mean over sequences of (Σ over its tokens and channels of x d)^2, [groups]: the diagonal of
//          the Fisher information of gates m in x -> m x, at m = 1
// Checked  StructuredImportanceTests: the definition in Double

public import Tensors

/// A running mean of the squared gradients of gates.
public struct GateImportance: Sendable {
  /// Channels of a group.
  public let groupSize: Int
  private var sums: [Double]
  private var sequences = 0

  /// The empty mean.
  public init(groups: Int, groupSize: Int) {
    precondition(groups > 0 && groupSize > 0)
    self.groupSize = groupSize
    sums = [Double](repeating: 0, count: groups)
  }

  /// Adds a batch.
  ///
  /// - Parameters:
  ///   - x: A layer's inputs.
  ///   - gradient: The loss's gradient with respect to them, of the same size.
  ///   - ranges: The rows of each sequence.
  public mutating func add(_ x: Matrix, gradient: Matrix, sequences ranges: [Range<Int>]) {
    let size = groupSize, groups = sums.count
    precondition(x.columns == groups * size && gradient.columns == x.columns)
    precondition(x.rows == gradient.rows)
    sequences += ranges.count
    let columns = x.columns
    ParallelLoop.parts(of: &sums, count: groups, range: { $0..<$0 + 1 }) { group, part in
      for rows in ranges {
        var sum = 0.0
        for row in rows {
          let start = row * columns + group * size
          for i in start..<start + size {
            sum += Double(x.values[i]) * Double(gradient.values[i])
          }
        }
        part[0] += sum * sum
      }
    }
  }

  /// The means, `[groups]`.
  public var means: [Double] { sums.map { $0 / Double(max(1, sequences)) } }
}

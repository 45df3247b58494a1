// OWL: layers with more outliers keep more weights.
//
// Source   Yin et al., "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for Pruning LLMs to High
//          Sparsity", ICML 2024, arXiv:2310.05175, section 3.2 and the authors' code
// Given    of each layer the worth A_ij = |W_ij| ||x_j|| of its weights; the mean sparsity S; M = 5; lambda = 0.08
// Result   D = share of a layer's A above M times their mean; its sparsity is S less lambda-scaled D:
//          S_l = S - (2 lambda (D_l - min D) / (max D - min D) - mean of that)
// Differs  the mean is weighted by the layers' weights, so that the model as a whole gets S exactly
// Checked  SparsitySharingTests: the formula; the mean

import LinearAlgebra
public import Tensors

/// The share of outliers among a layer's weights.
public struct OutlierProfile: Sendable, Equatable {
  /// A weight is an outlier when its worth is above so many times the mean.
  public static let factor = 5.0
  /// How far sparsities move from their mean.
  public static let spread = 0.08

  /// Weights counted.
  public private(set) var weights = 0
  private var outliers = 0

  /// D.
  public var share: Double { Double(outliers) / Double(max(1, weights)) }

  /// The profile of a layer's matrices, whose worths have one mean.
  ///
  /// - Parameter matrices: Each with the mean square of its inputs.
  public init(of matrices: [(weight: Matrix, inputSquares: [Double])]) {
    var sum = 0.0
    func visit(_ body: (Double) -> Void) {
      for (weight, squares) in matrices {
        let sizes = squares.map { $0.squareRoot() }
        for row in 0..<weight.rows {
          for (column, index) in weight.range(ofRow: row).enumerated() {
            body(Double(abs(weight.values[index])) * sizes[column])
          }
        }
      }
    }
    var count = 0, above = 0
    visit {
      sum += $0
      count += 1
    }
    let limit = Self.factor * sum / Double(max(1, count))
    visit { above += $0 > limit ? 1 : 0 }
    weights = count
    outliers = above
  }

  /// The sparsities of layers, whose mean over all weights is `sparsity`.
  public static func sparsities(
    _ layers: [(share: Double, weights: Int)], sparsity: Double, spread: Double = spread
  ) -> [Double] {
    let least = layers.map(\.share).min() ?? 0, most = layers.map(\.share).max() ?? 0
    guard most > least else { return layers.map { _ in sparsity } }
    let kept = layers.map { 2 * spread * ($0.share - least) / (most - least) }
    let total = layers.reduce(0) { $0 + $1.weights }
    let mean = zip(kept, layers).reduce(0.0) { $0 + $1.0 * Double($1.1.weights) } / Double(total)
    // Near none or all of the weights the spread shrinks, so that every sparsity stays between them.
    let low = (kept.max() ?? 0) - mean, high = mean - (kept.min() ?? 0)
    let scale = min(1, 0.95 * sparsity / max(low, 1e-12), 0.95 * (1 - sparsity) / max(high, 1e-12))
    return kept.map { sparsity - scale * ($0 - mean) }
  }
}

// What a quantizer is told of a layer: what it reads, and which of its outputs count.

import Calibration
import Quantization

/// Statistics of a layer's inputs and the importance of its outputs.
struct LayerKnowledge {
  var statistics: InputStatistics
  /// How much a squared error of each output counts, `[outputs]`; nil counts all alike.
  var outputImportance: [Double]?

  /// The same for some of the outputs.
  func rows(_ rows: [Int]) -> LayerKnowledge {
    LayerKnowledge(
      statistics: statistics,
      outputImportance: outputImportance.map { values in rows.map { values[$0] } })
  }
}

/// How often a model meets each token: what an error in a token's row of the embedding, or of the head, costs.
struct TokenImportance {
  /// By token.
  let rows: [Double]

  /// Counts the tokens of a set. A token that it lacks counts as if seen half a time: calibration is a sample.
  init(_ set: CalibrationSet, vocabulary: Int) {
    var counts = [Double](repeating: 0.5, count: vocabulary)
    for sequence in set.sequences {
      for token in sequence { counts[Int(token)] += 1 }
    }
    rows = counts
  }
}

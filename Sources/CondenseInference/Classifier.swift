// Labels of pictures and other samples.

import Checkpoints
import Foundation
public import Networks
import Tensors

/// A label and how likely a model finds it.
public struct LabelGuess: Sendable, Equatable {
  /// The label's number.
  public let label: Int
  /// From 0 to 1.
  public let probability: Double
}

extension Model {
  /// The likeliest labels of samples, the likeliest first.
  ///
  /// - Parameters:
  ///   - samples: Samples of the network's own shape, such as pictures in NumPy's format.
  ///   - count: Labels of each sample.
  /// - Throws: `CheckpointError` when the model tells no labels.
  public func classify(_ samples: SampleArray, count: Int = 1) throws -> [[LabelGuess]] {
    let network = try sampleNetwork()
    guard network.isClassifier, network.results.count == 1 else {
      throw CheckpointError(
        path: checkpoint.path,
        .unsupported(
          "labels from a \(network.family) network, which gives "
            + (network.isClassifier ? "\(network.results.count) results" : "other numbers")))
    }
    var guesses: [[LabelGuess]] = []
    for start in stride(from: 0, to: samples.count, by: network.batchSamples) {
      let end = min(start + network.batchSamples, samples.count)
      let batch = network.batch(samples.features(start..<end, network.normalization))
      guesses += Self.guesses(network.logits(network.outputs(batch)), count)
    }
    return guesses
  }

  /// The likeliest labels of each row of logits; of equal ones the lower number comes first.
  private static func guesses(_ logits: Matrix, _ count: Int) -> [[LabelGuess]] {
    (0..<logits.rows).map { row in
      let values = logits.row(row)
      let sum = logSumExp(values.span)
      let order = values.indices.sorted { (values[$1], $0) < (values[$0], $1) }
      return order.prefix(count).map {
        LabelGuess(label: $0, probability: Foundation.exp(Double(values[$0]) - sum))
      }
    }
  }
}

// Arrays of samples with their labels, as training and teachers' logs read them.

import Checkpoints
import Networks

/// The samples of one or more files.
struct LabelledSamples {
  /// The files' arrays.
  let arrays: [SampleArray]
  /// The right label of each sample of all arrays; nil without labels.
  let labels: [Int]?

  /// Opens arrays for a network.
  ///
  /// - Parameter labels: A file for each of the arrays, or none.
  /// - Throws: `CheckpointError` for arrays of another shape, and labels that are no labels of the network.
  init(_ paths: [String], labels: [String] = [], for network: any SampleNetwork) throws {
    precondition(labels.isEmpty || labels.count == paths.count)
    let arrays = try paths.map { try SampleArray(path: $0, for: network) }
    self.arrays = arrays
    if let path = labels.first { try Self.checkTakesLabels(network, path: path) }
    self.labels =
      labels.isEmpty
      ? nil
      : try zip(arrays, labels).flatMap { array, path in
        try SampleArray.labels(path: path, count: array.count, below: network.outputCount)
      }
  }

  /// Refuses labels for a network that tells none, or several.
  static func checkTakesLabels(
    _ network: any SampleNetwork, path: String
  ) throws(CheckpointError) {
    guard network.results.count == 1 else {
      throw CheckpointError(
        path: path, .unsupported("labels for a network of \(network.results.count) results"))
    }
    guard network.isClassifier else {
      throw CheckpointError(path: path, .unsupported("labels for a network that tells none"))
    }
  }

  /// The hash of the files, in their order.
  static func hash(_ paths: [String]) throws -> String {
    var hash = ContentHash()
    for path in paths { hash.update(try ContentHash.of(file: path)) }
    return hash.digits
  }
}

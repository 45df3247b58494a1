public import Networks
public import Tensors

/// Samples of numbers as a network reads them: normalized pictures, signals, rows of a table.
public struct SampleSet: Sendable {
  /// `[samples * rowsPerSample, channels]`.
  public let features: Matrix
  /// Rows of a sample.
  public let rowsPerSample: Int
  /// Samples of a batch.
  public let batchSamples: Int

  /// Samples for a network.
  public init(_ features: Matrix, for network: any SampleNetwork) {
    self.init(
      features, rowsPerSample: network.input.rows, batchSamples: network.batchSamples)
  }

  private init(_ features: Matrix, rowsPerSample: Int, batchSamples: Int) {
    precondition(features.rows % rowsPerSample == 0)
    self.features = features
    self.rowsPerSample = rowsPerSample
    self.batchSamples = batchSamples
  }

  /// How many samples there are.
  public var count: Int { features.rows / rowsPerSample }

  /// The first samples.
  func first(_ count: Int) -> SampleSet {
    SampleSet(
      features.rows(0..<count * rowsPerSample), rowsPerSample: rowsPerSample,
      batchSamples: batchSamples)
  }

  /// All samples in batches.
  public var batches: [TokenBatch] {
    stride(from: 0, to: count, by: batchSamples).map { start in
      let end = min(start + batchSamples, count)
      return TokenBatch(
        features: features.rows(start * rowsPerSample..<end * rowsPerSample),
        rowsPerSample: rowsPerSample)
    }
  }
}

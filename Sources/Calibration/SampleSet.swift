public import Networks
public import Tensors

/// Samples of numbers as a network reads them: normalized pictures, signals, rows of a table; recordings with the tokens of
/// their transcripts.
public struct SampleSet: Sendable {
  /// `[samples * rowsPerSample, channels]`.
  public let features: Matrix
  /// Rows of a sample.
  public let rowsPerSample: Int
  /// Samples of a batch.
  public let batchSamples: Int
  /// What a decoder reads of each sample; nil where the network reads samples alone.
  public let tokens: [[Int32]]?

  /// Samples for a network.
  public init(_ features: Matrix, for network: any SampleNetwork) {
    self.init(
      features, tokens: nil, rowsPerSample: network.input.rows, batchSamples: network.batchSamples)
  }

  /// Recordings for a network, with as many sequences of tokens.
  public init(_ features: Matrix, tokens: [[Int32]], for network: any SpeechRecognizer) {
    self.init(
      features, tokens: tokens, rowsPerSample: network.input.rows,
      batchSamples: network.batchSamples)
  }

  private init(_ features: Matrix, tokens: [[Int32]]?, rowsPerSample: Int, batchSamples: Int) {
    precondition(features.rows % rowsPerSample == 0)
    precondition(tokens.map { $0.count == features.rows / rowsPerSample } ?? true)
    self.features = features
    self.tokens = tokens
    self.rowsPerSample = rowsPerSample
    self.batchSamples = batchSamples
  }

  /// How many samples there are.
  public var count: Int { features.rows / rowsPerSample }

  /// The first samples.
  func first(_ count: Int) -> SampleSet {
    SampleSet(
      features.rows(0..<count * rowsPerSample), tokens: tokens.map { Array($0.prefix(count)) },
      rowsPerSample: rowsPerSample, batchSamples: batchSamples)
  }

  /// All samples in batches.
  public var batches: [TokenBatch] {
    stride(from: 0, to: count, by: batchSamples).map { start in
      let end = min(start + batchSamples, count)
      let part = features.rows(start * rowsPerSample..<end * rowsPerSample)
      return tokens.map {
        TokenBatch(features: part, rowsPerSample: rowsPerSample, tokens: Array($0[start..<end]))
      } ?? TokenBatch(features: part, rowsPerSample: rowsPerSample)
    }
  }
}

public import Tensors

/// Tokens of one or more sequences, one after the other, without padding: ids, or vectors of numbers such as the pixels
/// of images; or ids with the sample of numbers that each sequence of them is about.
public struct TokenBatch: Sendable {
  /// The ids of all sequences; empty where tokens are vectors.
  public let tokens: [Int32]
  /// Vectors of numbers: the tokens themselves, `[tokens, channels]`, or the samples beside the ids, `[samples * rows,
  /// channels]`; nil where there are ids alone.
  public let features: Matrix?
  /// Where each sequence's tokens are in `tokens` and in the rows of every activation.
  public let sequences: [Range<Int>]
  /// Where the forward pass is recorded for gradients; nil in inference.
  public private(set) var tape: GradientTape?
  /// Whether a walk computes the inside of each branch again, instead of keeping it from the forward pass.
  public private(set) var recomputes = false

  /// A batch of sequences, none empty.
  public init(_ sequences: [[Int32]], tape: GradientTape? = nil, recomputes: Bool = false) {
    self.init(sequences, features: nil, tape: tape)
    self.recomputes = recomputes
  }

  /// A batch of samples of numbers, each of as many rows.
  ///
  /// - Parameter features: `[samples * rowsPerSample, channels]`.
  public init(features: Matrix, rowsPerSample: Int, tape: GradientTape? = nil) {
    precondition(rowsPerSample > 0 && features.rows % rowsPerSample == 0)
    tokens = []
    self.features = features
    sequences = (0..<features.rows / rowsPerSample).map {
      $0 * rowsPerSample..<($0 + 1) * rowsPerSample
    }
    self.tape = tape
  }

  /// A batch of samples of numbers with a sequence of ids each, none empty.
  ///
  /// - Parameter features: `[samples * rowsPerSample, channels]`.
  public init(features: Matrix, rowsPerSample: Int, tokens: [[Int32]]) {
    precondition(features.rows == tokens.count * rowsPerSample, "\(features.rows) rows")
    self.init(tokens, features: features, tape: nil)
  }

  private init(_ sequences: [[Int32]], features: Matrix?, tape: GradientTape?) {
    precondition(sequences.allSatisfy { !$0.isEmpty }, "an empty sequence")
    var ranges: [Range<Int>] = []
    var start = 0
    for sequence in sequences {
      ranges.append(start..<start + sequence.count)
      start += sequence.count
    }
    tokens = sequences.flatMap { $0 }
    self.features = features
    self.sequences = ranges
    self.tape = tape
  }

  /// The batch with sequences that share the rows of a stream: patches of pictures are fewer than pixels.
  func sharing(rows: Int) -> TokenBatch {
    guard features != nil, tokens.isEmpty, !sequences.isEmpty,
      sequences.last?.upperBound != rows
    else { return self }
    return TokenBatch(
      features: Matrix(rows: rows, columns: 0), rowsPerSample: rows / sequences.count, tape: tape)
  }

  /// The same sequences without a record.
  var unrecorded: TokenBatch {
    var batch = self
    batch.tape = nil
    batch.recomputes = false
    return batch
  }

  /// The ids alone.
  var withoutFeatures: TokenBatch {
    features == nil ? self : TokenBatch(sequences.map { Array(tokens[$0]) }, tape: tape)
  }
}

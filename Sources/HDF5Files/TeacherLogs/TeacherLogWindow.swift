// One window of a teacher log as those who train and those who measure see it.

public import Tensors

/// What the teacher said of one window of tokens.
///
/// Rows are positions: row r of the lists below is position `rows.lowerBound + r`, whose prediction is of the
/// token behind it.
public struct TeacherLogWindow: Sendable, Equatable {
  /// The window's tokens.
  public var tokens: [Int32]
  /// Positions i whose prediction of `tokens[i + 1]` is logged.
  public var rows: Range<Int>
  /// Natural logarithm of the probability of `tokens[i + 1]`, a row each.
  public var trueLogProbabilities: [Float]
  /// log Σ exp(logits), a row each; 0 where a server gave none.
  public var logSumExps: [Float]
  /// Entropy in nats, a row each; of an API's log, of the listed tokens alone.
  public var entropies: [Float]
  /// The most probable tokens, k a row, in falling order; −1 where fewer are known.
  public var topTokens: [Int32]
  /// Their log-probabilities at temperature 1; −∞ where fewer are known.
  public var topLogProbabilities: [Float]
  /// Where a row's samples start in the lists below: one more than rows.
  public var sampleOffsets: [Int]
  /// The ids that were drawn, ascending in a row.
  public var sampleTokens: [Int32]
  /// How often each was drawn; the counts of a row add up to the manifest's `sampleCount`.
  public var sampleCounts: [Float]
  /// Probability that is in no listed token, a row each; empty for a model's log.
  public var otherMass: [Float]
  /// Hidden states `[rows, width]` by layer; empty when none were logged.
  public var hidden: [Int: Matrix]

  /// A window. Every list has the length that `rows` asks for.
  public init(
    tokens: [Int32], rows: Range<Int>? = nil, trueLogProbabilities: [Float] = [],
    logSumExps: [Float] = [], entropies: [Float] = [], topTokens: [Int32] = [],
    topLogProbabilities: [Float] = [], sampleOffsets: [Int]? = nil, sampleTokens: [Int32] = [],
    sampleCounts: [Float] = [], otherMass: [Float] = [], hidden: [Int: Matrix] = [:]
  ) {
    self.tokens = tokens
    let rows = rows ?? 0..<max(0, tokens.count - 1)
    self.rows = rows
    self.trueLogProbabilities = trueLogProbabilities
    self.logSumExps = logSumExps
    self.entropies = entropies
    self.topTokens = topTokens
    self.topLogProbabilities = topLogProbabilities
    self.sampleOffsets = sampleOffsets ?? [Int](repeating: 0, count: rows.count + 1)
    self.sampleTokens = sampleTokens
    self.sampleCounts = sampleCounts
    self.otherMass = otherMass
    self.hidden = hidden
  }
}

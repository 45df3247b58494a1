// The branches of an encoder-decoder, whose stream holds the encoder's rows above the decoder's.

import Checkpoints
import Tensors

extension TokenBatch {
  /// Rows of an encoder with so many positions a sample: those of the features, none where a cache holds what was made
  /// of them.
  fileprivate func encoderRows(_ positions: Int) -> Int {
    features == nil ? 0 : sequences.count * positions
  }
}

/// A branch that works on the encoder's rows.
final class EncoderBranch: Sublayer {
  private let branch: any Sublayer
  /// Rows of a sample.
  private let positions: Int
  /// Of the encoder's result, behind its last branch.
  private var finalNorm: LayerNorm?

  init(_ branch: any Sublayer, positions: Int, finalNorm: LayerNorm? = nil) {
    self.branch = branch
    self.positions = positions
    self.finalNorm = finalNorm
  }

  var groups: [[Linear]] { branch.groups }
  var sources: [InputSource] { branch.sources }
  var vectors: [VectorParameter] {
    branch.vectors + VectorParameter.of(finalNorm, self, \.finalNorm)
  }

  /// The batch as the encoder sees it: rows without tokens.
  private func own(_ batch: TokenBatch) -> TokenBatch {
    TokenBatch(
      features: Matrix(rows: batch.encoderRows(positions), columns: 0), rowsPerSample: positions)
  }

  func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState {
    branch.start(hidden.rows(0..<batch.encoderRows(positions)), own(batch), cache: nil)
  }

  func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState {
    branch.step(toGroup: group, from: previous, own(batch), cache: nil)
  }

  func finish(_ last: BranchState, hidden: Matrix) -> Matrix {
    let rows = last.input.rows
    var result = branch.finish(last, hidden: hidden.rows(0..<rows))
    finalNorm?.apply(&result)
    return Matrix.stack([result, hidden.rows(rows..<hidden.rows)])
  }
}

/// A branch that works on the decoder's rows.
final class DecoderBranch: Sublayer {
  private let branch: any Sublayer
  private let positions: Int
  /// Whether the stream behind it holds the decoder's rows alone.
  private let isLast: Bool

  init(_ branch: any Sublayer, positions: Int, isLast: Bool = false) {
    self.branch = branch
    self.positions = positions
    self.isLast = isLast
  }

  var groups: [[Linear]] { branch.groups }
  var sources: [InputSource] { branch.sources }
  var vectors: [VectorParameter] { branch.vectors }

  func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState {
    branch.start(
      hidden.rows(batch.encoderRows(positions)..<hidden.rows), batch.withoutFeatures, cache: cache)
  }

  func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState {
    branch.step(toGroup: group, from: previous, batch.withoutFeatures, cache: cache)
  }

  func finish(_ last: BranchState, hidden: Matrix) -> Matrix {
    let encoderRows = hidden.rows - last.input.rows
    let result = branch.finish(last, hidden: hidden.rows(encoderRows..<hidden.rows))
    return isLast ? result : Matrix.stack([hidden.rows(0..<encoderRows), result])
  }
}

/// Attention of the decoder to the encoder's result: queries of tokens, keys and values of the encoder's rows, which a
/// cache keeps.
final class CrossAttention: Sublayer {
  private var norm: LayerNorm
  private let query, key, value, output: Linear
  private let attention: Attention
  private let positions: Int

  init(
    norm: LayerNorm, query: Linear, key: Linear, value: Linear, output: Linear,
    attention: Attention, positions: Int
  ) {
    self.norm = norm
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.attention = attention
    self.positions = positions
  }

  var groups: [[Linear]] { [[query], [key, value], [output]] }
  // The norms have biases, and every branch reads the encoder's.
  var sources: [InputSource] {
    [.fixed, .fixed, .values(of: value, heads: attention.layout)]
  }
  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }

  func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState {
    let rows = batch.encoderRows(positions)
    return BranchState(
      norm.applied(to: hidden.rows(rows..<hidden.rows)), carried: [hidden.rows(0..<rows)])
  }

  func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState {
    if group == 1 {
      return BranchState(previous.carried[0], carried: [query.apply(previous.input)])
    }
    let made = { (self.key.apply(previous.input), self.value.apply(previous.input)) }
    let (keys, values) = cache?.fixed(made) ?? made()
    return BranchState(
      attention.apply(
        queries: previous.carried[0], toOther: keys, values: values, batch: batch.withoutFeatures))
  }

  func finish(_ last: BranchState, hidden: Matrix) -> Matrix {
    let encoderRows = hidden.rows - last.input.rows
    var result = output.apply(last.input)
    result.add(hidden.rows(encoderRows..<hidden.rows))
    return Matrix.stack([hidden.rows(0..<encoderRows), result])
  }
}

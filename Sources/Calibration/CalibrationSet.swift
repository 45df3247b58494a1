// The token sequences whose activations stand for all that a model will see.

public import Networks
import Tensors
public import Tokenization

/// Sequences for calibration, with what was asked for and what the texts could give.
public struct CalibrationSet: Sendable {
  /// The sequences.
  public let sequences: [[Int32]]
  /// Samples of numbers, for networks that read such; nil for those that read tokens.
  public let samples: SampleSet?
  /// Tokens, or samples, that were asked for.
  public let tokensAsked: Int

  /// Tokens, or samples, that are used.
  public var tokensUsed: Int { samples?.count ?? sequences.reduce(0) { $0 + $1.count } }

  /// Given sequences.
  public init(sequences: [[Int32]], tokensAsked: Int) {
    self.sequences = sequences
    self.tokensAsked = tokensAsked
    samples = nil
  }

  /// Samples of numbers.
  public init(samples: SampleSet, asked: Int) {
    self.samples = samples
    sequences = []
    tokensAsked = asked
  }

  /// The set as batches of a network's input, of at most about so many tokens each.
  public func inputBatches(tokens: Int = 2048) -> [TokenBatch] {
    if let samples { return samples.batches }
    return batches(tokens: tokens).map { TokenBatch(Array(sequences[$0])) }
  }

  /// Windows of a language model's texts: all when they are few enough, otherwise a random choice,
  /// kept in the order of the text.
  public init(windows: TextWindows, tokens: Int, seed: UInt64) {
    let wanted = max(1, tokens / windows.context)
    self.init(
      sequences: Self.choose(wanted, of: windows.windows, seed: seed), tokensAsked: tokens)
  }

  /// Lines of an encoder's texts, each a sequence with its special tokens, until `tokens` are reached.
  ///
  /// - Parameter length: Of each sequence, special tokens included.
  public init(
    lines texts: [(path: String, bytes: [UInt8])], tokenizer: Tokenizer, length: SentenceLength,
    vocabulary: Int, tokens: Int, seed: UInt64
  ) throws {
    var all: [[Int32]] = []
    for text in texts {
      for line in String(decoding: text.bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
        let ids = SentenceTokens.ids(of: String(line), tokenizer: tokenizer, length: length)
        if let id = ids.first(where: { Int($0) >= vocabulary }) {
          throw TextError(path: text.path, .idOutsideVocabulary(id: id, vocabulary: vocabulary))
        }
        if ids.count > 2 { all.append(ids) }
      }
    }
    guard !all.isEmpty else {
      throw TextError(path: texts.map(\.path).joined(separator: ", "), .empty)
    }
    var stream = RandomStream(seed: seed, name: "calibration")
    var chosen: [Int] = []
    var count = 0
    // At least one sentence, however few tokens were asked for.
    for index in stream.permutation(all.count)
    where chosen.isEmpty || count + all[index].count <= tokens {
      chosen.append(index)
      count += all[index].count
    }
    self.init(sequences: chosen.sorted().map { all[$0] }, tokensAsked: tokens)
  }

  /// Sequences that another set of the same texts leaves out, spread evenly, at most about `tokens` tokens; nil when
  /// there are none.
  public func without(_ other: CalibrationSet, tokens: Int) -> CalibrationSet? {
    precondition(samples == nil, "samples are divided where they are chosen")
    let used = Set(other.sequences)
    let left = sequences.filter { !used.contains($0) }
    guard !left.isEmpty else { return nil }
    let total = left.reduce(0) { $0 + $1.count }
    let stride = max(1, total / max(1, tokens))
    return CalibrationSet(
      sequences: Swift.stride(from: stride / 2, to: left.count, by: stride).map { left[$0] },
      tokensAsked: tokens)
  }

  /// The first sequences, about `tokens` tokens of them and at least one.
  public func first(tokens: Int) -> CalibrationSet {
    if let samples {
      let count = max(1, min(samples.count, tokens / max(1, samples.rowsPerSample)))
      return CalibrationSet(samples: samples.first(count), asked: count)
    }
    var kept: [[Int32]] = [], count = 0
    for sequence in sequences where kept.isEmpty || count + sequence.count <= tokens {
      kept.append(sequence)
      count += sequence.count
    }
    return CalibrationSet(sequences: kept, tokensAsked: tokens)
  }

  private static func choose(_ count: Int, of windows: [[Int32]], seed: UInt64) -> [[Int32]] {
    guard count < windows.count else { return windows }
    var stream = RandomStream(seed: seed, name: "calibration")
    return stream.permutation(windows.count).prefix(count).sorted().map { windows[$0] }
  }

  /// The sequences in batches of at most about `tokens` tokens.
  public func batches(tokens: Int = 2048) -> [TokenBatchRange] {
    Self.batches(sequences.map(\.count), tokens: tokens)
  }

  /// Ranges of sequences whose tokens stay below a limit; a longer sequence is alone.
  public static func batches(_ lengths: [Int], tokens: Int) -> [TokenBatchRange] {
    var ranges: [Range<Int>] = []
    var start = 0, count = 0
    for (index, length) in lengths.enumerated() {
      if index > start, count + length > tokens {
        ranges.append(start..<index)
        start = index
        count = 0
      }
      count += length
    }
    if start < lengths.count { ranges.append(start..<lengths.count) }
    return ranges
  }
}

/// Indices of the sequences of one batch.
public typealias TokenBatchRange = Range<Int>

/// How many tokens a sentence has for an encoder.
public struct SentenceLength: Sendable, Equatable {
  /// At most so many.
  public let limit: Int
  /// What fills it up; nil where it stays as long as it is.
  public let padding: TextPadding?

  /// What an encoder takes.
  public init(of encoder: any TextEncoder) {
    limit = encoder.maximumTokens
    padding = encoder.padding
  }
}

/// Sentences as an encoder reads them.
public enum SentenceTokens {
  /// The ids of a sentence with its special tokens, cut and filled up to the length that an encoder takes.
  public static func ids(
    of text: String, tokenizer: Tokenizer, length: SentenceLength
  ) -> [Int32] {
    let ids = ids(of: text, tokenizer: tokenizer, limit: length.limit)
    guard let padding = length.padding, ids.count < padding.length else { return ids }
    return ids + [Int32](repeating: padding.id, count: padding.length - ids.count)
  }

  /// The ids with their special tokens, cut so that they are at most `limit`.
  private static func ids(of text: String, tokenizer: Tokenizer, limit: Int) -> [Int32] {
    let ids = tokenizer.encode(text, addSpecialTokens: true)
    guard ids.count > limit else { return ids }
    // The special tokens stay: what the template puts before and after an empty text.
    let plain = tokenizer.encode(text, addSpecialTokens: false)
    let extra = ids.count - plain.count
    let prefix = extra - trailing(ids, plain)
    return Array(ids.prefix(prefix)) + plain.prefix(max(0, limit - extra))
      + ids.suffix(extra - prefix)
  }

  /// Special tokens after the text.
  private static func trailing(_ ids: [Int32], _ plain: [Int32]) -> Int {
    let extra = ids.count - plain.count
    for after in 0...extra where Array(ids.dropFirst(extra - after).dropLast(after)) == plain {
      return after
    }
    return 0
  }
}

// A server's tokens against a student's, by the bytes that both stand for.
//
// A row of the log is a position of the student's tokens. The server's list for a place is the student's where both
// have a boundary there, and both have one behind the token that followed: only then does the place's choice mean the
// same to both. Of the list, tokens whose bytes are a token of the student's keep their probability; the rest goes
// to the bucket "other". Where the student's token is several of the server's, its probability is their product.

import Glibc
import Tokenization

/// Maps a server's answers to windows of a student's tokens.
struct ByteAlignment {
  private let tokenizer: Tokenizer
  private let vocabulary: Int
  private let ids: [[UInt8]: Int32]

  /// What was mapped and what was not.
  struct Counts: Equatable {
    /// Rows with a list of the server's; rows of text without log-probabilities, which know the true token only;
    /// rows where the tokenizers part ways.
    var listed = 0, sequenceLevel = 0, unaligned = 0
    /// Entries of lists that are tokens of the student's, and others.
    var mapped = 0, dropped = 0
    /// Probability of the dropped entries, summed over rows.
    var droppedMass = 0.0
    /// Answers that the student's tokenizer does not give back, byte for byte.
    var unreadable = 0
  }

  /// A position's distribution.
  struct Row: Equatable {
    var trueLogProbability = 0.0
    var list: [(id: Int32, logProbability: Double)] = []
    var otherMass = 1.0

    static func == (a: Row, b: Row) -> Bool {
      a.trueLogProbability == b.trueLogProbability && a.otherMass == b.otherMass
        && a.list.elementsEqual(b.list) { $0 == $1 }
    }
  }

  /// The student's tokens by their bytes; special tokens are no text.
  init(tokenizer: Tokenizer, vocabulary: Int) {
    self.tokenizer = tokenizer
    self.vocabulary = vocabulary
    var ids: [[UInt8]: Int32] = [:]
    for id in 0..<Int32(clamping: vocabulary) where !tokenizer.specialTokens.contains(id) {
      guard let bytes = tokenizer.tokenBytes(id), !bytes.isEmpty else { continue }
      // A byte's own token stands behind the token that a text becomes.
      let isByte = tokenizer.token(id)?.hasPrefix("<0x") ?? false
      if ids[bytes] == nil || !isByte { ids[bytes] = id }
    }
    self.ids = ids
  }

  /// The tokens of a prompt and an answer, and a row for each token of the answer; nil when the answer's tokens do
  /// not give its bytes back.
  func window(
    prompt: [UInt8], _ completion: APICompletion, counts: inout Counts
  ) throws -> (tokens: [Int32], first: Int, rows: [Row])? {
    let start = try prompt.isEmpty ? [] : tokenizer.encode(utf8: prompt.span)
    let text = completion.text
    let own = try tokenizer.encode(utf8: text.span)
    let bytes = own.map { tokenizer.tokenBytes($0) ?? [] }
    guard bytes.reduce(0, { $0 + $1.count }) == text.count, bytes.flatMap({ $0 }) == text,
      own.allSatisfy({ (0..<Int32(clamping: vocabulary)).contains($0) })
    else {
      counts.unreadable += 1
      return nil
    }
    let tokens = start + own
    // The first token of all has nothing before it that could predict it.
    let skipped = start.isEmpty ? 1 : 0
    guard tokens.count > 1, own.count > skipped else { return nil }
    let rows = align(own, bytes, completion, counts: &counts, skipping: skipped)
    return (tokens, max(0, start.count - 1), rows)
  }

  private func align(
    _ own: [Int32], _ bytes: [[UInt8]], _ completion: APICompletion, counts: inout Counts,
    skipping skipped: Int
  ) -> [Row] {
    guard let steps = completion.steps else {
      counts.sequenceLevel += own.count - skipped
      return own.dropFirst(skipped).map {
        Row(trueLogProbability: 0, list: [($0, 0)], otherMass: 0)
      }
    }
    // Where each of the server's tokens starts, as long as they are the text's.
    var starts: [Int: Int] = [:]
    var offset = 0, count = 0
    for (index, step) in steps.enumerated() {
      let end = offset + step.bytes.count
      guard end <= completion.text.count, !step.bytes.isEmpty,
        completion.text[offset..<end].elementsEqual(step.bytes)
      else { break }
      starts[offset] = index
      offset = end
      count = index + 1
    }
    starts[offset] = count
    var rows: [Row] = []
    offset = 0
    for (index, token) in bytes.enumerated() {
      let end = offset + token.count
      defer { offset = end }
      guard index >= skipped else { continue }
      guard let first = starts[offset], first < count, let last = starts[end] else {
        counts.unaligned += 1
        rows.append(Row())
        continue
      }
      let log = steps[first..<last].reduce(0.0) { $0 + min(0, $1.logProbability) }
      guard last == first + 1 else {
        // Several of the server's tokens: their product is known, their alternatives are not.
        counts.unaligned += 1
        rows.append(Row(trueLogProbability: log))
        continue
      }
      rows.append(row(own[index], steps[first], log, counts: &counts))
    }
    return rows
  }

  private func row(
    _ token: Int32, _ step: APICompletion.Step, _ log: Double, counts: inout Counts
  ) -> Row {
    counts.listed += 1
    var logs: [Int32: Double] = [token: log]
    for (bytes, logProbability) in step.list where bytes != step.bytes {
      guard let id = ids[bytes], logs[id] == nil else {
        counts.dropped += 1
        counts.droppedMass += Self.probability(logProbability)
        continue
      }
      counts.mapped += 1
      logs[id] = min(0, logProbability)
    }
    counts.mapped += 1
    let list = logs.map { (id: $0.key, logProbability: $0.value) }.sorted {
      ($1.logProbability, $0.id) < ($0.logProbability, $1.id)
    }
    let mass = list.reduce(0.0) { $0 + Self.probability($1.logProbability) }
    return Row(trueLogProbability: log, list: list, otherMass: min(1, max(0, 1 - mass)))
  }

  private static func probability(_ log: Double) -> Double { exp(min(0, log)) }
}

// The calibration text of a stage: read, tokenized, chosen and hashed.

import Calibration
import Checkpoints
import CondenseInference
import JSONDocuments
import Networks

/// The texts and how much of them.
public struct CalibrationRequest: Sendable, Equatable {
  /// Files of text; encoders read a sentence a line.
  public var text: [String]
  /// Tokens that are asked for.
  public var tokens: Int
  /// Tokens of a window, for language models.
  public var context: Int
  /// Of the choice of windows.
  public var seed: Int

  /// A request.
  public init(text: [String], tokens: Int = 65536, context: Int = 256, seed: Int = 0) {
    self.text = text
    self.tokens = tokens
    self.context = context
    self.seed = seed
  }

  /// What is read of the texts.
  struct Loaded {
    let set: CalibrationSet
    /// Text that the set leaves out, at most as much; nil when it takes all.
    let rest: CalibrationSet?
    /// Of the files, in order.
    let hashes: [String]
  }

  /// The set for a model.
  func load(for model: Model) throws -> Loaded {
    var texts: [(path: String, bytes: [UInt8])] = []
    for path in text { texts.append((path, try FilePath.read(path))) }
    let tokenizer = try model.requiredTokenizer()
    let set: CalibrationSet, rest: CalibrationSet?
    if let encoder = model.network as? any TextEncoder {
      set = try CalibrationSet(
        lines: texts, tokenizer: tokenizer, limit: encoder.maximumTokens,
        vocabulary: encoder.vocabularySize, tokens: tokens, seed: UInt64(seed))
      rest = try CalibrationSet(
        lines: texts, tokenizer: tokenizer, limit: encoder.maximumTokens,
        vocabulary: encoder.vocabularySize, tokens: .max / 2, seed: UInt64(seed)
      ).without(set, tokens: Self.restTokens)
    } else {
      let windows = try TextWindows(
        texts: texts, tokenizer: tokenizer, context: context,
        vocabulary: model.network.vocabularySize)
      set = CalibrationSet(windows: windows, tokens: tokens, seed: UInt64(seed))
      rest = CalibrationSet(windows: windows, tokens: .max / 2, seed: UInt64(seed))
        .without(set, tokens: Self.restTokens)
    }
    return Loaded(set: set, rest: rest, hashes: texts.map { ContentHash.of($0.bytes) })
  }

  /// Tokens of the text left out that are kept for measuring.
  private static let restTokens = 16384

  /// What the lineage says of it.
  func json(used: Int, hashes: [String]) -> JSONValue {
    [
      "files": .array(
        zip(text, hashes).map { path, hash in
          ["name": .string(FilePath.name(of: path)), "sha256": .string(hash)]
        }),
      "tokens_asked": .integer(tokens), "tokens_used": .integer(used),
      "context": .integer(context), "seed": .integer(seed),
    ]
  }
}

// Texts as windows of tokens: the same cut for calibration and for measuring.

public import Networks
public import Tokenization

/// Why a text cannot be used.
public struct TextError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong.
  public enum Problem: Sendable, Equatable {
    /// The text has no tokens.
    case empty
    /// Fewer tokens than one window needs.
    case tooShort(tokens: Int, context: Int)
    /// Windows are longer than the model's table of positions.
    case windowTooLong(context: Int, positions: Int)
    /// An id that the model's embedding does not have.
    case idOutsideVocabulary(id: Int32, vocabulary: Int)
    /// The bytes from this one on are not UTF-8.
    case notUTF8(offset: Int)
    /// A line of a table is not as it should be.
    case badLine(line: Int, expected: String)
  }

  /// The text's file.
  public let path: String
  /// What is wrong.
  public let problem: Problem

  /// An error.
  public init(path: String, _ problem: Problem) {
    self.path = path
    self.problem = problem
  }

  /// One line without a full stop.
  public var description: String {
    switch problem {
    case .empty: "\(path): the text is empty"
    case .tooShort(let tokens, let context):
      "\(path): the text has \(tokens) tokens, one window needs \(context); "
        + "give more text or a smaller --context"
    case .idOutsideVocabulary(let id, let vocabulary):
      "\(path): the tokenizer gives id \(id), the model's embedding has \(vocabulary) rows; "
        + "the tokenizer is another model's"
    case .windowTooLong(let context, let positions):
      "\(path): windows of \(context) tokens, but the model has \(positions) positions; "
        + "give --context \(positions) or less"
    case .notUTF8(let offset): "\(path): the text is not UTF-8 at byte \(offset)"
    case .badLine(let line, let expected): "\(path):\(line): expected \(expected)"
    }
  }
}

/// Windows of equal length, without overlap.
public struct TextWindows: Sendable {
  /// The windows, `context` tokens each.
  public let windows: [[Int32]]
  /// Tokens of a window.
  public let context: Int
  /// Tokens of the texts, the rest that fills no window included.
  public let tokensInText: Int

  /// Cuts texts into windows for a network, which must have as many positions.
  public init(
    texts: [(path: String, bytes: [UInt8])], tokenizer: Tokenizer, context: Int,
    network: any TokenNetwork
  ) throws {
    if network.hasPositionTable, context > network.contextLimit {
      throw TextError(
        path: texts.map(\.path).joined(separator: ", "),
        .windowTooLong(context: context, positions: network.contextLimit))
    }
    try self.init(
      texts: texts, tokenizer: tokenizer, context: context, vocabulary: network.vocabularySize)
  }

  /// Cuts texts into windows; each text starts a new window, and a rest is left out.
  ///
  /// - Parameters:
  ///   - texts: Path and UTF-8 bytes of each text.
  ///   - vocabulary: Ids must lie below.
  public init(
    texts: [(path: String, bytes: [UInt8])], tokenizer: Tokenizer, context: Int, vocabulary: Int
  ) throws {
    var windows: [[Int32]] = []
    var count = 0
    for text in texts {
      let ids = try Self.tokenize(text, tokenizer: tokenizer, vocabulary: vocabulary)
      count += ids.count
      for start in stride(from: 0, through: ids.count - context, by: context) {
        windows.append(Array(ids[start..<start + context]))
      }
    }
    guard !windows.isEmpty else {
      throw TextError(
        path: texts.map(\.path).joined(separator: ", "), .tooShort(tokens: count, context: context))
    }
    self.windows = windows
    self.context = context
    tokensInText = count
  }

  /// Given windows of `context` tokens each.
  init(windows: [[Int32]], context: Int, tokensInText: Int) {
    self.windows = windows
    self.context = context
    self.tokensInText = tokensInText
  }

  /// The ids of a text without added special tokens, checked against the vocabulary.
  static func tokenize(
    _ text: (path: String, bytes: [UInt8]), tokenizer: Tokenizer, vocabulary: Int
  ) throws -> [Int32] {
    let ids: [Int32]
    do {
      ids = try tokenizer.encode(utf8: text.bytes.span)
    } catch {
      // The tokenizer names itself; what is wrong is the text.
      guard case .textNotUTF8(let offset) = error.problem else { throw error }
      throw TextError(path: text.path, .notUTF8(offset: offset))
    }
    guard !ids.isEmpty else { throw TextError(path: text.path, .empty) }
    if let id = ids.first(where: { Int($0) >= vocabulary || $0 < 0 }) {
      throw TextError(path: text.path, .idOutsideVocabulary(id: id, vocabulary: vocabulary))
    }
    return ids
  }

  /// The first `count` windows.
  public func first(_ count: Int) -> TextWindows {
    TextWindows(
      windows: Array(windows.prefix(count)), context: context, tokensInText: tokensInText)
  }
}

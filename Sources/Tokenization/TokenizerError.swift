// Why a tokenizer cannot be used: which file, and what is wrong with it.

public import JSONDocuments

/// Why a tokenizer file, or a text given to it, was refused.
public struct TokenizerError: Error, Sendable, Equatable {
  /// The file, as the caller named it.
  public let path: String
  /// What is wrong.
  public let problem: Problem

  /// An error about one file.
  public init(path: String, problem: Problem) {
    self.path = path
    self.problem = problem
  }

  /// What can be wrong. The cases carry the values, never a sentence.
  public enum Problem: Error, Sendable, Equatable {
    /// None of the formats that are read here.
    case unknownFormat
    /// The file is not JSON.
    case json(JSONError)
    /// A member that must be there is not.
    case missing(key: String)
    /// A member is of another kind than it must be.
    case wrongKind(key: String, expected: String, found: String)
    /// A member has a value that it cannot have.
    case badValue(key: String, value: String, expected: String)
    /// A component of a type that is not implemented, such as the model `WordLevel`.
    case unsupported(component: String, type: String)
    /// A regular expression that cannot be read, or that uses what is not implemented.
    case badPattern(pattern: String, reason: String)
    /// Two tokens have one id.
    case duplicateID(id: Int, first: String, second: String)
    /// One token stands twice in the vocabulary.
    case duplicateToken(String)
    /// A token's id is negative, or so large that the vocabulary would be mostly holes.
    case idOutOfRange(token: String, id: Int, limit: Int)
    /// An added token has one id in the list of added tokens and another in the vocabulary.
    case conflictingID(token: String, added: Int, vocabulary: Int)
    /// A merge is not written as two tokens.
    case badMerge(index: Int, text: String)
    /// A merge names, or makes, a token that is not in the vocabulary.
    case unknownMergeToken(index: Int, token: String)
    /// A special token that a component names is not in the vocabulary.
    case unknownToken(component: String, token: String)
    /// A line or record of a file that is not JSON cannot be read.
    case badRecord(format: String, index: Int, reason: String)
    /// The file has no tokens.
    case empty
    /// The text is not UTF-8 at this byte.
    case textNotUTF8(offset: Int)
  }
}

extension TokenizerError: CustomStringConvertible {
  /// One line without a full stop: `path: what is wrong`.
  public var description: String { "\(path): \(problem)" }
}

extension TokenizerError.Problem: CustomStringConvertible {
  /// One line without a full stop.
  public var description: String {
    switch self {
    case .unknownFormat:
      "not a tokenizer; expected tokenizer.json, a SentencePiece BPE model, tiktoken ranks or "
        + "GPT-2 merges"
    case .json(let error): "\(error)"
    case .missing(let key): "'\(key)' is missing"
    case .wrongKind(let key, let expected, let found):
      "'\(key)' is \(found); expected \(expected)"
    case .badValue(let key, let value, let expected):
      "'\(key)' is \(quoted(value)); expected \(expected)"
    case .unsupported(let component, let type): "\(component) \(quoted(type)) is not supported"
    case .badPattern(let pattern, let reason): "pattern \(quoted(pattern)): \(reason)"
    case .duplicateID(let id, let first, let second):
      "id \(id) belongs to two tokens, \(quoted(first)) and \(quoted(second))"
    case .duplicateToken(let token): "token \(quoted(token)) stands twice in the vocabulary"
    case .idOutOfRange(let token, let id, let limit):
      "token \(quoted(token)) has id \(id); expected 0..<\(limit) for this many tokens"
    case .conflictingID(let token, let added, let vocabulary):
      "added token \(quoted(token)) has id \(added), but \(vocabulary) in the vocabulary"
    case .badMerge(let index, let text): "merge \(index) is \(quoted(text)); expected two tokens"
    case .unknownMergeToken(let index, let token):
      "merge \(index) needs token \(quoted(token)), which is not in the vocabulary"
    case .unknownToken(let component, let token):
      "\(component) names token \(quoted(token)), which is not in the vocabulary"
    case .badRecord(let format, let index, let reason): "\(format), record \(index): \(reason)"
    case .empty: "the vocabulary is empty"
    case .textNotUTF8(let offset): "the text to encode is not UTF-8 at byte \(offset)"
    }
  }
}

/// A file's own text in quotes, on one line and not too long for one.
private func quoted(_ text: String) -> String {
  var line = ""
  for scalar in text.unicodeScalars.prefix(80) {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .format:
      line += "\\u{\(String(scalar.value, radix: 16))}"
    default: line.unicodeScalars.append(scalar)
    }
  }
  return "'\(line)\(text.unicodeScalars.dropFirst(80).isEmpty ? "" : "…")'"
}

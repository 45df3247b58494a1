// Tokenizers: text to ids and back, read from the files that come with a checkpoint.
//
// Given    tokenizer.json, a SentencePiece BPE model, tiktoken ranks or GPT-2 merges
// Result   the ids and the text that the PyPI package `tokenizers` gives for the same file
// Checked  against that package: every fixture, real tokenizers, and random text

import Synchronization

/// A tokenizer.
///
/// It is a value and safe to share between threads: words that were encoded before are remembered
/// behind a lock that is held for a moment per call.
public struct Tokenizer: Sendable {
  let parts: TokenizerParts
  private let path: String
  private let pool = EncoderPool()

  /// Reads a tokenizer.
  ///
  /// - Parameters:
  ///   - bytes: A tokenizer.json, a SentencePiece BPE model, tiktoken ranks (Llama 3's pattern and
  ///     special tokens are assumed) or GPT-2 merges. The content says which.
  ///   - name: What error messages call the file, usually its path.
  /// - Throws: `TokenizerError` for a file of another kind, a malformed one, and one that needs
  ///   what is not implemented.
  /// - Complexity: Proportional to the file, in time and memory.
  public init(contentsOf bytes: [UInt8], name: String) throws(TokenizerError) {
    path = name
    do throws(TokenizerError.Problem) {
      parts = try TokenizerFormat(of: bytes).read(bytes)
    } catch {
      throw TokenizerError(path: name, problem: error)
    }
  }

  /// The ids of a text.
  ///
  /// - Parameters:
  ///   - text: Any text. Special tokens that stand in it are recognised.
  ///   - addSpecialTokens: Also the special tokens that the file's template puts around a text.
  public func encode(_ text: String, addSpecialTokens: Bool = false) -> [Int32] {
    encode(valid: [Array(text.utf8)], addSpecialTokens: addSpecialTokens).ids
  }

  /// The ids of a text in UTF-8.
  ///
  /// - Throws: `TokenizerError` with the offset of the first byte that is not UTF-8.
  public func encode(
    utf8 bytes: Span<UInt8>, addSpecialTokens: Bool = false
  ) throws(TokenizerError) -> [Int32] {
    if let offset = firstInvalidUTF8(bytes) {
      throw TokenizerError(path: path, problem: .textNotUTF8(offset: offset))
    }
    var text: [UInt8] = []
    text.append(bytes, 0..<bytes.count)
    return encode(valid: [text], addSpecialTokens: addSpecialTokens).ids
  }

  /// The ids of two texts in the file's template for pairs, and the type of each (0 for the first
  /// text, 1 for the second, unless the template says otherwise).
  public func encodePair(
    _ first: String, _ second: String, addSpecialTokens: Bool = true
  ) -> (ids: [Int32], typeIDs: [Int32]) {
    encode(
      valid: [Array(first.utf8), Array(second.utf8)], addSpecialTokens: addSpecialTokens)
  }

  private func encode(
    valid texts: [[UInt8]], addSpecialTokens: Bool
  ) -> (ids: [Int32], typeIDs: [Int32]) {
    var state = pool.take()
    let ids = texts.map { parts.encode($0, &state) }
    pool.give(state)
    return parts.template.apply(ids, addSpecialTokens: addSpecialTokens)
  }

  /// The text of some ids. Ids that the vocabulary lacks are left out; bytes that are not UTF-8
  /// become U+FFFD.
  ///
  /// - Parameter skipSpecialTokens: Leaves out special tokens.
  public func decode(_ ids: [Int32], skipSpecialTokens: Bool = true) -> String {
    parts.decode(ids, skipSpecialTokens: skipSpecialTokens)
  }

  /// The bytes that a token stands for inside a text, which may be a part of a character; `nil`
  /// for an id that the vocabulary lacks.
  public func tokenBytes(_ id: Int32) -> [UInt8]? { parts.bytes(of: id) }

  /// The token of an id as the file writes it.
  public func token(_ id: Int32) -> String? {
    parts.vocabulary.token(id).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The id of a token as the file writes it; tokens are equal when their bytes are.
  public func id(of token: String) -> Int32? { parts.vocabulary.id(of: Array(token.utf8)) }

  /// How many tokens there are, added ones too.
  public var vocabularySize: Int { parts.vocabulary.count }

  /// The ids of special tokens.
  public var specialTokens: Set<Int32> { parts.specialTokens }
}

/// Encoder states between calls, so that their caches stay warm.
private final class EncoderPool: Sendable {
  private let states = Mutex<[EncoderState]>([])

  func take() -> EncoderState { states.withLock { $0.popLast() } ?? EncoderState() }

  func give(_ state: EncoderState) {
    states.withLock { if $0.count < 64 { $0.append(state) } }
  }
}

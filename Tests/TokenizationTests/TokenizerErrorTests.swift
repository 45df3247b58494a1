import JSONDocuments
import Testing

@testable import Tokenization

/// Files that are not right: an error of one line, and nothing worse.
@Suite struct TokenizerErrorTests {
  private static func bpe(
    _ vocabulary: String = #""a": 0, "b": 1, "ab": 2"#, merges: String = #""a b""#,
    model: String = "", rest: String = ""
  ) -> String {
    #"{"model": {"type": "BPE", "vocab": {\#(vocabulary)}, "merges": [\#(merges)]\#(model)}\#(rest)}"#
  }

  static let hostile: [(String, TokenizerError.Problem)] = [
    ("", .unknownFormat), ("hello", .unknownFormat), ("{", .json(JSONError(.truncated, offset: 1))),
    ("[]", .unknownFormat), ("{}", .missing(key: "tokenizer.model")),
    (#"{"model": 3}"#, .wrongKind(key: "model", expected: "an object", found: "an integer")),
    (
      #"{"model": {"type": "Unigram", "vocab": {"a": 0}}}"#,
      .wrongKind(key: "model.vocab", expected: "an array", found: "an object")
    ),
    (
      #"{"model": {"type": "Unigram", "vocab": [["a", -1], ["b"]]}}"#,
      .badValue(key: "model.vocab[1]", value: #"["b"]"#, expected: "a token and its score")
    ),
    (
      #"{"model": {"type": "Unigram", "vocab": [["a", -1], ["a", -2]]}}"#, .duplicateToken("a")
    ),
    (
      #"{"model": {"type": "Unigram", "unk_id": 1, "vocab": [["a", -1]]}}"#,
      .badValue(key: "model.unk_id", value: "1", expected: "an id below 1")
    ),
    (#"{"model": {"type": "Unigram", "vocab": []}}"#, .empty),
    (
      #"{"model": {"type": "WordLevel", "vocab": {"a": 0}}}"#,
      .unsupported(component: "model", type: "WordLevel")
    ),
    (#"{"model": {"type": "BPE", "merges": []}}"#, .missing(key: "model.vocab")),
    (#"{"model": {"type": "BPE", "vocab": {"a": 0}}}"#, .missing(key: "model.merges")),
    (bpe(merges: #""a c""#), .unknownMergeToken(index: 0, token: "c")),
    (bpe(merges: #""b a""#), .unknownMergeToken(index: 0, token: "ba")),
    (bpe(merges: #""ab""#), .badMerge(index: 0, text: "ab")),
    (bpe(merges: #""a b", "a  b""#), .badMerge(index: 1, text: "a  b")),
    (bpe(merges: #"["a"]"#), .badMerge(index: 0, text: #"["a"]"#)),
    (bpe(merges: "7"), .badMerge(index: 0, text: "7")),
    (bpe(#""a": 0, "b": 0"#), .duplicateID(id: 0, first: "a", second: "b")),
    (bpe(#""a": 0, "a": 1"#), .json(JSONError(.duplicateKey("a"), offset: 44))),
    (bpe(#""a": -1"#), .idOutOfRange(token: "a", id: -1, limit: 65_544)),
    (bpe(#""a": 4294967296"#), .idOutOfRange(token: "a", id: 4_294_967_296, limit: 65_544)),
    (bpe(#""a": 2147483646"#), .idOutOfRange(token: "a", id: 2_147_483_646, limit: 65_544)),
    (
      bpe(#""a": "x""#),
      .wrongKind(key: "model.vocab.a", expected: "an integer", found: "a string")
    ),
    (bpe("", merges: ""), .empty),
    (
      bpe(model: #", "dropout": 0.1"#),
      .badValue(
        key: "model.dropout", value: "0.1", expected: "null or 0; encoding is not random here")
    ),
    (
      bpe(model: #", "unk_token": "?""#),
      .unknownToken(component: "model.unk_token", token: "?")
    ),
    (
      #"{"model": {"type": "WordPiece", "vocab": {"a": 0}}}"#,
      .unknownToken(component: "model.unk_token", token: "[UNK]")
    ),
    (
      bpe(rest: #", "added_tokens": [{"id": 5, "content": "a"}]"#),
      .conflictingID(token: "a", added: 5, vocabulary: 0)
    ),
    (
      bpe(rest: #", "added_tokens": [{"id": 1, "content": "z"}]"#),
      .duplicateID(id: 1, first: "b", second: "z")
    ),
    (
      bpe(rest: #", "added_tokens": [{"id": 1e12, "content": "z"}]"#),
      .badValue(
        key: "added_tokens[0].id", value: "1000000000000", expected: "0..<2147483647")
    ),
    (
      bpe(rest: #", "normalizer": {"type": "Precompiled"}"#),
      .missing(key: "normalizer.precompiled_charsmap")
    ),
    (
      bpe(rest: #", "normalizer": {"type": "Precompiled", "precompiled_charsmap": "%"}"#),
      .badValue(key: "normalizer.precompiled_charsmap", value: "%", expected: "bytes in base64")
    ),
    (
      bpe(rest: #", "normalizer": {"type": "Precompiled", "precompiled_charsmap": "////fwAA"}"#),
      .badRecord(
        format: "character map", index: 0, reason: "a tree of 2147483647 bytes in a map of 6")
    ),
    (
      bpe(rest: #", "normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": ""}"#),
      .badValue(key: "normalizer.pattern.String", value: "", expected: "some text")
    ),
    (
      bpe(rest: #", "pre_tokenizer": {"type": "UnicodeScripts"}"#),
      .unsupported(component: "pre-tokenizer", type: "UnicodeScripts")
    ),
    (
      bpe(rest: #", "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}"#),
      .badPattern(pattern: "(", reason: "a group is not closed")
    ),
    (
      bpe(rest: #", "pre_tokenizer": {"type": "Metaspace", "replacement": "ab"}"#),
      .badValue(key: "pre_tokenizer.replacement", value: "ab", expected: "one character")
    ),
    (bpe(rest: #", "decoder": {"type": "CTC"}"#), .unsupported(component: "decoder", type: "CTC")),
    (
      bpe(rest: #", "post_processor": {"type": "Magic"}"#),
      .unsupported(component: "post-processor", type: "Magic")
    ),
    (
      bpe(
        rest:
          #", "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]}"#
      ),
      .unknownToken(component: "post_processor.single", token: "x")
    ),
    ("#version: 0.2\na b\nabc\n", .badMerge(index: 1, text: "abc")),
    ("#version: 0.2\na zz\n", .unknownMergeToken(index: 0, token: "zz")),
    ("#version: 0.2\n", .empty),
    (
      "YQ== 0\nYg== x\n",
      .badRecord(
        format: "tiktoken ranks", index: 1, reason: "expected a token in base64 and a rank")
    ),
    ("YQ== 0\nYg== 0\n", .duplicateID(id: 0, first: "a", second: "b")),
    ("YQ== 0\nYQ== 1\n", .duplicateToken("a")),
    ("YQ== 99999999999\n", .idOutOfRange(token: "a", id: 99_999_999_999, limit: 67_592)),
    (
      "\n\u{7F}abc",
      .badRecord(
        format: "SentencePiece model", index: 0, reason: "127 bytes are announced, 3 are left")
    ),
    ("\n\u{2}\n\u{0}", .unsupported(component: "SentencePiece model", type: "Unigram")),
  ]

  @Test(arguments: hostile.indices) func refuses(_ index: Int) throws {
    let (text, problem) = Self.hostile[index]
    let error = TokenizerError(path: "f", problem: problem)
    #expect(throws: error) { try Tokenizer(contentsOf: Array(text.utf8), name: "f") }
    #expect(!"\(error)".contains("\n"))
    #expect("\(error)".hasPrefix("f: "))
  }

  @Test func aFilesOwnTextIsQuotedOnOneShortLine() {
    let token = "a\n\u{202E}" + String(repeating: "x", count: 500)
    let line = "\(TokenizerError(path: "f", problem: .duplicateToken(token)))"
    #expect(!line.contains("\n") && !line.unicodeScalars.contains("\u{202E}"))
    #expect(line.count < 200)
  }

  /// Changed, cut and repeated bytes: the file is read, or refused with one line.
  @Test(arguments: TokenizerTests.names + ["merges", "ranks", "pieces"])
  func changedFilesNeverTrap(_ name: String) throws {
    let original = try bytes(name)
    var stream = Stream(UInt64(name.utf8.count) + 3)
    var read = 0
    for round in 0..<700 {
      var bytes = original
      for _ in 0...stream.next(4) {
        let place = stream.next(bytes.count)
        switch stream.next(5) {
        case 0: bytes[place] = UInt8(stream.next(256))
        case 1: bytes[place] ^= 1 << UInt8(stream.next(8))
        case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + stream.next(9)))
        case 3:
          let end = min(bytes.count, place + 1 + stream.next(40))
          bytes.insert(contentsOf: bytes[place..<end], at: stream.next(bytes.count))
        default:
          let pieces = [
            "null", "-1", "1e99", "\"\"", "[]", "{}", "4294967295", "\\ud800", "(", "\u{0}",
          ]
          bytes.insert(contentsOf: Array(pieces[stream.next(pieces.count)].utf8), at: place)
        }
        if bytes.isEmpty { bytes = [0x7B] }
      }
      if round % 7 == 0 { bytes.removeSubrange(stream.next(bytes.count)...) }
      do throws(TokenizerError) {
        let tokenizer = try Tokenizer(contentsOf: bytes, name: "f")
        let ids = tokenizer.encode("The fox 漢字 👍🏽 12345  \n", addSpecialTokens: true)
        _ = tokenizer.decode(ids + [0, 1, 2, -1, 70_000])
        read += 1
      } catch {
        #expect(!"\(error)".contains("\n"))
      }
    }
    #expect(read < 700)
  }

  /// A small file of each kind.
  private func bytes(_ name: String) throws -> [UInt8] {
    switch name {
    case "merges": return Array("#version: 0.2\na b\nab c\nĠ t\nĠt h\n".utf8)
    case "ranks": return Array("YQ== 0\nYg== 1\nYWI= 2\nIA== 3\n".utf8)
    case "pieces": return SentencePieceFixture.bytes
    default: return Fixtures.bytes(Fixtures.path("\(name).json"))
    }
  }
}

/// A SentencePiece model written by hand.
enum SentencePieceFixture {
  static let bytes: [UInt8] = {
    let pieces: [(String, UInt8)] = [
      ("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<0x0A>", 6), ("<0xC3>", 6), ("<0xA9>", 6),
      ("▁a", 1), ("ab", 1), ("▁", 1), ("a", 1), ("b", 1), ("<tag>", 4),
    ]
    var bytes: [UInt8] = []
    for (text, type) in pieces {
      let utf8 = Array(text.utf8)
      let message = [0x0A, UInt8(utf8.count)] + utf8 + [0x15, 0, 0, 0, 0, 0x18, type]
      bytes += [0x0A, UInt8(message.count)] + message
    }
    // Trainer: type BPE, first id 1. Normalizer: a blank is put first.
    return bytes + [0x12, 5, 0x18, 2, 0xC8, 2, 1] + [0x1A, 2, 0x18, 1]
  }()
}

@Suite struct SentencePieceModelTests {
  @Test func readsPiecesTypesAndTheFirstToken() throws {
    let tokenizer = try Tokenizer(contentsOf: SentencePieceFixture.bytes, name: "m")
    #expect(tokenizer.vocabularySize == 12)
    #expect(tokenizer.specialTokens == [0, 1, 2])
    #expect(tokenizer.encode("ab", addSpecialTokens: true) == [1, 6, 10])
    #expect(tokenizer.encode("ab<tag>b é\n") == [6, 10, 11, 8, 10, 8, 4, 5, 3])
    #expect(tokenizer.decode([1, 6, 10, 8, 4, 5, 3]) == "ab é\n")
    #expect(tokenizer.encode("x") == [8, 0])
  }
}

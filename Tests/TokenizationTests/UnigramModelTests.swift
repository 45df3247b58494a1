import JSONDocuments
import Testing

@testable import Tokenization

@Suite struct UnigramModelTests {
  static let tokens: [(String, Double)] = [
    ("<unk>", 0), ("a", -2.5), ("b", -3), ("ab", -4.75), ("aba", -6.25), ("é", -4), ("bé", -6.5),
    ("bb", -7.1),
  ]

  /// Every way to cut a word into tokens and single characters, the best sum first.
  private func best(_ word: [Character]) -> Double {
    guard !word.isEmpty else { return 0 }
    let least = Self.tokens.map(\.1).min() ?? 0
    var scores: [Double] = []
    for length in 1...word.count {
      let first = String(word[..<length])
      let rest = best(Array(word[length...]))
      if let token = Self.tokens.first(where: { $0.0 == first }) {
        scores.append(token.1 + rest)
      } else if length == 1 {
        scores.append(least - UnigramModel.unknownPenalty + rest)
      }
    }
    return scores.max() ?? -.infinity
  }

  @Test func theSumIsTheLargestOfEveryCut() throws {
    var vocabulary = Vocabulary(capacity: 8)
    for (id, token) in Self.tokens.enumerated() {
      try vocabulary.add(token.0.utf8, id: id, limit: 8)
    }
    let model = UnigramModel(
      vocabulary: vocabulary, scores: Self.tokens.map(\.1), unknownID: 0, fallsBackToBytes: false)
    var stream = Stream(7)
    for _ in 0..<300 {
      let word = (0..<1 + stream.next(9)).map { _ in Array("abé")[stream.next(3)] }
      let text = Array(String(word).utf8)
      var state = EncoderState(), ids: [Int32] = []
      model.encode(text.span, 0..<text.count, &state, into: &ids)
      #expect(ids.flatMap { Array(Self.tokens[Int($0)].0.utf8) } == text)
      let sum = ids.reduce(0.0) { $0 + Self.tokens[Int($1)].1 }
      #expect(abs(sum - best(word)) < 1e-12)
    }
  }

  @Test func unknownCharactersAreOneToken() throws {
    var vocabulary = Vocabulary(capacity: 8)
    for (id, token) in Self.tokens.enumerated() {
      try vocabulary.add(token.0.utf8, id: id, limit: 8)
    }
    func ids(_ text: String, unknown: Int32?) -> [Int32] {
      let model = UnigramModel(
        vocabulary: vocabulary, scores: Self.tokens.map(\.1), unknownID: unknown,
        fallsBackToBytes: false)
      var state = EncoderState(), ids: [Int32] = []
      let text = Array(text.utf8)
      model.encode(text.span, 0..<text.count, &state, into: &ids)
      return ids
    }
    #expect(ids("xxa漢字x", unknown: 0) == [0, 1, 0])
    #expect(ids("xxa漢字x", unknown: nil) == [1])
    #expect(ids("", unknown: 0) == [])
  }

  /// Damaged maps are refused, or give some text; they never read outside of themselves.
  @Test func hostileCharacterMaps() throws {
    let file = try Fixtures.json("unigram.json")
    let text = try #require(
      file["normalizer"]?["normalizers"]?.array?.first?["precompiled_charsmap"]?.string)
    let blob = try #require(TiktokenRanks.base64(Array(text.utf8)[...]))
    for length in [0, 3, 4, 7, 8] {
      #expect(throws: TokenizerError.Problem.self) { try CharacterMap(Array(blob[..<length])) }
    }
    var stream = Stream(11)
    let sample = try mixedText(seed: 3, size: 4000)
    for _ in 0..<60 {
      var damaged = blob
      let tree = blob.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
      for _ in 0..<200 { damaged[4 + stream.next(tree)] = UInt8(stream.next(256)) }
      let map = try CharacterMap(damaged)
      var bytes = Array(sample.utf8)
      map.apply(&bytes)
      #expect(firstInvalidUTF8(bytes.span) == nil)
    }
    #expect(throws: TokenizerError.Problem.self) { try CharacterMap(blob + [0xC3]) }
    let whole = try CharacterMap(blob)
    var bytes = Array("Ｆｕｌｌ e\u{301}\u{AD}ﬁ".utf8)
    whole.apply(&bytes)
    #expect(String(decoding: bytes, as: UTF8.self).utf8.elementsEqual("Full éfi".utf8))
  }
}

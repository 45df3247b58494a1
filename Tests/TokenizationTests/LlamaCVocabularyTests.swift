import Testing

@testable import Tokenization

/// llama2.c's tokenizer.bin against the SentencePiece model that it was made from.
@Suite struct LlamaCVocabularyTests {
  @Test(
    .enabled(if: RealTokenizerTests.shared != nil, "CONDENSE_SHARED is not set"))
  func idsEqualTheModels() throws {
    let folder = (RealTokenizerTests.shared ?? "") + "/models/stories260k/"
    let own = try Tokenizer(contentsOf: Fixtures.bytes(folder + "tok512.bin"), name: "tok512.bin")
    let model = try Tokenizer(
      contentsOf: Fixtures.bytes(folder + "tok512.model"), name: "tok512.model")
    for text in [
      "Once upon a time, there was a little girl named Lily.", "", "  two  blanks", "Zürich 123\n🙂",
    ] {
      #expect(own.encode(text) == model.encode(text))
      #expect(
        own.encode(text, addSpecialTokens: true) == model.encode(text, addSpecialTokens: true))
      #expect(own.decode(own.encode(text)) == model.decode(model.encode(text)))
    }
  }

  @Test func damageIsAnError() {
    let good: [UInt8] =
      [7, 0, 0, 0] + [0, 0, 0, 0, 5, 0, 0, 0] + Array("<unk>".utf8) + [
        0, 0, 0, 0, 1, 0, 0, 0, 0x61,
      ]
    #expect((try? Tokenizer(contentsOf: good, name: "t"))?.vocabularySize == 2)
    for end in 17..<good.count where end != 17 {
      #expect(throws: TokenizerError.self) {
        try Tokenizer(contentsOf: Array(good[..<end]), name: "t")
      }
    }
    var long = good
    long[24] = 0x7F
    #expect(throws: TokenizerError.self) { try Tokenizer(contentsOf: long, name: "t") }
  }
}

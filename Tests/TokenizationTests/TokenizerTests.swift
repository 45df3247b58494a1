import JSONDocuments
import Testing

@testable import Tokenization

/// Small tokenizers of every kind, against what the package `tokenizers` gives.
@Suite struct TokenizerTests {
  static let names = [
    "gpt2", "llama3", "qwen2", "o200k", "llama2", "mistral", "bert", "added", "unigram",
    "unigram_bytes",
  ]

  @Test(arguments: names) func encodesLikeTokenizers(_ name: String) throws {
    let tokenizer = try Fixtures.tokenizer("\(name).json")
    let cases = try #require(try Fixtures.json("\(name).expected.json")["encode"]?.array)
    #expect(cases.count > 50)
    for (index, example) in cases.enumerated() {
      let text = try #require(example["text"]?.string)
      let special = try #require(example["special"]?.bool as Bool?)
      let wanted = example["ids"]?.ids
      #expect(tokenizer.encode(text, addSpecialTokens: special) == wanted, "text \(index)")
      let bytes = Array(text.utf8)
      #expect(try tokenizer.encode(utf8: bytes.span, addSpecialTokens: special) == wanted)
    }
  }

  @Test(arguments: names) func encodesPairsLikeTokenizers(_ name: String) throws {
    let tokenizer = try Fixtures.tokenizer("\(name).json")
    let cases = try #require(try Fixtures.json("\(name).expected.json")["pair"]?.array)
    for example in cases {
      let pair = tokenizer.encodePair(
        try #require(example["first"]?.string), try #require(example["second"]?.string))
      #expect(pair.ids == example["ids"]?.ids)
      #expect(pair.typeIDs == example["types"]?.ids)
    }
  }

  @Test(arguments: names) func decodesLikeTokenizers(_ name: String) throws {
    let tokenizer = try Fixtures.tokenizer("\(name).json")
    let cases = try #require(try Fixtures.json("\(name).expected.json")["decode"]?.array)
    for (index, example) in cases.enumerated() {
      let ids = try #require(example["ids"]).ids
      let skip = try #require(example["skip"]?.bool as Bool?)
      let text = tokenizer.decode(ids, skipSpecialTokens: skip)
      let wanted = try #require(example["text"]?.string)
      #expect(text.utf8.elementsEqual(wanted.utf8), "ids \(index)")
    }
  }

  @Test func tokensAreLookedUpByTheirBytes() throws {
    let text = #"""
      {"model": {"type": "WordPiece", "unk_token": "[UNK]",
        "vocab": {"[UNK]": 0, "\#u{E9}": 1, "e\#u{301}": 2}}}
      """#
    let tokenizer = try Tokenizer(contentsOf: Array(text.utf8), name: "t")
    #expect(tokenizer.id(of: "\u{E9}") == 1)
    #expect(tokenizer.id(of: "e\u{301}") == 2)
    #expect(tokenizer.encode("\u{E9}") == [1])
    #expect(tokenizer.encode("e\u{301}") == [2])
    #expect(tokenizer.vocabularySize == 3)
    #expect(tokenizer.token(3) == nil)
    #expect(tokenizer.token(-1) == nil)
    #expect(tokenizer.decode([-1, 3, .max, .min]) == "")
  }

  @Test func tokenBytesAreTheBytesInsideAText() throws {
    let gpt2 = try Fixtures.tokenizer("gpt2.json")
    let space = try #require(gpt2.id(of: "Ġ"))
    #expect(gpt2.tokenBytes(space) == [0x20])
    let last = try #require(gpt2.id(of: "ÿ"))
    #expect(gpt2.tokenBytes(last) == [0xFF])
    let end = try #require(gpt2.id(of: "<|endoftext|>"))
    #expect(gpt2.specialTokens == [end])
    let llama2 = try Fixtures.tokenizer("llama2.json")
    let byte = try #require(llama2.id(of: "<0xE2>"))
    #expect(llama2.tokenBytes(byte) == [0xE2])
    let mark = try #require(llama2.id(of: "▁"))
    #expect(llama2.tokenBytes(mark) == [0x20])
    // The ids of a text, as bytes, are the text (with the blank that the normalizer puts first).
    let text = "The fox, 漢字 👩‍👩‍👧‍👦\u{0}"
    #expect(llama2.encode(text).flatMap { llama2.tokenBytes($0) ?? [] } == [0x20] + text.utf8)
    #expect(gpt2.encode(text).flatMap { gpt2.tokenBytes($0) ?? [] } == Array(text.utf8))
  }

  @Test func textThatIsNotUTF8IsRefusedWithItsOffset() throws {
    let tokenizer = try Fixtures.tokenizer("gpt2.json")
    for (bytes, offset): ([UInt8], Int) in [
      ([0x61, 0xFF], 1), ([0xE2, 0x82], 0), ([0x61, 0x62, 0xC0, 0x80], 2),
      ([0xED, 0xA0, 0x80], 0), ([0xF4, 0x90, 0x80, 0x80], 0), ([0x80], 0),
    ] {
      #expect(
        throws: TokenizerError(path: "gpt2.json", problem: .textNotUTF8(offset: offset))
      ) { try tokenizer.encode(utf8: bytes.span) }
    }
  }

  @Test func aCallLeavesNothingThatChangesTheNext() throws {
    let tokenizer = try Fixtures.tokenizer("llama2.json")
    let texts = try (1...40).map { try mixedText(seed: $0, size: 300) }
    let alone = try texts.map { try Fixtures.tokenizer("llama2.json").encode($0) }
    #expect(texts.map { tokenizer.encode($0) } == alone)
    #expect(texts.reversed().map { tokenizer.encode($0) } == alone.reversed())
  }
}

/// Streaming gives the text of `decode`, whole characters at a time.
@Suite struct StreamingDecoderTests {
  @Test(arguments: TokenizerTests.names) func piecesJoinToTheWholeText(_ name: String) throws {
    let tokenizer = try Fixtures.tokenizer("\(name).json")
    var stream = Stream(11)
    for round in 0..<300 {
      let length = stream.next(30)
      let ids = (0..<length).map { _ in Int32(stream.next(tokenizer.vocabularySize + 3)) }
      var decoder = StreamingDecoder(tokenizer, skipSpecialTokens: round % 2 == 0)
      let text = ids.map { decoder.push($0) }.joined() + decoder.finish()
      let whole = tokenizer.decode(ids, skipSpecialTokens: round % 2 == 0)
      #expect(text.utf8.elementsEqual(whole.utf8), "\(ids)")
    }
  }

  @Test func aCharacterInSeveralTokensComesWhole() throws {
    let tokenizer = try Fixtures.tokenizer("gpt2.json")
    let ids = try "é👍".utf8.map { byte in
      let token = String(decoding: ByteLevelAlphabet.encode([byte]), as: UTF8.self)
      return try #require(tokenizer.id(of: token))
    }
    var decoder = StreamingDecoder(tokenizer)
    let pieces = (ids + ids.prefix(1)).map { decoder.push($0) }
    #expect(pieces == ["", "é", "", "", "", "👍", ""])
    let ends = [decoder.finish(), decoder.finish()]
    #expect(ends == ["\u{FFFD}", ""])
  }
}

import JSONDocuments
@_spi(_Unicode) import Swift
import Testing

@testable import Tokenization

@Suite struct RegexTests {
  private func pieces(_ pattern: TextPattern, _ text: String) -> [Int] {
    var words = WordList(Array(text.utf8), isAtStart: true)
    var state = RegexState()
    words.split(pattern, .isolated, isInverted: false, &state)
    return words.pieces.map(\.count)
  }

  @Test func matchesLikeOniguruma() throws {
    let cases = try #require(try Fixtures.json("regex.expected.json").array)
    #expect(cases.count > 20)
    for example in cases {
      let pattern = try #require(example["pattern"]?.string)
      let text = try #require(example["text"]?.string)
      let wanted = example["lengths"]?.array?.compactMap(\.integer)
      #expect(pieces(.regex(try Regex(pattern)), text) == wanted, "\(pattern)")
    }
  }

  @Test(arguments: [
    KnownPattern.gpt2Pattern, KnownPattern.llama3Pattern, KnownPattern.qwen2Pattern,
  ])
  func knownPatternsEqualTheirExpression(_ pattern: String) throws {
    let known = try #require(KnownPattern(pattern))
    let regex = try Regex(pattern)
    for seed in 1...200 {
      let text = try mixedText(seed: UInt64(seed), size: 400)
      #expect(pieces(.known(known), text) == pieces(.regex(regex), text), "seed \(seed)")
    }
  }

  @Test(arguments: [
    ("(", "not closed"), ("a)", "closes nothing"), ("[a", "not closed"), ("*a", "repeat"),
    (#"\p{Greek}"#, "not supported"), (#"(a)\1"#, "not supported"), ("(?<=ab)c", "look-behind"),
    (#"\"#, "backslash"), ("a{2000}", "above 1000"), ("(?q)a", "option"), ("[b-a]", "range"),
    (String(repeating: "(", count: 5000), "nested"),
    ("a" + String(repeating: "*", count: 99), "repeats"),
    (String(repeating: "(?:", count: 3) + "a" + String(repeating: "){900}", count: 3), "steps"),
    (#"\x{110000}"#, "hexadecimal"), ("[[:nothing:]]", "not supported"),
  ])
  func refusesWithAReason(_ pattern: String, _ reason: String) throws {
    do {
      _ = try Regex(pattern)
      Issue.record("\(pattern.prefix(20)) was read")
    } catch {
      #expect(error.reason.contains(reason), "\(error.reason)")
    }
  }

  /// A pattern that would try 2^n ways, on a text of n letters, ends anyway.
  @Test func backtrackingIsBounded() throws {
    let regex = try Regex("(?:a|a)*b")
    #expect(pieces(.regex(regex), String(repeating: "a", count: 2000)) == [2000])
  }

  /// The matcher's stack is on the heap.
  @Test func longRunsDoNotExhaustTheStack() throws {
    let regex = try Regex("(?:ab|c)+")
    let text = String(repeating: "ab", count: 500_000)
    #expect(pieces(.regex(regex), text) == [1_000_000])
  }
}

@Suite struct SplitBehaviorTests {
  /// `a--b-` cut at `-`, as the documentation of `tokenizers` shows.
  @Test(arguments: [
    (SplitBehavior.removed, ["a", "b"]), (.isolated, ["a", "-", "-", "b", "-"]),
    (.mergedWithPrevious, ["a-", "-", "b-"]), (.mergedWithNext, ["a", "-", "-b", "-"]),
    (.contiguous, ["a", "--", "b", "-"]),
  ])
  func joins(_ behavior: SplitBehavior, _ wanted: [String]) {
    let text = Array("a--b-".utf8)
    var words = WordList(text, isAtStart: true)
    var state = RegexState()
    words.split(.string([0x2D]), behavior, isInverted: false, &state)
    #expect(words.pieces.map { String(decoding: text[$0], as: UTF8.self) } == wanted)
  }
}

@Suite struct NormalizerTests {
  @Test(arguments: [
    ("NFC", Normalizer.unicode(.nfc)), ("NFD", .unicode(.nfd)), ("NFKC", .unicode(.nfkc)),
    ("NFKD", .unicode(.nfkd)), ("Lowercase", .lowercase), ("StripAccents", .stripAccents),
    ("Nmt", .nmt),
    (
      "BertNormalizer",
      .bert(
        BertNormalizer(
          cleansText: true, spacesChinese: true, stripsAccents: true, lowercases: true))
    ),
  ])
  func everyScalarIsNormalizedAsIn(_ name: String, _ normalizer: Normalizer) throws {
    let expected = try Fixtures.json("normalizers.expected.json")
    var state = RegexState()
    var output: [UInt8] = []
    for range in try #require(expected["scalars"]?.array) {
      let bounds = range.array?.compactMap(\.integer) ?? []
      for value in bounds[0]...bounds[1] {
        var text: [UInt8] = []
        text.append(scalar: UInt32(value))
        var keepsStart = true
        normalizer.apply(&text, keepsStart: &keepsStart, &state)
        if !output.isEmpty || value > 1 { output.append(0x0A) }
        output += text
      }
    }
    #expect(fnv(output) == expected["hashes"]?[name]?.string)
  }

  /// Text that is normalized stretch by stretch is normalized as a whole.
  @Test func stretchesJoinLikeTheWhole() throws {
    let marks = (0..<300).map { ["\u{301}", "\u{316}", "\u{344}"][$0 % 3] }
    var sources = ["e" + marks.joined() + "é\u{323}", marks.joined()]
    for seed in 1...100 { sources.append(try mixedText(seed: UInt64(seed), size: 300)) }
    for source in sources
    where source.unicodeScalars.allSatisfy({ ($0.properties.age?.major ?? 0) <= 9 }) {
      var composed = Array(source.utf8)
      NormalizationForm.nfc.apply(&composed)
      #expect(Array(String(decoding: composed, as: UTF8.self).unicodeScalars) == Array(source._nfc))
      var decomposed = Array(source.utf8)
      NormalizationForm.nfd.apply(&decomposed)
      #expect(
        Array(String(decoding: decomposed, as: UTF8.self).unicodeScalars) == Array(source._nfd))
    }
  }

  /// U+0F73 has combining class 0, but decomposes into marks of classes 129 and 130.
  @Test func signsOfTwoMarksAreOrderedToo() {
    var text = Array("e\u{301}\u{F73}\u{316}".utf8)
    NormalizationForm.nfd.apply(&text)
    #expect(text == Array("e\u{F71}\u{F72}\u{316}\u{301}".utf8))
  }

  /// U+0899 is of Unicode 14: for `tokenizers` it is no mark.
  @Test func marksOfLaterVersionsStayWhereTheyAre() {
    var text = Array("\u{899}\u{64E}e\u{301}".utf8)
    NormalizationForm.nfc.apply(&text)
    #expect(text == Array("\u{899}\u{64E}\u{E9}".utf8))
  }

  @Test func aTextOfNothingButMarksIsNormalizedInTime() {
    var text = Array(("e" + String(repeating: "\u{301}\u{316}", count: 100_000)).utf8)
    let elapsed = ContinuousClock().measure { NormalizationForm.nfc.apply(&text) }
    #expect(text.count == 400_000)
    #expect(elapsed < .seconds(5))
  }
}

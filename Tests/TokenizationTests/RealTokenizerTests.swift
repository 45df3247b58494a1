import JSONDocuments
import Testing

@testable import Tokenization

/// Real tokenizers over 1 MB of mixed text each, against hashes of what `tokenizers` gives.
@Suite struct RealTokenizerTests {
  static let shared = Fixtures.folder("CONDENSE_SHARED")
  static let peers = Fixtures.folder("CONDENSE_PEERS")

  private func check(_ folder: String?, named name: String) throws {
    let folder = try #require(folder)
    let entries = try #require(Fixtures.json("real.json").array)
    for entry in entries where entry["folder"]?.string == name {
      let file = try #require(entry["file"]?.string)
      let tokenizer = try Tokenizer(contentsOf: Fixtures.bytes("\(folder)/\(file)"), name: file)
      let text = try mixedText(
        seed: UInt64(entry["seed"]?.integer ?? 0), size: entry["bytes"]?.integer ?? 0)
      let ids = tokenizer.encode(text)
      #expect(ids.count == entry["count"]?.integer, "\(file)")
      #expect(Array(ids.prefix(20)) == entry["first"]?.ids, "\(file)")
      #expect(fnv(ids: ids) == entry["ids"]?.string, "\(file)")
      let whole = tokenizer.decode(ids, skipSpecialTokens: false)
      #expect(fnv(whole.utf8) == entry["text"]?.string, "\(file)")
      #expect(fnv(tokenizer.decode(ids).utf8) == entry["plain"]?.string, "\(file)")
    }
  }

  @Test(.enabled(if: shared != nil, "CONDENSE_SHARED is not set"))
  func realTokenizersEqualTokenizers() throws { try check(Self.shared, named: "shared") }

  @Test(.enabled(if: peers != nil, "CONDENSE_PEERS is not set"))
  func wordPieceEqualsTokenizers() throws { try check(Self.peers, named: "peers") }

  @Test(
    .enabled(if: shared != nil, "CONDENSE_SHARED is not set"),
    arguments: [
      "models/lm-6m/tokenizer.json", "models/lm-29m/tokenizer.json",
      "tokenizers/gpt-neox-20b.json", "tokenizers/llama3-tokenizer.model",
      "tokenizers/llama2-tokenizer.model",
    ])
  func englishIsFast(_ file: String) throws {
    let folder = try #require(Self.shared)
    let bytes = Fixtures.bytes("\(folder)/\(file)")
    let clock = ContinuousClock()
    let start = clock.now
    let tokenizer = try Tokenizer(contentsOf: bytes, name: file)
    let loaded = clock.now - start
    let text = String(
      decoding: Fixtures.bytes("\(folder)/data/books-calibration.txt"), as: UTF8.self)
    let elapsed = clock.measure { #expect(!tokenizer.encode(text).isEmpty) }
    let megabytesPerSecond = Double(text.utf8.count) / 1e6 / (elapsed / .seconds(1))
    print("\(file): ready in \(loaded), \(megabytesPerSecond) MB/s, cold cache, one thread")
    #expect(megabytesPerSecond > 2)
    // Loose: other tests run at the same time.
    #expect(loaded < .seconds(2))
  }
}

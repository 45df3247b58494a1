import Checkpoints
import JSONDocuments
import Tensors
import TestSupport
import Testing
import Tokenization

@testable import Pipeline

/// A checkpoint that is only a tokenizer.
private struct TokenizerOnly: Checkpoint {
  let path: String
  let name: String
  let bytes: [UInt8]
  var formatName: String { "test" }
  var configuration: JSONValue { .null }
  var manifest: WeightManifest { WeightManifest() }
  var tensorNames: [String] { [] }
  func tensor(_ name: String) -> Tensor? { nil }
  var sideFileNames: [String] { [name] }
  func sideFile(_ name: String) throws -> [UInt8] { bytes }
  var byteCount: Int { bytes.count }
}

/// A tokenizer goes into GGUF's metadata and comes out with the same ids.
@Suite struct GGUFVocabularyTests {
  static let texts = [
    "Hello, world! It's 12345 o'clock;  don't\tgo\n\n  there…", "The king's horses\r\nand men.",
    "Grüße aus Köln — naïve café 東京 日本語 🙂 ½ ٣٤", "    def f(x):\n        return x**2  # 100%\n",
    "<|endoftext|> a <s> b </s>", "", " ", "a", "ÀÉ ABC aBC Abc'LL we'Ll",
  ]

  private func check(_ path: String, name: String, size: Int) throws {
    let bytes = try FilePath.read(path)
    let source = TokenizerOnly(path: path, name: name, bytes: bytes)
    var metadata = GGUFMetadata()
    metadata["general.architecture"] = GGUFValue("llama-like")
    var vocabulary = GGUFVocabulary(of: source, size: size)
    #expect(try vocabulary.add(to: &metadata) == nil)
    let folder = try TemporaryFolder()
    let writer = try GGUFWriter(
      path: folder.file("t.gguf"), layout: GGUFLayout(items: [], metadata: metadata))
    try writer.finish()
    let file = try GGUFCheckpoint(path: folder.file("t.gguf"))
    let own = try Tokenizer(
      contentsOf: try file.sideFile("tokenizer.json"), name: folder.file("t.gguf"))
    let original = try Tokenizer(contentsOf: bytes, name: path)
    for text in Self.texts {
      for special in [false, true] {
        let ids = own.encode(text, addSpecialTokens: special)
        #expect(ids == original.encode(text, addSpecialTokens: special), "\(path): \(text)")
        #expect(own.decode(ids) == original.decode(ids))
      }
    }
  }

  @Test(
    .enabled(if: TestData.shared != nil, Comment(rawValue: TestData.sharedHint)),
    arguments: [
      ("models/lm-6m/tokenizer.json", "tokenizer.json", 4096),
      ("tokenizers/gpt-neox-20b.json", "tokenizer.json", 50432),
      ("tokenizers/llama2-tokenizer.model", "tokenizer.model", 32000),
      ("models/stories260k/tok512.model", "tokenizer.model", 512),
      ("tokenizers/moonshine.json", "tokenizer.json", 32768),
    ]) func realTokenizers(_ path: String, _ name: String, _ size: Int) throws
  {
    try check((TestData.shared ?? "") + "/" + path, name: name, size: size)
  }
}

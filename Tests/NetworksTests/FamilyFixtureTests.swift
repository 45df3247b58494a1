import Checkpoints
import JSONDocuments
import Networks
import Tensors
import TestSupport
import Testing

/// What transformers and sentence-transformers computed on tiny checkpoints; see Tests/Fixtures/families.
@Suite struct FamilyFixtureTests {
  static let decoders = [
    "llama", "llama-tied", "llama-head-dim", "llama-rope-llama3", "llama-rope-llama3-v4",
    "llama-rope-linear", "llama-rope-dynamic", "llama-rope-yarn", "llama-bf16", "llama-f16",
    "llama-sharded", "smollm", "mistral", "qwen2", "qwen2-sliding", "qwen2-sliding-v4", "qwen3",
    "gemma", "gemma2", "gemma3", "phi3", "phi3-longrope", "gpt2", "mixtral", "qwen2-moe",
    "qwen3-moe",
  ]
  /// Their rotation changes as a sequence grows.
  static let growing = ["llama-rope-dynamic", "phi3-longrope"]
  static let encoders = [
    "bert-mean", "bert-cls", "bert-not-normalized", "roberta-max", "xlm-roberta-dense",
    "distilbert-mean",
  ]

  static func folder(_ name: String) -> String { TestData.fixtures + "/families/" + name }

  /// Rows of a `[sequences, length]` tensor of ids.
  static func sequences(_ tensor: Tensor) throws -> [[Int32]] {
    let ids = try #require(tensor.integers()).map { Int32($0) }
    return (0..<tensor.rows).map { Array(ids[$0 * tensor.columns..<($0 + 1) * tensor.columns]) }
  }

  @Test(arguments: decoders) func logitsEqualTransformers(_ name: String) throws {
    let checkpoint = try CheckpointFolder(path: Self.folder(name))
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any LanguageModel)
    let fixture = try SafetensorsFile(path: Self.folder(name) + "/expected.safetensors")
    let batch = TokenBatch(try Self.sequences(try #require(fixture.tensor("input_ids"))))
    let expected = try #require(fixture.tensor("logits"))
    let logits = model.logits(model.hidden(batch))
    try Self.compare(
      logits,
      Matrix(
        rows: expected.rows, columns: expected.columns, values: expected.floats()))
  }

  static func compare(_ found: Matrix, _ expected: Matrix) throws {
    try #require(found.rows == expected.rows && found.columns == expected.columns)
    var worst: Float = 0
    for (a, b) in zip(found.values, expected.values) { worst = max(worst, abs(a - b)) }
    #expect(worst < 2e-4)
    for row in 0..<found.rows {
      let a = found.row(row), b = expected.row(row)
      #expect(a.firstIndex(of: a.max() ?? 0) == b.firstIndex(of: b.max() ?? 0))
    }
  }

  /// Token by token with a cache gives the logits of the whole sequence; two scalings change the rotation as
  /// a sequence grows, so that its cached keys differ (as in transformers).
  @Test(arguments: decoders.filter { !growing.contains($0) })
  func aCacheChangesNothing(_ name: String) throws {
    let checkpoint = try CheckpointFolder(path: Self.folder(name))
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any LanguageModel)
    let fixture = try SafetensorsFile(path: Self.folder(name) + "/expected.safetensors")
    let ids = try Self.sequences(try #require(fixture.tensor("input_ids")))[0]
    let whole = model.logits(model.hidden(TokenBatch([ids])))
    let cache = KeyValueCache()
    var rows = [model.logits(model.hidden(TokenBatch([Array(ids[..<7])]), cache: cache))]
    for id in ids[7...] {
      rows.append(model.logits(model.hidden(TokenBatch([[id]]), cache: cache)))
    }
    try Self.compare(Matrix.stack(rows), whole)
  }

  @Test(arguments: encoders) func embeddingsEqualSentenceTransformers(_ name: String) throws {
    let checkpoint = try CheckpointFolder(path: Self.folder(name))
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any TextEncoder)
    let fixture = try SafetensorsFile(path: Self.folder(name) + "/expected.safetensors")
    let ids = try Self.sequences(try #require(fixture.tensor("input_ids")))
    let mask = try Self.sequences(try #require(fixture.tensor("attention_mask")))
    let texts = zip(ids, mask).map { ids, mask in zip(ids, mask).filter { $1 == 1 }.map { $0.0 } }
    let batch = TokenBatch(texts)
    let hidden = model.hidden(batch)
    let states = try #require(fixture.tensor("last_hidden_state")).floats()
    var worst: Float = 0
    for (index, sequence) in batch.sequences.enumerated() {
      for (token, row) in sequence.enumerated() {
        let expected = (index * ids[0].count + token) * hidden.columns
        for column in 0..<hidden.columns {
          worst = max(worst, abs(hidden.row(row)[column] - states[expected + column]))
        }
      }
    }
    #expect(worst < 2e-5)
    let embeddings = model.pool(hidden, batch)
    let expected = try #require(fixture.tensor("embeddings")).floats()
    #expect(zip(embeddings.values, expected).allSatisfy { abs($0 - $1) < 2e-5 })
    #expect(model.maximumTokens == 24 && model.embeddingWidth == embeddings.columns)
  }
}

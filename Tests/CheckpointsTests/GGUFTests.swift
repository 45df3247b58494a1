import Encodings
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

/// Files written by the package `gguf` and by ourselves; see Tests/Fixtures/gguf.
@Suite struct GGUFTests {
  static let folder = TestData.fixtures + "/gguf/"

  @Test func everyKindOfMetadata() throws {
    let file = try GGUFFile(path: Self.folder + "keep.gguf")
    let metadata = file.header.metadata
    #expect(metadata["k.u8"]?.integer == 200 && metadata["k.i8"]?.integer == -100)
    #expect(metadata["k.u16"]?.integer == 60000 && metadata["k.i16"]?.integer == -30000)
    #expect(
      metadata["k.u32"]?.integer == 4_000_000_000 && metadata["k.i32"]?.integer == -2_000_000_000)
    #expect(metadata["k.u64"]?.integer == 1 << 53 + 1)
    #expect(metadata["k.i64"]?.integer == -(1 << 53) - 1)
    #expect(metadata["k.f32"]?.number == Double(Float(0.1)) && metadata["k.f64"]?.number == 0.1)
    #expect(metadata["k.yes"]?.bool == true && metadata["k.no"]?.bool == false)
    #expect(metadata["k.text"]?.text == "grüße" && metadata["k.text"]?.integer == nil)
    #expect(metadata["k.texts"]?.array?.texts == [[0x61], [], Array("ß".utf8)])
    #expect(metadata["k.ints"]?.array?.numbers == [1, -2, 3])
    #expect(metadata["k.floats"]?.array?.numbers == [0.5, -1.5])
    #expect(metadata["k.flags"]?.array?.numbers == [1, 0])
    #expect(metadata["missing"] == nil)
  }

  @Test func everyPlainType() throws {
    let checkpoint = try GGUFCheckpoint(path: Self.folder + "keep.gguf")
    #expect(checkpoint.configuration["architecture"]?.string == "unknown-net")
    #expect(checkpoint.tensor("f32")?.floats() == [0, 1, 2, 3, 4, 5])
    #expect(checkpoint.tensor("f32")?.shape == [2, 3])
    #expect(checkpoint.tensor("f16")?.floats() == [0, 1, 2, 3, 4, 5])
    #expect(checkpoint.tensor("f64")?.floats() == [0, 1, 2])
    for name in ["i8", "i16", "i32", "i64"] {
      #expect(checkpoint.tensor(name)?.integers() == [-3, -2, -1, 0, 1, 2])
    }
    #expect(checkpoint.tensor("cube")?.shape == [2, 3, 4])
    #expect(checkpoint.tensor("cube")?.floats() == (0..<24).map { Float($0) })
  }

  static let families = [
    "llama", "llama-rope-llama3", "llama-rope-linear", "llama-head-dim", "qwen2", "qwen3", "smollm",
  ]

  /// The package's own map of names and llama.cpp's order of rows give the source's tensors.
  @Test(arguments: families) func tensorsAreTheSources(_ name: String) throws {
    let file = try GGUFCheckpoint(path: Self.folder + "small-\(name).gguf")
    let source = try CheckpointFolder(path: TestData.fixtures + "/families/" + name)
    for tensor in file.tensorNames {
      let own = try #require(file.tensor(tensor)), other = try #require(source.tensor(tensor))
      #expect(own.shape == other.shape && own.floats() == other.floats(), "\(tensor)")
    }
    let left = Set(source.tensorNames).subtracting(file.tensorNames)
    #expect(left.allSatisfy { $0 == "lm_head.weight" || $0.hasSuffix("inv_freq") })
  }

  /// The configuration says the same of everything that the network reads.
  @Test(arguments: families) func configurationIsTheSources(_ name: String) throws {
    let file = try GGUFCheckpoint(path: Self.folder + "small-\(name).gguf").configuration
    let source = try CheckpointFolder(path: TestData.fixtures + "/families/" + name).configuration
    for key in [
      "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
      "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
      "hidden_act",
    ] {
      if let expected = source[key], !expected.isNull { #expect(file[key] == expected, "\(key)") }
    }
    let tied = source["tie_word_embeddings"]?.bool ?? false
    #expect(file["tie_word_embeddings"]?.bool == tied)
    let scaling = source["rope_parameters"] ?? source["rope_scaling"] ?? .null
    if let type = scaling["rope_type"]?.string ?? scaling["type"]?.string, type != "default" {
      #expect(file["rope_scaling"]?["rope_type"]?.string == type)
      #expect(file["rope_scaling"]?["factor"]?.number == scaling["factor"]?.number)
      #expect(
        file["rope_scaling"]?["low_freq_factor"]?.number == scaling["low_freq_factor"]?.number)
    }
  }

  @Test func namesGoBothWays() throws {
    for architecture in GGUFArchitecture.allCases {
      for name in [
        "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
        "model.layers.0.self_attn.q_proj.weight", "model.layers.11.self_attn.k_proj.bias",
        "model.layers.3.self_attn.k_norm.weight", "model.layers.7.mlp.down_proj.weight",
        "model.layers.7.post_attention_layernorm.weight",
      ] {
        let file = try #require(architecture.fileName(of: name))
        #expect(architecture.modelName(of: file) == name)
      }
      for name in [
        "blk.0.attn_q", "blk.-1.attn_q.weight", "blk.01.attn_q.weight", "blk.0.weight", "",
        "token_embd.weight.weight", "blk..attn_q.weight", "blk.0.unknown.weight",
      ] { #expect(architecture.modelName(of: name) == nil, "\(name)") }
    }
    let rows = GGUFArchitecture.fileRows(rows: 16, headSize: 8)
    #expect(rows == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15])
    let back = GGUFArchitecture.modelRows(rows: 16, headSize: 8)
    #expect(rows.map { back[$0] } == Array(0..<16))
  }

  /// A file of our own, read by ourselves: all types, the filling and the metadata.
  @Test func whatWeWriteWeRead() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("own.gguf")
    var metadata = GGUFMetadata()
    metadata["general.architecture"] = GGUFValue("other")
    metadata["a.list"] = .array(GGUFArray([[1, 2], []]))
    metadata["a.number"] = GGUFValue(Float(0.25))
    metadata["a.flag"] = GGUFValue(true)
    let matrix = Matrix(rows: 3, columns: 32, values: (0..<96).map { Float($0) })
    let blocks = GGUFBlocks(.q8_0).encode(matrix, importance: nil)
    let items = [
      GGUFLayout.Item(name: "a", type: .plain(.float32), shape: [3]),
      .init(name: "b", type: .blocks(.q8_0), shape: [3, 32]),
      .init(name: "c", type: .plain(.float16), shape: [2, 2]),
    ]
    let layout = GGUFLayout(items: items, metadata: metadata)
    var writer = try GGUFWriter(path: path, layout: layout)
    try writer.write(Tensor(.float32, shape: [3], copying: [1, 2, 3] as [Float]))
    try writer.write(blocks.parts[0])
    try writer.write(Tensor(.float32, shape: [2, 2], copying: [1, 2, 3, 4.5] as [Float]))
    try writer.finish()
    #expect(FilePath.byteCount(of: path) == layout.byteCount)
    let file = try GGUFCheckpoint(path: path)
    #expect(file.tensor("a")?.floats() == [1, 2, 3])
    #expect(file.tensor("c")?.floats() == [1, 2, 3, 4.5] && file.tensor("c")?.dtype == .float16)
    let entry = try #require(file.manifest["b"])
    #expect(entry.encoding.name == "Q8_0" && entry.method == GGUFCheckpoint.unknownMethod)
    #expect(
      try file.encodedMatrix(entry).matrix.decoded().values
        == blocks.matrix.decoded().values)
    #expect(file.metadata["a.list"]?.array?.texts == [[1, 2], []])
    #expect(file.metadata["a.number"]?.number == 0.25 && file.metadata["a.flag"]?.bool == true)
  }

  @Test func factorsOfLlama3AreFoundAgain() {
    let rotation = Llama3Rotation(
      factor: 8, lowFrequency: 1, highFrequency: 4, originalContext: 8192)
    let factors = rotation.factors(headSize: 128, base: 500_000)
    #expect(factors.first == 1 && factors.last == 8)
    #expect(Llama3Rotation.matching(factors, headSize: 128, base: 500_000) == rotation)
    var other = factors
    other[20] *= 1.5
    #expect(Llama3Rotation.matching(other, headSize: 128, base: 500_000) == nil)
  }
}

import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

@Suite struct LlamaCTests {
  static let fixtures = TestData.fixtures + "/llama-c/"

  @Test(arguments: [
    ("legacy-tied.bin", "floats"), ("legacy-untied.bin", "floats"), ("version1-tied.bin", "floats"),
    ("version1-untied.bin", "floats"), ("version2-untied.bin", "version2"),
  ]) func layouts(_ name: String, _ expected: String) throws {
    let found = try LlamaCFormat.open(Self.fixtures + name)
    var tensors = try safetensors(Self.fixtures + expected + ".safetensors")
    if name.contains("-tied") { tensors["lm_head.weight"] = nil }
    #expect(differences(found, tensors) == [])
    let configuration = found.configuration
    #expect(configuration["model_type"]?.string == "llama")
    #expect(configuration["hidden_size"]?.integer == 16)
    #expect(configuration["intermediate_size"]?.integer == 24)
    #expect(configuration["num_hidden_layers"]?.integer == 2)
    #expect(configuration["num_attention_heads"]?.integer == 4)
    #expect(configuration["num_key_value_heads"]?.integer == 2)
    #expect(configuration["vocab_size"]?.integer == 12)
    #expect(configuration["max_position_embeddings"]?.integer == 6)
    #expect(configuration["tie_word_embeddings"]?.bool == name.contains("-tied"))
    #expect(configuration["rms_norm_eps"]?.number == 1e-5)
  }

  /// Ternary weights are ±scale or 0; the norms that BitNet has without weights stand in its names.
  @Test func ternary() throws {
    let found = try LlamaCFormat.open(Self.fixtures + "ternary.bin")
    var tensors = try safetensors(Self.fixtures + "ternary.safetensors")
    for layer in 0..<2 {
      for (name, width) in [
        ("input_layernorm", 16), ("self_attn.attn_sub_norm", 16), ("post_attention_layernorm", 16),
        ("mlp.ffn_sub_norm", 24),
      ] {
        tensors["model.layers.\(layer).\(name).weight"] = Tensor(
          .float32, shape: [width],
          copying: [Float](repeating: 1 / Float(width), count: width))
      }
    }
    #expect(differences(found, tensors) == [])
    #expect(found.configuration["model_type"]?.string == "bitnet")
  }

  @Test func recognition() throws {
    for name in ["legacy-tied.bin", "version1-tied.bin", "version2-untied.bin", "ternary.bin"] {
      let start = Array(try FilePath.read(Self.fixtures + name).prefix(4096))
      let found = CheckpointFormats.all.filter { $0.recognizes(start, path: Self.fixtures + name) }
      #expect(found.map { $0.formatName } == ["llama2.c model"], "\(name)")
    }
    #expect(!LlamaCFormat.recognizes([1, 2, 3], path: "a.bin"))
    #expect(
      !LlamaCFormat.recognizes([UInt8](repeating: 0, count: 4096), path: Self.fixtures + "x.bin"))
  }

  private static func problem(_ edit: (inout [UInt8]) -> Void) throws -> CheckpointError.Problem? {
    var bytes = try FilePath.read(fixtures + "legacy-tied.bin")
    edit(&bytes)
    let folder = try TemporaryFolder()
    try Data(bytes).write(to: URL(filePath: folder.file("m.bin")))
    return openingError(LlamaCFormat.self, folder.file("m.bin"))?.problem
  }

  @Test func hostileHeaders() throws {
    func set(_ index: Int, _ value: Int32) -> (inout [UInt8]) -> Void {
      { bytes in
        for byte in 0..<4 {
          bytes[4 * index + byte] = UInt8(truncatingIfNeeded: value >> Int32(8 * byte))
        }
      }
    }
    #expect(
      try Self.problem(set(0, .max))
        == .badValue(found: "dim of 2147483647", expected: "1 to 131072"))
    #expect(
      try Self.problem(set(2, -1)) == .badValue(found: "n_layers of -1", expected: "1 to 4096"))
    #expect(
      try Self.problem(set(3, 5))
        == .badValue(
          found: "5 heads and 2 key heads for a width of 16",
          expected: "divisors, with heads of even size"))
    #expect(
      try Self.problem(set(5, .min))
        == .badValue(
          found: "vocab_size of -2147483648", expected: "1 to 16777216"))
    #expect(try Self.problem(set(6, 7)) == .truncated(needed: 16_588, available: 16_572))
    #expect(try Self.problem { $0.append(0) } == .unusedBytes(from: 16_572, to: 16_573))
    #expect(
      try Self.problem { $0.removeLast(9) } == .truncated(needed: 16_572, available: 16_563))
  }

  /// Both files of stories260K hold one model, and the sums are those that NumPy gives.
  @Test(.enabled(if: TestData.shared != nil, "\(TestData.sharedHint)"))
  func realFiles() throws {
    let models = try #require(TestData.shared) + "/models/"
    let legacy = try LlamaCFormat.open(models + "stories260k/stories260K.bin")
    let versioned = try LlamaCFormat.open(models + "stories260k/stories260K_v1.bin")
    var tensors: [String: Tensor] = [:]
    for name in legacy.tensorNames { tensors[name] = legacy.tensor(name) }
    #expect(differences(versioned, tensors) == [])
    #expect(tensors.count == 47)
    func sum(_ checkpoint: any Checkpoint) -> Double {
      checkpoint.tensorNames.reduce(0) { total, name in
        total + (checkpoint.tensor(name)?.floats().reduce(0.0) { $0 + Double($1) } ?? 0)
      }
    }
    #expect(abs(sum(legacy) + 14.6914429) < 1e-4)
    let baby = try LlamaCFormat.open(models + "babyllama105/model5000.bin")
    #expect(baby.configuration["vocab_size"]?.integer == 105 && baby.tensorNames.count == 47)
    let ternary = try LlamaCFormat.open(models + "bitllama3m/bit_model_3M.bin")
    #expect(ternary.formatName == "bitllama2.c model, ternary")
    let query = try #require(ternary.tensor("model.layers.0.self_attn.q_proj.weight")?.floats())
    #expect(Set(query) == [0, 2.1178865, -2.1178865])
  }
}

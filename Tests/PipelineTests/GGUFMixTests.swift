import Checkpoints
import Encodings
import JSONDocuments
import TestSupport
import Testing

@testable import Pipeline

/// The types that llama-quantize chose for three models; see Tests/Fixtures/gguf/generate.py.
@Suite struct GGUFMixTests {
  static let parts: [(String, GGUFMix.Part)] = [
    ("token_embd", .embedding), ("output", .output), ("attn_q", .query), ("attn_k", .key),
    ("attn_v", .value), ("attn_output", .attentionOutput), ("ffn_gate", .gate), ("ffn_up", .up),
    ("ffn_down", .down),
  ]

  @Test(arguments: ["deep", "tied", "ragged"]) func typesAreLlamaQuantizes(
    _ model: String
  ) throws {
    let json = try CheckpointFolder.json(at: TestData.fixtures + "/gguf/types.json")
    let options = try #require(json["models"]?[model])
    let layers = try #require(options["layers"]?.integer)
    let width = try #require(options["width"]?.integer)
    let inner = try #require(options["inner"]?.integer)
    let tied = options["tied"] == true
    let shared =
      try #require(options["heads"]?.integer) / (try #require(options["key_heads"]?.integer))
    let cases = try #require(json["types"]?[model]?.object?.members)
    #expect(cases.count > 45)
    for entry in cases {
      let calibrated = entry.key.hasSuffix("+i")
      let name = calibrated ? String(entry.key.dropLast(2)) : entry.key
      let mix = try #require(GGUFMix.named(name), "\(name)")
      for (key, part) in Self.parts {
        guard let expected = entry.value[key]?.string else { continue }
        let found = (0..<(key == "token_embd" || key == "output" ? 1 : layers)).map { layer in
          mix.type(
            .init(
              part: part, layer: layer, layers: layers, queriesPerKey: shared, isTied: tied,
              isCalibrated: calibrated, columns: part == .down ? inner : width)
          ).type.name
        }
        #expect(found.joined(separator: " ") == expected, "\(model) \(entry.key) \(key)")
      }
    }
  }

  @Test func namesAreKnown() {
    for name in GGUFMix.names { #expect(GGUFMix.named(name) != nil) }
    #expect(GGUFMix.named("Q4_K")?.name == "Q4_K_M" && GGUFMix.named("q4_k_m") == nil)
    #expect(GGUFMix.number(mostly: .q4_K) == 15 && GGUFMix.number(mostly: .iq2_xs) == 20)
  }
}

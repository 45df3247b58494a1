import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Vision transformers through the program: from pictures to a bundle.
@Suite struct VisionTransformerTests {
  static let folder = TestData.fixtures + "/vision/"

  @Test(arguments: ["vit", "clip", "vit-pytorch.pt"]) func fromPicturesToABundle(
    _ name: String
  ) throws {
    let work = try TemporaryFolder()
    let model = Self.folder + name, array = work.file("p.npy"), bundle = work.file("b.condensed")
    func run(_ arguments: String...) throws -> String {
      let result = try Command.run(arguments)
      #expect(result.status == 0, "\(arguments): \(result.error)")
      return result.output
    }
    // A state dict has no preparation of its own.
    let preparation = name.hasSuffix(".pt") ? Self.folder + "vit" : model
    _ = try run(
      "prepare-images", TestData.fixtures + "/pictures", "--preparation", preparation, "-o", array)
    _ = try run(
      "quantize", model, work.file("q"), "--encoding", "int8-g16", "--method", "gptq",
      "--calibration", array, "--samples", "7", "--quiet")
    _ = try run("pack", work.file("q"), bundle, "--quiet")
    _ = try run("verify", bundle)
    let drift = try JSONValue(
      parsing: Array(
        try run("eval", bundle, "--reference", model, "--images", array, "--json").utf8))
    #expect(drift["samples"]?.integer == 7)
    let error = try #require(drift["output_error"]?.number)
    #expect(error > 0 && error < 1e-3)
  }
}

/// Models of two towers through the program: an encoding, a calibration and limits for each.
@Suite struct TowerCommandTests {
  static let sentences = [
    "a small dog.", "two cats on a mat", "the sea at night", "9 red cars", "snow",
  ]

  private func run(_ arguments: String..., status: Int32 = 0) throws -> Command.Result {
    let result = try Command.run(arguments)
    #expect(result.status == status, "\(arguments): \(result.error)")
    return result
  }

  @Test(arguments: ["clip", "siglip"]) func eachTowerHasItsOwn(_ name: String) throws {
    let work = try TemporaryFolder(), model = VisionTransformerTests.folder + name
    let array = work.file("p.npy"), text = work.file("t.txt")
    try Self.sentences.joined(separator: "\n").write(
      toFile: text, atomically: true, encoding: .utf8)
    _ = try run(
      "prepare-images", TestData.fixtures + "/pictures", "--preparation", model, "-o", array)
    let recipe = work.file("r.yaml")
    try """
    condense: 1
    model: \(model)
    output: \(work.file("out"))
    towers:
      vision:
        calibration: [\(array)]
        validation: [\(array)]
      text:
        calibration: [\(text)]
        validation: [\(text)]
    stages:
      - quantize:
          name: pictures
          tower: vision
          method: gptq
          encoding: int8-g16
      - quantize:
          name: texts
          tower: text
          method: ec
          encoding: ec
          bits: 5
          gate:
            slices:
              text: {min-cosine: 0.5}
      - pack: {}
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    let planned = try JSONValue(
      parsing: try run("plan", recipe, "--json").output)
    let ran = try run("run", recipe, "--cache", work.file("cache")).output
    // Both kinds of figures, a row a tower.
    for part in ["  vision", "  text", "output error", "cosine"] { #expect(ran.contains(part)) }
    let bundle = work.file("out") + "/\(name).condensed"
    _ = try run("verify", bundle)
    let inspection = try JSONValue(parsing: try run("inspect", bundle, "--json").output)
    #expect(inspection["towers"]?.array?.compactMap(\.string) == ["vision", "text"])
    var encodings: [String: String] = [:]
    for tensor in inspection["tensors"]?.array ?? [] {
      encodings[tensor["name"]?.string ?? ""] = tensor["encoding"]?.string
    }
    let layer = "encoder.layers.0.mlp.fc1.weight"
    #expect(encodings["vision_model." + layer] == "int8-g16")
    #expect(encodings["text_model." + layer]?.hasPrefix("ec-") == true)
    for table in [
      "vision_model.embeddings.patch_embedding.weight",
      "vision_model.embeddings.position_embedding.weight",
      "text_model.embeddings.position_embedding.weight",
    ] { #expect(encodings[table] == "f16", "\(table): \(encodings[table] ?? "none")") }
    #expect(inspection["drift"]?["slices"]?["text"]?["cosine"]?["mean"]?.number != nil)
    #expect(inspection["drift"]?["slices"]?["vision"]?["output_error"]?.number != nil)
    // What plan promises of stages with fixed sizes is what comes.
    let stages = planned["stages"]?.array ?? []
    #expect(stages.count == 3, "\(planned.compactText)")
    // Each tower by itself, and the one that a stage names alone is changed.
    let words = try JSONValue(
      parsing: try run(
        "eval", bundle, "--tower", "text", "--reference", model, "--text", text, "--json"
      ).output)
    #expect(try #require(words["cosine"]?["mean"]?.number) > 0.9)
    #expect(try #require(words["cosine"]?["mean"]?.number) < 1)
    let only = work.file("only")
    _ = try run(
      "quantize", model, only, "--tower", "text", "--method", "rtn", "--encoding", "int4-g16",
      "--quiet")
    let same = try JSONValue(
      parsing: try run(
        "eval", only, "--tower", "vision", "--reference", model, "--images", array, "--json"
      ).output)
    #expect(same["output_error"]?.number == 0)
    let config = try String(contentsOfFile: only + "/config.json", encoding: .utf8)
    #expect(!config.contains("condense_tower"))
  }

  @Test func wrongTowersAreRefused() throws {
    let work = try TemporaryFolder(), folder = VisionTransformerTests.folder
    let unknown = try run(
      "quantize", folder + "clip", work.file("q"), "--tower", "audio", "--encoding", "int8-g16",
      "--method", "rtn", status: 65)
    #expect(unknown.error.contains("one of vision, text"))
    let single = try run(
      "quantize", folder + "vit", work.file("q"), "--tower", "vision", "--encoding", "int8-g16",
      "--method", "rtn", status: 65)
    #expect(single.error.contains("this model is one network"))
    let recipe = work.file("r.yaml")
    try """
    condense: 1
    model: \(folder)clip
    stages:
      - pack: {tower: text}
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    #expect(try run("plan", recipe, status: 78).error.contains("all towers"))
  }
}

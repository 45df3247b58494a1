import Foundation
import TestSupport
import Testing

/// Goals for the whole model, as a user gives them.
@Suite(.serialized) struct GoalTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func quantize(_ output: String, _ options: String...) throws -> Command.Result {
    try Command.run(
      [
        "quantize", Samples.quickstart, folder.file(output), "--calibration", Samples.calibration,
        "--tokens", "4096",
      ] + options)
  }

  private func json(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func drift(_ name: String) throws -> Double {
    let result = try Command.run([
      "eval", folder.file(name), "--reference", Samples.quickstart, "--text", Samples.validation,
      "--windows", "24", "--json",
    ])
    #expect(result.status == 0, "\(result.error)")
    let kl = try json(result.output)["kl"] as? [String: Any]
    return try #require(kl?["mean"] as? Double)
  }

  /// The packed file stays within the budget and near it; shares by sensitivity beat equal rates; the table is kept
  /// and reused.
  @Test func budgetOfTheWholeFile() throws {
    let table = folder.file("s.json"), budget = 2_300_000
    let first = try quantize(
      "q", "--method", "ec", "--budget", "2.3MB", "--sensitivities", table, "--json")
    #expect(first.status == 0, "\(first.error)")
    let packed = try Command.run(["pack", folder.file("q"), folder.file("q.condensed"), "--quiet"])
    #expect(packed.status == 0, "\(packed.error)")
    let size =
      try FileManager.default.attributesOfItem(atPath: folder.file("q.condensed"))[.size] as? Int
      ?? 0
    #expect(size <= budget && size > budget * 99 / 100, "\(size)")
    let allocation = try #require(try json(first.output)["allocation"] as? [String: Any])
    let predicted = try #require(allocation["predicted_drift"] as? Double)
    let measured = try #require(allocation["measured_drift"] as? Double)
    #expect((0.5...2).contains(predicted / measured), "\(predicted) \(measured)")

    // The same mean rate, shared equally.
    let layers = try #require(try json(first.output)["layers"] as? [[String: Any]])
    #expect(layers.count == 43)
    let equal = try quantize(
      "equal", "--method", "ec", "--bits", "3.02", "--rates", "equal", "--quiet")
    #expect(equal.status == 0, "\(equal.error)")
    #expect(try drift("q") < 0.85 * drift("equal"))

    // Reused: nothing is measured again; another model's table is refused.
    let written = try String(contentsOfFile: table, encoding: .utf8)
    let again = try quantize(
      "again", "--method", "ec", "--bits", "4", "--sensitivities", table, "--quiet")
    #expect(again.status == 0, "\(again.error)")
    #expect(try String(contentsOfFile: table, encoding: .utf8) == written)
    let other = try quantize(
      "other", "--method", "gptq", "--encoding", "int3-g64,int4-g64", "--bits", "4",
      "--sensitivities", table)
    #expect(other.status == 65 && other.error.contains("sensitivities of another model"))
  }

  /// A list of encodings: bits are met from below, tied tensors share, and a goal out of reach is said to be.
  @Test func choosesFromAList() throws {
    let result = try quantize(
      "q", "--method", "rtn", "--encoding", "int2-g64,int4-g64,int8-g64", "--bits", "4.5",
      "--tie-groups", "--json")
    #expect(result.status == 0, "\(result.error)")
    let layers = try #require(try json(result.output)["layers"] as? [[String: Any]])
    var names: [String: String] = [:]
    var bits = 0.0, weights = 0.0
    for layer in layers {
      let name = try #require(layer["tensor"] as? String)
      names[name] = layer["encoding"] as? String
      let size =
        name.contains("mlp")
        ? 768.0 * 256 : name.contains("q_") || name.contains("o_") ? 65536 : 32768
      bits += size * (layer["bits_per_weight"] as? Double ?? 0)
      weights += size
    }
    #expect(bits / weights <= 4.5 && bits / weights > 4.4, "\(bits / weights)")
    #expect(Set(names.values).count > 1)
    for layer in 0..<6 {
      let start = "model.layers.\(layer)."
      let tied = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map {
        names[start + $0 + ".weight"]
      }
      #expect(Set(tied).count == 1)
      #expect(names[start + "mlp.gate_proj.weight"] == names[start + "mlp.up_proj.weight"])
    }
    let small = try quantize(
      "x", "--method", "rtn", "--encoding", "int4-g64,int8-g64", "--budget", "3MB")
    #expect(small.status == 1 && small.error.contains("below the"), "\(small.error)")
  }

  @Test func driftOfTheWholeModel() throws {
    let result = try quantize("q", "--method", "ec", "--max-kl", "0.03", "--json")
    #expect(result.status == 0, "\(result.error)")
    let allocation = try #require(try json(result.output)["allocation"] as? [String: Any])
    let measured = try #require(allocation["measured_drift"] as? Double)
    #expect(measured <= 0.03 && measured > 0.024, "\(measured)")
  }

  @Test func anErrorForEachLayer() throws {
    let result = try quantize("q", "--method", "ec", "--max-error", "0.01", "--json")
    #expect(result.status == 0, "\(result.error)")
    for layer in try #require(try json(result.output)["layers"] as? [[String: Any]]) {
      let error =
        layer["relative_output_error"] as? Double ?? layer["relative_weight_error"] as? Double
      #expect(try #require(error) <= 0.0101, "\(layer)")
    }
  }

  @Test func goalsThatMakeNoSense() throws {
    let cases: [([String], Int32, String)] = [
      (["--method", "ec"], 64, "needs a goal"),
      (["--method", "ec", "--bits", "3", "--budget", "2MB"], 64, "exclude each other"),
      (["--method", "ec", "--bits", "9"], 64, "1 to 8"),
      (["--method", "ec", "--budget", "many"], 64, "no size"),
      (["--method", "ec", "--budget", "50kB"], 1, "below the"),
      (["--method", "ec", "--budget", "400kB"], 1, "bytes are left"),
      (["--method", "ec", "--max-kl", "0"], 64, "greater than 0"),
      (["--method", "gptq", "--encoding", "int4-g32", "--bits", "3"], 64, "does nothing"),
      (["--method", "gptq", "--encoding", "int4-g32,int3-g32"], 64, "needs a goal"),
      (["--method", "gptq", "--encoding", "int4-g32,ec", "--bits", "3"], 64, "in a list"),
      (["--method", "ec", "--bits", "3", "--tie-groups"], 64, "does nothing"),
      (["--method", "ec", "--max-error", "0.1", "--rates", "equal"], 64, "does nothing"),
    ]
    for (options, status, words) in cases {
      let result = try Command.run(
        [
          "quantize", Samples.quickstart, folder.file("x"), "--calibration", Samples.calibration,
          "--tokens", "2048",
        ] + options)
      #expect(result.status == status, "\(options) \(result.status) \(result.error)")
      #expect(result.error.contains(words), "\(options): \(result.error)")
      #expect(!Samples.exists(folder.file("x")))
    }
  }

  /// The front of a recipe, and the smallest file within a limit.
  @Test func searchesTheFront() throws {
    let recipe = """
      condense: 1
      model: \(Samples.quickstart)
      calibration: {text: [\(Samples.calibration)], tokens: 4096}
      validation: {text: [\(Samples.validation)], windows: 16}
      stages:
        - quantize: {method: ec, encoding: ec}
      """
    try recipe.write(toFile: folder.file("r.yaml"), atomically: true, encoding: .utf8)
    let result = try Command.run([
      "search", folder.file("r.yaml"), "--max-kl", "0.05", "--cache", folder.file("cache"),
      "--walks", "4", "--output", folder.file("best.condensed"), "--json",
    ])
    #expect(result.status == 0, "\(result.error)")
    let found = try json(result.output)
    let walks = try #require(found["walks"] as? [[String: Any]])
    let best = try #require(found["best"] as? Int)
    let sizes = walks.compactMap { $0["bytes"] as? Int }
    #expect(sizes == sizes.sorted() && sizes.count == walks.count)
    func kl(_ index: Int) throws -> Double {
      let drift = walks[index]["drift"] as? [String: Any]
      return try #require((drift?["kl"] as? [String: Any])?["mean"] as? Double)
    }
    #expect(try kl(best) <= 0.05)
    for smaller in 0..<best { #expect(try kl(smaller) > 0.05) }
    #expect(try Command.run(["verify", folder.file("best.condensed"), "--quiet"]).status == 0)
    let none = try Command.run(["search", folder.file("r.yaml"), "--cache", folder.file("cache")])
    #expect(none.status == 64)
  }
}

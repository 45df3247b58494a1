import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Models without some of their branches as a user makes and uses them.
@Suite struct BranchPruneTests {
  let folder: TemporaryFolder
  let model: String
  let output: String

  init() throws {
    folder = try TemporaryFolder()
    model = folder.file("model")
    output = folder.file("output")
    try Samples.copy(Samples.quickstart, to: model)
  }

  private let text = ["--calibration", Samples.calibration, "--tokens", "4096"]

  /// Every other command takes such a model.
  @Test func singleBranchesGo() throws {
    let result = try Command.run(
      ["prune", model, output, "--branches", "0.25", "--layer-importance", "perplexity", "--json"]
        + text)
    #expect(result.status == 0, "\(result.error)")
    let structure = try #require(try JSONValue(parsing: result.output)["structure"])
    let origins = (structure["layers_from"]?.array ?? []).flatMap { $0.array ?? [] }
    let before = try #require(structure["before"]?["layers"]?.integer)
    #expect(origins.count { !$0.isNull } == 2 * before - (before + 1) / 2)
    let after = structure["after"]
    #expect(
      origins.count { $0.isNull }
        == (after?["without_attention"]?.integer ?? 0) + (after?["without_mlp"]?.integer ?? 0))
    let configuration = try JSONValue(parsing: Array(try Samples.bytes(output + "/config.json")))
    #expect(configuration["layer_branches"]?.array?.count == after?["layers"]?.integer)
    let quantized = folder.file("quantized"), bundle = folder.file("m.condensed")
    for arguments in [
      ["eval", output, "--text", Samples.validation, "--windows", "8"],
      ["generate", output, "--prompt", "The", "--tokens", "8"], ["inspect", output],
      ["quantize", output, quantized, "--encoding", "int4-g32"] + text,
      ["pack", quantized, bundle], ["verify", bundle],
      ["eval", bundle, "--text", Samples.validation, "--windows", "8"],
      ["prune", output, folder.file("thinner"), "--ffn", "0.5"] + text,
    ] {
      let next = try Command.run(arguments)
      #expect(next.status == 0, "\(arguments): \(next.error)")
    }
    // What is encoded cannot be cut.
    let cut = try Command.run(["prune", quantized, folder.file("no"), "--ffn", "0.5"] + text)
    #expect(cut.status == 64 && cut.error.contains("cut first, then quantize"), "\(cut.error)")
    let thin = try Command.run(
      ["prune", quantized, folder.file("no"), "--method", "svd", "--rank-ratio", "0.5"] + text)
    #expect(thin.status == 64 && thin.error.contains("first, then quantize"), "\(thin.error)")
  }

  /// Sizes that the work decides are called estimates, and so is what is made of them.
  @Test(
    arguments: [
      ("branches: 0.25", true), ("target-parameters: 4M", true), ("ffn: 0.5", false),
      ("method: svd, energy: 0.9", true), ("method: svd, rank-ratio: 0.5", false),
    ]
  ) func plansSayWhatTheyKnow(_ options: String, _ isEstimate: Bool) throws {
    let recipe = folder.file("recipe.yaml")
    let lines = [
      "condense: 1", "model: model",
      "calibration: {text: ['\(Samples.calibration)'], tokens: 1024, context: 64}", "stages:",
      "  - prune: {\(options)}", "  - pack: {}", "",
    ]
    try lines.joined(separator: "\n").write(toFile: recipe, atomically: true, encoding: .utf8)
    let plan = try Command.run("plan", recipe, "--json")
    #expect(plan.status == 0, "\(plan.error)")
    let stages = try #require(try JSONValue(parsing: plan.output)["stages"]?.array)
    #expect(stages.count == 2)
    #expect(stages.allSatisfy { ($0["estimate"]?.isNull == false) == isEstimate })
    let lineCount = try Command.run("plan", recipe)
    #expect(lineCount.output.contains("about ") == isEstimate)
  }

  /// A recipe has the key, and the run of what is planned works.
  @Test func aStageOfARecipe() throws {
    let recipe = folder.file("recipe.yaml")
    let lines = [
      "condense: 1", "model: model",
      "calibration: {text: ['\(Samples.calibration)'], tokens: 1024, context: 64}", "stages:",
      "  - prune: {branches: 0.25, layer-importance: perplexity}",
      "  - quantize: {encoding: int4-g32, method: rtn}", "  - pack: {}", "",
    ]
    try lines.joined(separator: "\n").write(toFile: recipe, atomically: true, encoding: .utf8)
    let run = try Command.run(
      "run", recipe, "--output", output, "--cache", folder.file("cache"))
    #expect(run.status == 0, "\(run.error)")
    let inspected = try Command.run("inspect", output + "/model.condensed")
    #expect(inspected.status == 0, "\(inspected.error)")
    // Codes cannot be cut: the plan of stages in the other order says it.
    var turned = lines
    turned.swapAt(4, 5)
    try turned.joined(separator: "\n").write(toFile: recipe, atomically: true, encoding: .utf8)
    let refused = try Command.run("plan", recipe)
    #expect(refused.status == 78 && refused.error.contains("cut first"), "\(refused.error)")
  }
}

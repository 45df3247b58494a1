import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Smaller models and thin matrices as a user asks for them.
@Suite struct StructuredPruneTests {
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

  private func refuses(
    _ arguments: [String], _ part: String, location: SourceLocation = #_sourceLocation
  ) throws {
    let result = try Command.run(["prune", model, output] + arguments)
    #expect(result.status == 64, "\(result.error)", sourceLocation: location)
    #expect(result.error.contains(part), "\(result.error)", sourceLocation: location)
    #expect(!Samples.exists(output), sourceLocation: location)
    #expect(!Samples.exists(output + ".partial"), sourceLocation: location)
  }

  @Test func badGoalsAreRefused() throws {
    for share in ["0", "1", "1.5", "nan"] {
      for axis in ["--heads", "--ffn", "--width", "--layers", "--branches"] {
        try refuses(text + [axis, share], "greater than 0 and less than 1")
      }
    }
    try refuses(text + ["--ffn=-0.5"], "greater than 0 and less than 1")
    try refuses(text + ["--heads", "0.99"], "at least one must stay")
    try refuses(text + ["--layers", "0.99"], "at least one must stay")
    try refuses(text + ["--branches", "0.99"], "at least one must stay")
    try refuses(text + ["--branches", "0.5", "--layers", "0.5"], "exclude each other")
    try refuses(
      text + ["--branches", "0.5", "--importance", "order"], "does nothing for --branches")
    try refuses(["--branches", "0.5"], "needs --calibration")
    try refuses(text + ["--target-parameters", "1T"], "it must be a number")
    try refuses(text + ["--target-parameters", "9G"], "leave nothing to do")
    try refuses(text + ["--target-parameters", "10"], "that stay of this model at least")
    try refuses(text + ["--target-parameters", "1M", "--ffn", "0.5"], "exclude each other")
    try refuses(["--ffn", "0.5"], "needs --calibration")
    try refuses(text + ["--ffn", "0.5", "--sparsity", "0.5"], "--sparsity is for single weights")
    try refuses(text + ["--ffn", "0.5", "--method", "wanda"], "--method is for single weights")
    try refuses(text + ["--sparsity", "0.5", "--importance", "order"], "--importance does nothing")
    try refuses(text + ["--ffn", "0.5", "--layer-importance", "order"], "does nothing without")
    try refuses(text + ["--layers", "0.5", "--importance", "order"], "does nothing for --layers")
    try refuses(text + ["--ffn", "0.5", "--damping", "0"], "--damping must be greater than 0")
    try refuses(text + ["--method", "svd"], "one of energy, rank-ratio and budget")
    try refuses(
      text + ["--method", "svd", "--energy", "0.9", "--rank-ratio", "0.5"],
      "one of energy, rank-ratio and budget")
    try refuses(text + ["--method", "svd", "--energy", "1"], "greater than 0 and less than 1")
    try refuses(["--method", "svd", "--energy", "0.9"], "needs --calibration")
    try refuses(text + ["--energy", "0.9", "--sparsity", "0.5"], "are for --method svd")
    try refuses(
      text + ["--method", "svd", "--energy", "0.9", "--pattern", "2:4"], "--pattern is for single")
  }

  private func configuration() throws -> JSONValue {
    try JSONValue(parsing: Array(try Samples.bytes(output + "/config.json")))
  }

  @Test func theResultIsASmallerModel() throws {
    let before = try JSONValue(parsing: Array(try Samples.bytes(model + "/config.json")))
    let result = try Command.run(
      ["prune", model, output, "--ffn", "0.5", "--json"] + text)
    #expect(result.status == 0, "\(result.error)")
    let structure = try #require(try JSONValue(parsing: result.output)["structure"])
    let inner = try #require(structure["after"]?["ffn"]?.integer)
    #expect(inner < before["intermediate_size"]?.integer ?? 0)
    #expect(try configuration()["intermediate_size"]?.integer == inner)
    #expect(
      structure["after"]?["parameters"]?.integer ?? 0
        < structure["before"]?["parameters"]?.integer ?? 0)
    let score = try Command.run("eval", output, "--text", Samples.validation, "--windows", "8")
    #expect(score.status == 0, "\(score.error)")
  }

  @Test func withoutTextOrFitTheLastChannelsGo() throws {
    let result = try Command.run([
      "prune", model, output, "--ffn", "0.5", "--importance", "order", "--no-repair",
    ])
    #expect(result.status == 0, "\(result.error)")
  }

  @Test func thinMatricesAreStoredWhereTheyAreSmaller() throws {
    let result = try Command.run(
      ["prune", model, output, "--method", "svd", "--rank-ratio", "0.25", "--json"] + text)
    #expect(result.status == 0, "\(result.error)")
    let layers = try #require(try JSONValue(parsing: result.output)["layers"]?.array)
    #expect(layers.contains { $0["encoding"]?.string?.hasPrefix("low-rank-") == true })
    let all = try Samples.bytes(model + "/model.safetensors").count
    #expect(try Samples.bytes(output + "/model.safetensors").count < all)
    let whole = folder.file("whole")
    let most = try Command.run(
      ["prune", model, whole, "--method", "svd", "--rank-ratio", "0.99", "--json"] + text)
    #expect(most.status == 0, "\(most.error)")
    let dense = try #require(try JSONValue(parsing: most.output)["layers"]?.array)
    #expect(dense.allSatisfy { $0["encoding"]?.string?.hasPrefix("low-rank-") == false })
    for path in [output, folder.file("packed.condensed")] {
      if path != output {
        let pack = try Command.run("pack", output, path)
        #expect(pack.status == 0, "\(pack.error)")
      }
      let score = try Command.run("eval", path, "--text", Samples.validation, "--windows", "8")
      #expect(score.status == 0, "\(score.error)")
    }
  }

  /// Ranks by a number of bytes: never more, and nearly as many.
  @Test func ranksOfABudget() throws {
    func bytes(_ path: String) throws -> Int {
      try Samples.bytes(path + "/model.safetensors").count
    }
    let other = folder.file("ratio")
    let ratio = try Command.run(
      ["prune", model, other, "--method", "svd", "--rank-ratio", "0.3"] + text)
    #expect(ratio.status == 0, "\(ratio.error)")
    let budget = try bytes(other)
    let result = try Command.run(
      ["prune", model, output, "--method", "svd", "--budget", "\(budget)", "--json"] + text)
    #expect(result.status == 0, "\(result.error)")
    let own = try bytes(output)
    #expect(own <= budget && Double(own) > 0.97 * Double(budget))
    for (arguments, part) in [
      (["--method", "svd", "--budget", "100"], "every matrix has rank 1"),
      (["--method", "svd", "--budget", "much"], "a number of bytes"),
      (["--method", "svd", "--budget", "9MB", "--energy", "0.5"], "one of energy"),
      (["--method", "wanda", "--sparsity", "0.5", "--budget", "9MB"], "are for --method svd"),
    ] {
      let refused = try Command.run(["prune", model, folder.file("no")] + arguments + text)
      #expect(refused.status == 64 && refused.error.contains(part), "\(refused.error)")
    }
  }
}

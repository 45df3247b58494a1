import Foundation
import JSONDocuments
import TestSupport
import Testing

/// `condense prune` as a user runs it: what is reached, what is refused, and what is left behind.
@Suite struct PruneTests {
  let folder: TemporaryFolder
  let model: String
  let output: String

  init() throws {
    folder = try TemporaryFolder()
    model = folder.file("model")
    output = folder.file("output")
    try Samples.copy(Samples.quickstart, to: model)
  }

  private func prune(_ arguments: String...) throws -> Command.Result {
    try Command.run(["prune", model, output] + arguments)
  }

  private func layers() throws -> [JSONValue] {
    let text = try Samples.bytes(output + "/lineage.json")
    return try JSONValue(parsing: Array(text))["work"]?["layers"]?.array ?? []
  }

  private func refuses(
    _ arguments: [String], status: Int32, _ part: String,
    location: SourceLocation = #_sourceLocation
  ) throws {
    let result = try Command.run(["prune", model, output] + arguments)
    #expect(result.status == status, "\(result.error)", sourceLocation: location)
    #expect(result.error.contains(part), "\(result.error)", sourceLocation: location)
    #expect(!Samples.exists(output), sourceLocation: location)
    #expect(!Samples.exists(output + ".partial"), sourceLocation: location)
  }

  @Test func badGoalsAreRefused() throws {
    let data = ["--method", "magnitude"]
    for sparsity in ["0", "1", "1.5", "nan"] {
      try refuses(data + ["--sparsity", sparsity], status: 64, "greater than 0 and less than 1")
    }
    try refuses(data + ["--sparsity=-0.5"], status: 64, "greater than 0 and less than 1")
    try refuses(data, status: 64, "--sparsity is missing")
    for pattern in ["4:2", "4:4", "0:4", "2of4", "1x1"] {
      try refuses(
        data + ["--sparsity", "0.5", "--pattern", pattern], status: 64, "no pattern of zeros")
    }
    try refuses(data + ["--pattern", "2:4", "--sparsity", "0.6"], status: 64, "contradicts it")
    try refuses(
      data + ["--sparsity", "0.5", "--tensors", "*nothing*=0.6"], status: 64,
      "matches no weight matrix")
    try refuses(
      data + ["--sparsity", "0.5", "--tensors", "*q_proj*=never"], status: 64, "neither a sparsity")
    try refuses(data + ["--sparsity", "0.5", "--tensors", "0.6"], status: 64, "is not NAMES=")
    // No row of the model is a multiple of 7, 11 or 13 at once.
    try refuses(data + ["--pattern", "5:251"], status: 65, "do not divide into 5:251's groups")
    try refuses(
      data + ["--pattern", "2:4", "--allocation", "owl", "--calibration", Samples.calibration],
      status: 64, "same share of every tensor")
    try refuses(
      data + ["--sparsity", "0.5", "--allocation", "measured"], status: 64, "needs --calibration")
    try refuses(["--sparsity", "0.5"], status: 64, "needs --calibration")
    try refuses(
      data + ["--sparsity", "0.5", "--damping", "0.1"], status: 64, "--damping does nothing")
    try refuses(
      [
        "--method", "alps", "--calibration", Samples.calibration, "--sparsity", "0.5",
        "--block-size", "8",
      ],
      status: 64, "--block-size does nothing")
    try refuses(
      data + ["--sparsity", "0.5", "--no-correction"], status: 64, "--correction does nothing")
  }

  @Test func aQuantizedInputIsRefused() throws {
    let quantized = folder.file("quantized")
    #expect(
      try Command.run("quantize", model, quantized, "--method", "rtn", "--encoding", "int4-g32")
        .status == 0)
    let result = try Command.run(
      "prune", quantized, output, "--method", "magnitude", "--sparsity", "0.5")
    #expect(result.status == 64 && result.error.contains("prune first, then quantize"))
  }

  @Test func whatIsAskedIsReached() throws {
    let result = try prune(
      "--pattern", "2:4", "--calibration", Samples.calibration, "--tokens", "2048", "--context",
      "64", "--tensors", "*down_proj*=copy", "*o_proj*=1:4", "--json")
    #expect(result.status == 0, "\(result.error)")
    let layers = try layers()
    #expect(!layers.isEmpty)
    for layer in layers {
      let name = layer["tensor"]?.string ?? ""
      #expect(!name.contains("down_proj"))
      #expect(layer["sparsity"]?.number == (name.contains("o_proj") ? 0.75 : 0.5))
      #expect(layer["zeros"] == layer["zeros_asked"])
      #expect(layer["method"] == "sparsegpt")
    }
    #expect(try JSONValue(parsing: result.output)["layers"]?.array?.count == layers.count)
  }

  /// Tensors share unequally; their sum is exact, and a tensor with a goal of its own keeps it.
  @Test(arguments: ["owl", "measured"]) func sharesAreExactInAll(_ allocation: String) throws {
    let result = try prune(
      "--sparsity", "0.6", "--allocation", allocation, "--calibration", Samples.calibration,
      "--tokens", "1024", "--context", "64", "--method", "wanda", "--tensors", "*v_proj*=0.25")
    #expect(result.status == 0, "\(result.error)")
    var asked = 0, reached = 0, weights = 0.0, different: Set<Double> = []
    for layer in try layers() {
      let zeros = layer["zeros"]?.integer ?? 0, share = layer["sparsity"]?.number ?? 0
      if layer["tensor"]?.string?.contains("v_proj") == true {
        #expect(share == 0.25)
        continue
      }
      let count = (Double(zeros) / share).rounded()
      asked += Int((0.6 * count).rounded())
      reached += zeros
      weights += count
      different.insert(share)
    }
    #expect(asked == reached && weights > 0 && different.count > 3)
  }

  /// Zeros and codes in one pass: every group of four holds two zeros, and a second quantization keeps them.
  @Test func zerosAndCodesInOnePass() throws {
    let calibration = ["--calibration", Samples.calibration, "--tokens", "1024", "--context", "64"]
    let joint = try Command.run(
      ["quantize", model, output, "--method", "gptq", "--encoding", "int4-g32", "--pattern", "2:4"]
        + calibration)
    #expect(joint.status == 0, "\(joint.error)")
    let layers = try layers()
    #expect(!layers.isEmpty)
    for layer in layers {
      #expect(layer["encoding"] == "2:4-int4-g32" && layer["method"] == "gptq")
      #expect((layer["sparsity"]?.number ?? 0) >= 0.5)
      #expect(layer["zeros_asked"]?.integer ?? .max <= layer["zeros"]?.integer ?? 0)
    }
    for (arguments, part) in [
      (["--method", "rtn", "--pattern", "2:4"], "are for --method gptq"),
      (["--method", "gptq", "--pruning", "wanda"], "--pruning does nothing"),
      (["--method", "gptq", "--pattern", "2:4", "--keep-zeros"], "--keep-zeros does nothing"),
      (["--method", "gptq", "--sparsity", "1"], "greater than 0 and less than 1"),
    ] {
      let result = try Command.run(
        ["quantize", model, folder.file("other"), "--encoding", "int4-g32"] + arguments
          + (arguments[1] == "rtn" ? [] : calibration))
      #expect(result.status == 64 && result.error.contains(part), "\(result.error)")
    }
    let blocks = try Command.run(
      [
        "quantize", model, folder.file("other"), "--encoding", "*down_proj*=Q4_0", "--method",
        "gptq", "--encoding", "int4-g32", "--sparsity", "0.5",
      ] + calibration)
    #expect(blocks.status == 65 && blocks.error.contains("cannot keep zeros"), "\(blocks.error)")
  }

  /// What was pruned stays pruned when it is quantized; without that, error feedback fills the zeros.
  @Test func quantizingKeepsWhatWasPruned() throws {
    let calibration = ["--calibration", Samples.calibration, "--tokens", "1024", "--context", "64"]
    #expect(try prune("--method", "magnitude", "--sparsity", "0.5").status == 0)
    for (name, flag) in [("kept", []), ("filled", ["--no-keep-zeros"])] {
      let quantized = folder.file(name)
      let result = try Command.run(
        ["quantize", output, quantized, "--encoding", "int4-g32"] + flag + calibration)
      #expect(result.status == 0, "\(result.error)")
      let lineage = try JSONValue(parsing: Array(try Samples.bytes(quantized + "/lineage.json")))
      for layer in lineage["work"]?["layers"]?.array ?? [] {
        let asked = layer["zeros_asked"]?.integer ?? 0, reached = layer["zeros"]?.integer ?? 0
        #expect(asked > 0 && (reached >= asked) == flag.isEmpty)
      }
    }
  }

  /// Stages of a recipe: what is planned is what is written, to the byte, and the report tells the zeros.
  @Test(arguments: [
    "  - prune: {pattern: '2:4', method: wanda}\n  - quantize: {encoding: int4-g128}\n",
    "  - quantize: {encoding: int4-g128, pattern: '2:4', pruning: sparsegpt}\n",
  ]) func stagesOfARecipe(_ stages: String) throws {
    let recipe = folder.file("recipe.yaml")
    let text =
      "condense: 1\nmodel: model\ncalibration:\n  text: ['\(Samples.calibration)']\n  tokens: 1024\n"
      + "  context: 64\nstages:\n" + stages + "  - pack: {}\n"
    try text.write(toFile: recipe, atomically: true, encoding: .utf8)
    let plan = try Command.run("plan", recipe, "--json")
    #expect(plan.status == 0, "\(plan.error)")
    let bytes = try JSONValue(parsing: plan.output)["stages"]?.array?.last?["bytes"]?.integer
    let run = try Command.run(
      "run", recipe, "--output", output, "--cache", folder.file("cache"))
    #expect(run.status == 0, "\(run.error)")
    #expect(try Samples.bytes(output + "/model.condensed").count == bytes)
    let report = try JSONValue(parsing: Array(try Samples.bytes(output + "/drift.json")))
    let layers = report["stages"]?.array?.first?["layers"]?.array ?? []
    #expect(!layers.isEmpty && layers.allSatisfy { ($0["sparsity"]?.number ?? 0) >= 0.5 })
  }

  /// A second stage with a smaller goal leaves the zeros that it finds, and says so.
  @Test func whatIsZeroStaysZero() throws {
    #expect(try prune("--method", "magnitude", "--sparsity", "0.6").status == 0)
    let second = folder.file("second")
    let result = try Command.run(
      "prune", output, second, "--method", "magnitude", "--sparsity", "0.5")
    #expect(result.status == 0 && result.output.contains("were more before"))
    #expect(try Samples.bytes(second + "/model.safetensors").count > 0)
    let diff = try Command.run("diff", output, second)
    #expect(diff.status == 0, "\(diff.output)\(diff.error)")
  }

  /// Interrupted after some layers, the same command goes on and ends in the same bytes.
  @Test func sameBytesOnEveryRunAndThreadCount() throws {
    let arguments = [
      "--pattern", "1x16", "--sparsity", "0.4", "--calibration", Samples.calibration, "--tokens",
      "1024", "--context", "64",
    ]
    #expect(try Command.run(["prune", model, output] + arguments).status == 0)
    let again = folder.file("again")
    #expect(
      try Command.run(["prune", model, again] + arguments + ["--threads", "1"]).status == 0)
    #expect(
      try Samples.bytes(output + "/model.safetensors")
        == Samples.bytes(
          again + "/model.safetensors"
        ))
    #expect(
      try Samples.bytes(output + "/lineage.json") == Samples.bytes(again + "/lineage.json"))
  }
}

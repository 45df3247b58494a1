import Foundation
import JSONDocuments
import TestSupport
import Testing

/// `condense distill` as a user runs it, on the quickstart model cut to three layers.
@Suite(.serialized) struct DistillTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try Samples.excerpt(of: Samples.calibration, bytes: 40_000, to: folder.file("text.txt"))
  }

  private func run(_ arguments: String...) throws -> Command.Result { try Command.run(arguments) }

  /// A teacher log of the text.
  private func log(context: Int = 32) throws -> String {
    let path = folder.file("log.h5")
    let result = try run(
      "teacher-log", Samples.quickstart, path, "--text", folder.file("text.txt"), "--context",
      "\(context)", "--tokens", "4096")
    try #require(result.status == 0, "\(result.error)")
    return path
  }

  /// A configuration of the quickstart model with fewer layers.
  private func studentConfiguration(layers: Int) throws -> String {
    let path = folder.file("student.json")
    let text = try String(contentsOfFile: Samples.quickstart + "/config.json", encoding: .utf8)
    try text.replacing("\"num_hidden_layers\": 6", with: "\"num_hidden_layers\": \(layers)")
      .write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  private func arguments(_ log: String, _ output: String, threads: Int = 2) throws -> [String] {
    [
      "distill", Samples.quickstart, output, "--logs", log, "--student-config",
      try studentConfiguration(layers: 3), "--tokens", "3000", "--batch", "4", "--validations",
      "6", "--validation-windows", "8", "--threads", "\(threads)",
    ]
  }

  @Test func aSmallerStudentLearnsFromALog() throws {
    let log = try log(), output = folder.file("student")
    let result = try Command.run(
      try arguments(log, output) + [
        "--json", "--validation", folder.file("text.txt"), "--teacher", Samples.quickstart,
        "--curve", folder.file("curve.csv"), "--tensorboard", folder.file("events"),
      ])
    try #require(result.status == 0, "\(result.error)")
    let json = try JSONValue(parsing: result.output)
    let training = try #require(json["training"])
    let first = try #require(training["input"]?["divergence"]?.number)
    let best = try #require(training["best"]?["divergence"]?.number)
    #expect(best < 0.9 * first, "\(first) \(best)")
    let curve = try #require(training["curve"]?.array)
    #expect(curve.count { $0["validation"] != nil } == 6)
    // The folder is an ordinary smaller checkpoint with its curve beside the lineage.
    let config = try JSONValue(
      parsing: try String(contentsOfFile: output + "/config.json", encoding: .utf8))
    #expect(config["num_hidden_layers"] == 3)
    #expect(Samples.exists(output + "/training.json") && Samples.exists(output + "/drift.json"))
    let lineage = try JSONValue(
      parsing: try String(contentsOfFile: output + "/lineage.json", encoding: .utf8))
    #expect(lineage["stage"] == "distill" && lineage["work"]?["training"]?["curve"] == nil)
    // The table has a line a point, and the event file starts with a record of 24 bytes or more.
    let table = try String(contentsOfFile: folder.file("curve.csv"), encoding: .utf8)
    #expect(table.split(separator: "\n").count == curve.count + 1)
    let events = try FileManager.default.contentsOfDirectory(atPath: folder.file("events"))
    #expect(events.count == 1 && events[0].hasPrefix("events.out.tfevents."))
    // It goes on to the stages behind it.
    let packed = try run("pack", output, folder.file("student.condensed"))
    #expect(packed.status == 0, "\(packed.error)")
    #expect(try run("verify", folder.file("student.condensed")).status == 0)
  }

  @Test func tenKillsAndAnyThreadsGiveTheSameBytes() throws {
    let log = try log()
    let clock = ContinuousClock()
    var seconds = 0.0
    seconds =
      try clock.measure {
        let result = try Command.run(try arguments(log, folder.file("whole"), threads: 1))
        #expect(result.status == 0, "\(result.error)")
      } / .seconds(1)
    let names = ["model.safetensors", "lineage.json", "training.json"]
    let expected = try names.map { try Samples.bytes(folder.file("whole/" + $0)) }
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<10 {
      let process = try Command.start(try arguments(log, folder.file("killed")))
      Thread.sleep(forTimeInterval: Double.random(in: 0...seconds, using: &generator))
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    if !Samples.exists(folder.file("killed")) || Samples.exists(folder.file("killed.partial")) {
      let last = try Command.run(try arguments(log, folder.file("killed")))
      #expect(last.status == 0, "\(last.error)")
    }
    #expect(try names.map { try Samples.bytes(folder.file("killed/" + $0)) } == expected)
    #expect(!Samples.exists(folder.file("killed.partial")))
  }

  /// Grids alone change under `scales`; under `quantized` the codes do too. Both come nearer to the teacher.
  @Test func codesAndGrids() throws {
    let log = try log(), input = folder.file("q2")
    let quantized = try run(
      "quantize", Samples.quickstart, input, "--method", "rtn", "--encoding", "int2-g64")
    try #require(quantized.status == 0, "\(quantized.error)")
    for (train, rate) in [("scales", "0.005"), ("quantized", "0.0003")] {
      let output = folder.file(train)
      let result = try run(
        "distill", input, output, "--logs", log, "--train", train, "--tokens", "3000", "--batch",
        "4", "--validations", "3", "--validation-windows", "8", "--learning-rate", rate,
        "--json")
      try #require(result.status == 0, "\(result.error)")
      let training = try JSONValue(parsing: result.output)["training"]
      let first = try #require(training?["input"]?["divergence"]?.number)
      let best = try #require(training?["best"]?["divergence"]?.number)
      #expect(best < first)
      let inspected = try JSONValue(parsing: try run("inspect", output, "--json").output)
      let encodings = inspected["tensors"]?.array?.compactMap { $0["encoding"]?.string } ?? []
      #expect(encodings.count { $0 == "int2-g64" } == 42)
      #expect(try run("eval", output, "--text", Samples.validation, "--windows", "1").status == 0)
    }
    let methods = try String(contentsOfFile: folder.file("scales/lineage.json"), encoding: .utf8)
    #expect(methods.contains("distill-scales"))
  }

  @Test func blocksOneByOne() throws {
    let input = folder.file("q2")
    _ = try run("quantize", Samples.quickstart, input, "--method", "rtn", "--encoding", "int2-g64")
    let result = try run(
      "distill", input, folder.file("blocks"), "--teacher", Samples.quickstart, "--text",
      folder.file("text.txt"), "--train", "scales", "--blockwise", "--block-tokens", "512",
      "--passes", "1", "--context", "32", "--learning-rate", "0.002", "--json")
    try #require(result.status == 0, "\(result.error)")
    let blocks = try #require(try JSONValue(parsing: result.output)["blocks"]?.array)
    #expect(blocks.count == 6)
    for block in blocks {
      let before = try #require(block["error_before"]?.number)
      let after = try #require(block["error_after"]?.number)
      #expect(after <= before)
    }
  }

  @Test func aRecipeWritesWhatItPlans() throws {
    let log = try log(), recipe = folder.file("recipe.yaml")
    try """
    condense: 1
    model: \(Samples.quickstart)
    validation: {text: [text.txt], context: 32, windows: 4}
    stages:
      - quantize: {method: rtn, encoding: int4-g32}
      - distill: {logs: [\(log)], train: scales, tokens: "2000", batch: 4, validation-windows: 8, learning-rate: 0.001}
      - pack: {}
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    let plan = try run("plan", recipe, "--json")
    try #require(plan.status == 0, "\(plan.error)")
    let planned = try JSONValue(parsing: plan.output)["stages"]?.array?.last?["bytes"]?.integer
    let result = try run(
      "run", recipe, "--output", folder.file("out"), "--cache", folder.file("cache"))
    try #require(result.status == 0, "\(result.error)")
    let bundle = folder.file("out/quickstart.condensed")
    #expect(try Samples.bytes(bundle).count == planned)
    let page = try String(contentsOfFile: folder.file("out/report.html"), encoding: .utf8)
    #expect(page.contains("Loss curve") && page.contains("<polyline"))
  }

  @Test func refusals() throws {
    let log = try log(), output = folder.file("refused")
    func check(_ status: Int32, _ words: String, _ arguments: String...) throws {
      let result = try Command.run(["distill", Samples.quickstart, output] + arguments)
      #expect(result.status == status, "\(arguments): \(result.error)")
      #expect(result.error.contains(words), "\(arguments): \(result.error)")
      #expect(!Samples.exists(output) && !Samples.exists(output + ".partial"))
    }
    try check(64, "give --logs", "--tokens", "1000")
    try check(64, "exclude each other", "--logs", log, "--text", folder.file("text.txt"))
    try check(64, "a teacher log", "--text", folder.file("text.txt"), "--targets", "samples")
    try check(64, "--temperature is 0.0", "--logs", log, "--temperature", "0")
    try check(64, "--rank and --alpha", "--logs", log, "--rank", "4")
    try check(64, "cannot be trained", "--logs", log, "--train", "quantized", "--encoding", "ec")
    try check(65, "no weight of the student is in codes", "--logs", log, "--train", "scales")
    try check(66, "nowhere.h5", "--logs", folder.file("nowhere.h5"))
    try check(
      65, "windows are too few", "--logs", log, "--validation-windows", "127", "--batch", "8")
    // Steps too small to change a float: the input stays the best, and nothing is written.
    try check(
      1, "did not improve", "--logs", log, "--tokens", "300", "--batch", "2",
      "--learning-rate", "1e-30", "--validation-windows", "2")
    var bytes = try Samples.bytes(log)
    bytes.removeLast(bytes.count / 2)
    try bytes.write(to: URL(filePath: folder.file("half.h5")))
    try check(65, "half.h5", "--logs", folder.file("half.h5"))
    try Data().write(to: URL(filePath: folder.file("empty.h5")))
    try check(65, "empty.h5", "--logs", folder.file("empty.h5"))
  }
}

import Foundation
import TestSupport
import Testing

/// The same work gives the same bytes: with any number of threads, and after any interruption.
@Suite(.serialized) struct SamenessTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// A recipe on the quickstart model with little text, so that a run takes seconds.
  private func recipe() throws -> String {
    try Samples.excerpt(of: Samples.calibration, bytes: 60_000, to: folder.file("calibration.txt"))
    try Samples.excerpt(of: Samples.validation, bytes: 10_000, to: folder.file("validation.txt"))
    let path = folder.file("recipe.yaml")
    try """
    condense: 1
    model: \(Samples.quickstart)
    calibration: {text: [calibration.txt], tokens: 8192}
    validation: {text: [validation.txt]}
    stages:
      - quantize: {encoding: int3-g64, overrides: {lm_head: int6-g32}}
      - pack: {}
    """.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  private func arguments(_ recipe: String, _ name: String, threads: Int) -> [String] {
    [
      "run", recipe, "--output", folder.file(name), "--cache", folder.file(name + "-cache"),
      "--threads", "\(threads)",
    ]
  }

  private func bundle(_ name: String) throws -> Data {
    try Samples.bytes(folder.file(name) + "/quickstart.condensed")
  }

  @Test func oneAndTwoThreadsAndTenKillsGiveTheSameBytes() throws {
    let recipe = try recipe()
    let clock = ContinuousClock()
    var seconds = 0.0
    var result = Command.Result(status: -1, output: "", error: "")
    seconds =
      try clock.measure {
        result = try Command.run(arguments(recipe, "one", threads: 1))
      } / .seconds(1)
    #expect(result.status == 0, "\(result.error)")
    let expected = try bundle("one")

    #expect(try Command.run(arguments(recipe, "two", threads: 2)).status == 0)
    #expect(try bundle("two") == expected)

    // Killed at ten moments spread over the run, each time followed by the same command.
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<10 {
      let process = try Command.start(arguments(recipe, "killed", threads: 2))
      let delay = Double.random(in: 0...seconds, using: &generator)
      Thread.sleep(forTimeInterval: delay)
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    let last = try Command.run(arguments(recipe, "killed", threads: 2))
    #expect(last.status == 0, "\(last.error)")
    #expect(try bundle("killed") == expected)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.file("killed"))
    #expect(!names.contains { $0.hasSuffix(".partial") || $0.hasSuffix(".unproved") })
  }

  @Test func anInterruptIsStatus75AndTheSameCommandGoesOn() throws {
    let output = folder.file("q")
    let arguments = [
      "quantize", Samples.quickstart, output, "--encoding", "int4-g32", "--calibration",
      Samples.calibration, "--tokens", "16384",
    ]
    let process = try Command.start(arguments)
    // Interrupted as soon as the first layer is finished.
    let layer = output + ".partial/layers/000000.safetensors"
    while process.isRunning, !Samples.exists(layer) { Thread.sleep(forTimeInterval: 0.01) }
    kill(process.processIdentifier, SIGINT)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 75)
    #expect(!Samples.exists(output))
    let again = try Command.run(arguments)
    #expect(again.status == 0, "\(again.error)")
    #expect(again.output.contains("were finished by an earlier run"))
    #expect(!Samples.exists(output + ".partial"))
  }

  @Test func theWrittenSizeEqualsThePlan() throws {
    let recipe = try recipe()
    let plan = try Command.run("plan", recipe, "--json")
    #expect(plan.status == 0, "\(plan.error)")
    #expect(try Command.run(arguments(recipe, "planned", threads: 2)).status == 0)
    let size = try bundle("planned").count
    #expect(plan.output.contains("\"bytes\": \(size)"))
  }

  @Test func aBundlesLogitsAreThoseOfItsFolder() throws {
    try Samples.excerpt(of: Samples.validation, bytes: 10_000, to: folder.file("validation.txt"))
    let quantized = folder.file("q"), packed = folder.file("q.condensed")
    #expect(
      try Command.run(
        "quantize", Samples.quickstart, quantized, "--method", "rtn", "--encoding", "int4-g32"
      ).status == 0)
    #expect(try Command.run("pack", quantized, packed).status == 0)
    let eval = try Command.run(
      "eval", packed, "--reference", quantized, "--text", folder.file("validation.txt"), "--json")
    // Bit for bit: not one token has any divergence.
    #expect(eval.output.contains("\"max\": 0.0"), "\(eval.output)\(eval.error)")
    #expect(eval.output.contains("\"perplexity_ratio\": 1.0"))
    #expect(try Command.run("verify", packed).status == 0)
    var bytes = try Samples.bytes(packed)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: URL(filePath: packed))
    let verify = try Command.run("verify", packed)
    #expect(verify.status == 1)
    #expect(verify.error.contains("SHA-256"))
  }

  @Test func gatesDecideTheStatus() throws {
    let recipe = try recipe()
    let text = try String(contentsOfFile: recipe, encoding: .utf8)
    for (gate, status) in [
      ("gate: {max-kl: 0.000001}", 1), ("gate: {max-kl: 10}", 0), ("gate: {min-top1: 0.99999}", 1),
    ] as [(String, Int32)] {
      try text.replacingOccurrences(of: "overrides:", with: gate + ", overrides:")
        .write(toFile: recipe, atomically: true, encoding: .utf8)
      let name = "gate-\(status)-\(gate.count)"
      let result = try Command.run(
        "run", recipe, "--output", folder.file(name), "--cache", folder.file("gate-cache"))
      #expect(result.status == status, "\(result.error)")
      #expect(Samples.exists(folder.file(name) + "/report.html"))
      #expect(Samples.exists(folder.file(name) + "/quickstart.condensed") == (status == 0))
    }
  }

  @Test func theResolvedRecipeRunsAgain() throws {
    let recipe = try recipe()
    #expect(try Command.run(arguments(recipe, "first", threads: 2)).status == 0)
    let again = try Command.run(
      "run", folder.file("first") + "/recipe.resolved.yaml", "--output", folder.file("again"),
      "--cache", folder.file("first-cache"))
    #expect(again.status == 0, "\(again.error)")
    #expect(again.output.contains("reused"))
    #expect(try bundle("again") == bundle("first"))
  }
}

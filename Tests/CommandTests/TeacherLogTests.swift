import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Teacher logs through the program.
@Suite(.serialized) struct TeacherLogCommandTests {
  let folder: TemporaryFolder
  let text: String

  init() throws {
    folder = try TemporaryFolder()
    text = folder.file("text.txt")
    try Samples.excerpt(of: Samples.calibration, bytes: 60_000, to: text)
  }

  private func log(_ name: String, _ more: String...) -> [String] {
    ["teacher-log", Samples.quickstart, folder.file(name), "--text", text] + more
  }

  private func json(_ arguments: [String]) throws -> JSONValue {
    let result = try Command.run(arguments + ["--json"])
    #expect(result.status == 0, "\(result.error)")
    return try JSONValue(parsing: result.output)
  }

  /// One thread, two threads and a run that was killed at several moments: the same file.
  @Test func threadsAndKillsGiveTheSameBytes() throws {
    let clock = ContinuousClock(), started = clock.now
    let first = try Command.run(log("one.h5", "--threads", "1"))
    #expect(first.status == 0, "\(first.error)")
    let seconds = (clock.now - started) / .seconds(1)
    let expected = try Samples.bytes(folder.file("one.h5"))
    #expect(try Command.run(log("two.h5", "--threads", "2")).status == 0)
    #expect(try Samples.bytes(folder.file("two.h5")) == expected)
    for _ in 0..<5 {
      let process = try Command.start(log("killed.h5", "--threads", "2"))
      Thread.sleep(forTimeInterval: Double.random(in: 0...seconds))
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    let last = try Command.run(log("killed.h5", "--threads", "2"))
    // The last kill may have come after the end.
    #expect(last.status == 0 || last.status == 73, "\(last.error)")
    #expect(try Samples.bytes(folder.file("killed.h5")) == expected)
    #expect(!Samples.exists(folder.file("killed.h5.partial")))
    let other = try Command.run(log("seed.h5", "--seed", "1"))
    #expect(other.status == 0)
    #expect(try Samples.bytes(folder.file("seed.h5")) != expected)
  }

  /// What inspect and eval say of a log: the teacher itself has no drift from it.
  @Test func inspectAndEval() throws {
    let written = try json(log("l.h5", "--tokens", "8192", "--hidden-layers", "0,3"))
    #expect(written["tokens"]?.integer == 8192)
    #expect(written["rows"]?.integer == 8192 - 32)
    #expect((written["column_bytes_per_token"]?.number ?? 0) > 1000)
    let inspected = try json(["inspect", folder.file("l.h5")])
    for key in ["tokens", "windows", "order_sha256", "hidden_layers", "top_k", "vocabulary"] {
      #expect(inspected[key] != nil && inspected[key] == written[key], "\(key)")
    }
    let drift = try json(["eval", Samples.quickstart, "--teacher-log", folder.file("l.h5")])
    #expect(drift["tokens"]?.integer == 8160)
    #expect(drift["top1"]?.number == 1)
    #expect(abs((drift["perplexity_ratio"]?.number ?? 0) - 1) < 1e-3)
    #expect((drift["kl_lower_bound"]?["mean"]?.number ?? 1) < 1e-5)
    #expect(abs(drift["kl"]?["mean"]?.number ?? 1) < 0.01)
    let plain = try json(["eval", Samples.quickstart, "--text", text, "--windows", "32"])
    let perplexities = [plain, drift].map { $0["perplexity"]?.number ?? 0 }
    #expect(abs(perplexities[0] - perplexities[1]) < 1e-9 * perplexities[0])
  }

  /// Bytes of a row. The text is the model's own, which is harder to deflate than books: 45 bytes there.
  @Test func sizes() throws {
    let written = try json(log("l.h5"))
    #expect((written["column_bytes_per_token"]?.number ?? 100) <= 90)
    #expect((written["bytes_per_token"]?.number ?? 100) <= 52)
  }

  @Test func badInput() throws {
    let output = folder.file("bad.h5")
    func expect(_ status: Int32, _ words: String, _ arguments: [String]) throws {
      let result = try Command.run(arguments)
      #expect(result.status == status && result.error.contains(words), "\(result.error)")
      #expect(!Samples.exists(output) && !Samples.exists(output + ".partial"))
    }
    try expect(64, "--text FILE is missing", ["teacher-log", Samples.quickstart, output])
    try expect(
      65, "expected 0 (the embedding) to 6",
      ["teacher-log", Samples.quickstart, output, "--text", text, "--hidden-layers", "7"])
    try expect(
      66, "absent.txt",
      ["teacher-log", Samples.quickstart, output, "--text", folder.file("absent.txt")])
    #expect(try Command.run(log("l.h5", "--tokens", "2048")).status == 0)
    try expect(73, "exists already", log("l.h5"))
    // A log of another vocabulary, a damaged one, a text.
    let other = TestData.fixtures + "/families/llama"
    try expect(
      65, "'vocabulary': found 4096", ["eval", other, "--teacher-log", folder.file("l.h5")])
    var bytes = try Samples.bytes(folder.file("l.h5"))
    try bytes.prefix(bytes.count / 2).write(to: URL(filePath: folder.file("half.h5")))
    try expect(
      65, "truncated", ["eval", Samples.quickstart, "--teacher-log", folder.file("half.h5")])
    bytes.replaceSubrange(20_000..<20_400, with: Data(repeating: 0x5A, count: 400))
    try bytes.write(to: URL(filePath: folder.file("hurt.h5")))
    try expect(
      65, "hurt.h5", ["eval", Samples.quickstart, "--teacher-log", folder.file("hurt.h5")])
    try expect(65, "text.txt", ["eval", Samples.quickstart, "--teacher-log", text])
    try expect(
      64, "leave out --text",
      ["eval", Samples.quickstart, "--text", text, "--teacher-log", folder.file("l.h5")])
  }

  /// An endpoint where nobody listens: one line, status 74, nothing left but what may be resumed.
  @Test func collectWithoutAServer() throws {
    let result = try Command.run(
      "collect", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--prompts", text,
      folder.file("a.jsonl"), "--attempts", "1", "--timeout", "2", "--overall-timeout", "20")
    #expect(result.status == 74, "\(result.error)")
    #expect(result.error.split(separator: "\n").count == 1)
    #expect(result.error.contains("requests failed"))
    #expect(!Samples.exists(folder.file("a.jsonl")))
  }
}

import Checkpoints
import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// Collecting from servers that misbehave: everything comes once, in the prompts' order, in bounded time.
@Suite(.serialized) struct CollectTests {
  let folder: TemporaryFolder
  let output: String

  init() throws {
    folder = try TemporaryFolder()
    output = folder.file("log.jsonl")
  }

  /// A completion that says the prompt again.
  private static func echo(_ request: LoopbackServer.Request) -> String {
    let json = try? JSONValue(parsing: request.body)
    let prompt = json?["messages"]?.array?.first?["content"]?.string ?? "?"
    let body: JSONValue = [
      "model": "m",
      "choices": [["index": 0, "message": ["role": "assistant", "content": .string(prompt)]]],
    ]
    return body.compactText
  }

  private func request(_ server: LoopbackServer, prompts: Int) throws -> CollectRequest {
    let path = folder.file("prompts.txt")
    try OutputFile.write(
      (0..<prompts).map { "prompt \($0)\n" }.joined(), to: path)
    var request = CollectRequest(endpoint: server.url, model: "m", prompts: path)
    request.timeout = 1
    return request
  }

  private static let fast = RetryPolicy(attempts: 4, base: 0.02, longest: 3)

  /// The contents of the answers in the output.
  private func answers() throws -> [String] {
    try String(contentsOfFile: output, encoding: .utf8).split(separator: "\n").map { line in
      let json = try JSONValue(parsing: String(line))
      return json["response"]?["body"]?["choices"]?.array?.first?["message"]?["content"]?.string
        ?? "none"
    }
  }

  /// Each misbehaviour on the first requests, then a server that answers.
  @Test(arguments: [
    "429", "429 with a date", "500", "503", "cut in the head", "cut in the body", "wrong JSON",
    "no choices", "an error with status 200", "slow", "never", "refused connection",
  ]) func recovers(_ how: String) throws {
    let server = try LoopbackServer { number, request in
      let good = Self.echo(request)
      guard number < 3 else { return .answer(200, good) }
      switch how {
      case "429": return .answer(429, fields: ["Retry-After": "1"], "{}")
      case "429 with a date":
        return .answer(429, fields: ["Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"], "{}")
      case "500": return .answer(500, "<html>")
      case "503": return .answer(503, "")
      case "cut in the head": return .cut(good, after: 9)
      case "cut in the body": return .cut(good, after: 90)
      case "wrong JSON": return .answer(200, "{\"choices\": [")
      case "no choices": return .answer(200, "{}")
      case "an error with status 200": return .answer(200, #"{"error": {"message": "busy"}}"#)
      case "slow": return .slow(good, step: 1, seconds: 0.1)
      case "never": return .never
      default: return .cut("", after: 0)
      }
    }
    defer { server.stop() }
    let started = ContinuousClock.now
    let report = try CollectRun(try request(server, prompts: 6), policy: Self.fast).run(
      output: output, force: false)
    #expect(ContinuousClock.now - started < .seconds(30))
    #expect(try answers() == (0..<6).map { "prompt \($0)" })
    #expect(report.requests == 6 && report.found == 0 && report.retries >= 3)
    #expect(try FilePath.names(in: folder.path) == ["log.jsonl", "prompts.txt"])
    if how == "429" {
      // No request in the second that the server asked for.
      let moments = server.requests.map(\.moment)
      let pauses = zip(moments, moments.dropFirst()).map { $1 - $0 }
      #expect(pauses.contains { $0 > 0.9 }, "\(pauses)")
    }
  }

  /// A server that never answers: an error in bounded time, and nothing under the output's name.
  @Test func neverAnswers() throws {
    let server = try LoopbackServer { _, _ in .never }
    defer { server.stop() }
    var request = try request(server, prompts: 2)
    request.timeout = 0.3
    let started = ContinuousClock.now
    let run = try CollectRun(
      request, policy: RetryPolicy(attempts: 2, base: 0.02, longest: 1))
    #expect(
      throws: CollectError.gaveUp(failed: 2, of: 2, last: "no answer within 0.3 s")
    ) { try run.run(output: output, force: false) }
    request.overallTimeout = 0.5
    request.timeout = 100
    let bounded = try CollectRun(request, policy: Self.fast)
    #expect(throws: CollectError.outOfTime(missing: 2, of: 2)) {
      try bounded.run(output: output, force: false)
    }
    #expect(ContinuousClock.now - started < .seconds(15))
    #expect(FilePath.kind(of: output) == nil)
  }

  /// What an earlier run got is not asked for again; a line that a crash cut off is.
  @Test func resumesWithoutDuplicates() throws {
    let server = try LoopbackServer { number, request in
      number < 5 ? .answer(200, Self.echo(request)) : .answer(400, #"{"error":{"message":"no"}}"#)
    }
    var first = try request(server, prompts: 12)
    first.concurrency = 1
    #expect(throws: CollectError.gaveUp(failed: 7, of: 12, last: "status 400: no")) {
      try CollectRun(first, policy: Self.fast).run(output: output, force: false)
    }
    server.stop()
    let work = output + ".collecting"
    let lines = try FilePath.read(work)
    try OutputFile.write(Array(lines.dropLast(10)), to: work)

    let second = try LoopbackServer { _, request in .answer(200, Self.echo(request)) }
    defer { second.stop() }
    var again = try request(second, prompts: 12)
    again.concurrency = 3
    let report = try CollectRun(again, policy: Self.fast).run(output: output, force: false)
    #expect(report.found == 4 && second.requests.count == 8)
    #expect(try answers() == (0..<12).map { "prompt \($0)" })
    #expect(Set(second.requests.map(\.body)).count == 8)
    // Finished: nothing is asked at all, and more prompts ask for those alone.
    #expect(try CollectRun(again, policy: Self.fast).run(output: output, force: false).found == 12)
    #expect(second.requests.count == 8)
  }

  /// The key goes into the head of requests, and nowhere else, even when the server repeats it.
  @Test func theKeyIsWrittenNowhere() throws {
    let key = "secret-\(getpid())-key"
    setenv("CONDENSE_TEST_KEY", key, 1)
    defer { unsetenv("CONDENSE_TEST_KEY") }
    let server = try LoopbackServer { number, request in
      let sent = request.head.contains("Authorization: Bearer " + key)
      return number == 0
        ? .answer(500, #"{"error":{"message":"your key \#(key)"}}"#)
        : .answer(
          200,
          #"{"choices":[{"message":{"content":"\#(sent) \#(key)"}}],"key":"\#(key)"}"#)
    }
    defer { server.stop() }
    var request = try request(server, prompts: 1)
    request.keyVariable = "CONDENSE_TEST_KEY"
    _ = try CollectRun(request, policy: Self.fast).run(output: output, force: false)
    #expect(try answers() == ["true [key]"])
    #expect(!String(decoding: try FilePath.read(output), as: UTF8.self).contains(key))
    let refusing = try LoopbackServer { _, _ in
      .answer(401, #"{"error":{"message":"Incorrect API key: \#(key)\nSecond line"}}"#)
    }
    defer { refusing.stop() }
    request.endpoint = refusing.url
    request.seed = 1
    #expect(
      throws: CollectError.refused(
        status: 401, words: "Incorrect API key: [key] Second line")
    ) { try CollectRun(request, policy: Self.fast).run(output: output, force: true) }
    #expect(refusing.requests.count == 1)
  }

  /// Redirections are not followed, big answers not taken, the pace is kept.
  @Test func limits() throws {
    let other = try LoopbackServer { _, request in .answer(200, Self.echo(request)) }
    defer { other.stop() }
    let address = other.url + "/chat/completions"
    let server = try LoopbackServer { _, _ in
      .answer(307, fields: ["Location": address], "moved")
    }
    defer { server.stop() }
    #expect(throws: CollectError.refused(status: 307, words: "moved")) {
      try CollectRun(try request(server, prompts: 1), policy: Self.fast).run(
        output: output, force: false)
    }
    #expect(other.requests.isEmpty)
    var paced = try request(other, prompts: 4)
    paced.requestsPerMinute = 300
    let started = ContinuousClock.now
    _ = try CollectRun(paced, policy: Self.fast).run(output: output, force: false)
    #expect(ContinuousClock.now - started >= .milliseconds(590))
    let client = HTTPClient(bodyLimit: 100)
    defer { client.close() }
    let large = try LoopbackServer { _, _ in .answer(200, String(repeating: "x", count: 5000)) }
    defer { large.stop() }
    let url = try #require(URL(string: large.url))
    #expect(throws: HTTPFailure.tooLarge(limit: 100)) {
      try client.post(url, fields: [:], body: [], seconds: 5)
    }
  }

  @Test func wrongRequests() throws {
    let server = try LoopbackServer { _, _ in .never }
    defer { server.stop() }
    var request = try request(server, prompts: 1)
    for endpoint in ["", "ftp://x", "localhost:80", "http://"] {
      request.endpoint = endpoint
      #expect(throws: CollectError.badEndpoint, "\(endpoint)") { _ = try CollectRun(request) }
    }
    request.endpoint = "http://example.com/v1"
    request.keyVariable = "PATH"
    #expect(throws: CollectError.self) { _ = try CollectRun(request) }
    request.keyVariable = "CONDENSE_NO_SUCH_VARIABLE"
    #expect(throws: CollectError.noKey(variable: "CONDENSE_NO_SUCH_VARIABLE")) {
      _ = try CollectRun(request)
    }
    request.keyVariable = nil
    for (text, words) in [
      ("", "no prompts"), ("{\"prompt\": 1}\n", "neither 'prompt' nor 'messages'"),
      ("{\"prompt\"", "ends too early"),
    ] {
      request.prompts = folder.file("p.jsonl")
      try OutputFile.write(text, to: request.prompts)
      do {
        _ = try CollectRun(request)
        Issue.record("accepted: \(text)")
      } catch let error as CollectError {
        #expect("\(error)".contains(words), "\(error)")
      }
    }
  }
}

@Suite struct RetryPolicyTests {
  /// Seconds and dates; the date's value is that of date(1).
  @Test func retryAfter() {
    #expect(RetryPolicy.date("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777)
    #expect(RetryPolicy.date("Thu, 29 Feb 2024 23:59:59 GMT") == 1_709_251_199)
    #expect(RetryPolicy.date("Thu, 01 Jan 1970 00:00:00 GMT") == 0)
    for text in ["Sun, 06 Nov 1994", "yesterday", "Sun, 06 Xyz 1994 08:49:37 GMT"] {
      #expect(RetryPolicy.date(text) == nil)
    }
    #expect(RetryPolicy.retryAfter("120", now: 5) == 120)
    #expect(RetryPolicy.retryAfter(" 1.5", now: 5) == 1.5)
    #expect(RetryPolicy.retryAfter("Sun, 06 Nov 1994 08:49:37 GMT", now: 784_111_700) == 77)
    #expect(RetryPolicy.retryAfter("Sun, 06 Nov 1994 08:49:37 GMT", now: 784_111_900) == 0)
    for text in ["-3", "inf", "nan", "soon", "", nil] {
      #expect(RetryPolicy.retryAfter(text, now: 5) == nil)
    }
  }

  @Test func pauses() {
    var random = RandomStream(test: "pauses")
    let policy = RetryPolicy(attempts: 9, base: 1, longest: 60)
    for attempt in 1...9 {
      let full = min(60, pow(2, Double(attempt - 1)))
      let pauses = (0..<50).map { _ in
        policy.pause(after: attempt, retryAfter: nil, random: &random)
      }
      #expect(pauses.allSatisfy { $0 >= full / 2 && $0 <= full })
      #expect(Set(pauses).count > 40)
    }
    #expect((7...7.25).contains(policy.pause(after: 1, retryAfter: 7, random: &random)))
    #expect(policy.pause(after: 1, retryAfter: 1e6, random: &random) == 60)
  }
}

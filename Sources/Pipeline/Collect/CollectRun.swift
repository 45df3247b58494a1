// Gathers a server's answers: so many requests at a time, paced, repeated where that may help, and written down as
// they come. Nothing is asked twice: a request's id is the hash of its body, and a run begins with the answers that
// an earlier one left.
//
//   LOG.jsonl.collecting   answers in the order in which they came; a line cut off by a crash is removed
//   LOG.jsonl              all answers in the order of the prompts

import Checkpoints
import Dispatch
import Foundation
import Glibc
import JSONDocuments
import Synchronization
import Tensors

/// What became of a collection.
public struct CollectReport: Sendable, Equatable {
  /// Requests of the prompts file; answers that were there already; attempts that failed and were repeated.
  public let requests, found, retries: Int
}

/// Collects answers.
public struct CollectRun: Sendable {
  private let request: CollectRequest
  private let items: [CollectRequest.Item]
  private let url: URL
  private let key: String?
  private let policy: RetryPolicy

  /// Reads the prompts and the key.
  public init(_ request: CollectRequest) throws {
    try self.init(request, policy: RetryPolicy(attempts: request.attempts))
  }

  init(_ request: CollectRequest, policy: RetryPolicy) throws {
    self.request = request
    self.policy = policy
    if let variable = request.keyVariable {
      let value = ProcessInfo.processInfo.environment[variable]?
        .trimmingCharacters(in: .whitespacesAndNewlines)
      guard let value, !value.isEmpty, value.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
        throw CollectError.noKey(variable: variable)
      }
      key = value
    } else {
      key = nil
    }
    url = try request.url(hasKey: key != nil)
    items = try request.items()
  }

  /// What the workers share.
  private struct State {
    var next = 0
    var answers: [String: String] = [:]
    var failed = 0, retries = 0
    var lastFailure = ""
    var refusal: CollectError?
    /// No request starts before this moment: the server asked for a pause, or the pace does.
    var resumeAt = 0.0
    var nextStart = 0.0
    var writeError: FileError?
  }

  private final class Shared: Sendable {
    let state: Mutex<State>
    init(_ state: sending State) { self.state = Mutex(state) }
  }

  private static func now() -> Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e9 }

  /// Asks for what is missing, and writes all answers.
  public func run(
    output: String, force: Bool, progress: (Double) -> Void = { _ in }
  ) throws -> CollectReport {
    let work = output + ".collecting"
    var state = State()
    try readAnswers(output, into: &state, mayBeForeign: force)
    let inOutput = state.answers.count
    try readAnswers(work, into: &state, mayBeForeign: true)
    let found = state.answers.count
    if inOutput == items.count {
      return CollectReport(requests: items.count, found: found, retries: 0)
    }
    let log = try AppendedLines(work)
    let missing = items.filter { state.answers[$0.id] == nil }
    let shared = Shared(state)
    let client = HTTPClient()
    defer { client.close() }
    let deadline = request.overallTimeout.map { Self.now() + $0 } ?? .infinity
    let group = DispatchGroup()
    for worker in 0..<min(request.concurrency, missing.count) {
      group.enter()
      Thread {
        self.work(worker, missing, shared, client, log, deadline)
        group.leave()
      }.start()
    }
    while group.wait(timeout: .now() + 0.2) == .timedOut {
      progress(Double(shared.state.withLock { $0.answers.count }) / Double(items.count))
    }
    let end = shared.state.withLock { $0 }
    if let error = end.writeError { throw error }
    if let refusal = end.refusal { throw refusal }
    if end.answers.count < items.count {
      if end.failed == 0 || Self.now() >= deadline {
        throw CollectError.outOfTime(missing: items.count - end.answers.count, of: items.count)
      }
      throw CollectError.gaveUp(failed: end.failed, of: items.count, last: end.lastFailure)
    }
    var file = try OutputFile(path: output)
    for item in items { try file.write((end.answers[item.id] ?? "") + "\n") }
    try file.finish()
    try FilePath.remove(work)
    return CollectReport(requests: items.count, found: found, retries: end.retries)
  }

  /// The answers of an earlier run. A last line without an end is what a crash left.
  private func readAnswers(
    _ path: String, into state: inout State, mayBeForeign: Bool
  ) throws {
    guard FilePath.kind(of: path) == .file else { return }
    let wanted = Set(items.map(\.id))
    let bytes = try FilePath.read(path)
    let end = bytes.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    for line in bytes[..<end].split(separator: 0x0A) {
      let text = String(decoding: line, as: UTF8.self)
      guard let id = (try? JSONValue(parsing: Array(line)))?["custom_id"]?.string,
        wanted.contains(id)
      else {
        if mayBeForeign { continue }
        throw CheckpointError(path: path, .outputExists)
      }
      state.answers[id] = text
    }
  }

  /// One worker: takes requests until there are none.
  private func work(
    _ worker: Int, _ missing: [CollectRequest.Item], _ shared: Shared,
    _ client: HTTPClient, _ log: AppendedLines, _ deadline: Double
  ) {
    var random = RandomStream(seed: UInt64(getpid()), name: "collect \(worker)")
    while true {
      let item = shared.state.withLock { state -> CollectRequest.Item? in
        guard state.next < missing.count, state.refusal == nil, state.writeError == nil else {
          return nil
        }
        state.next += 1
        return missing[state.next - 1]
      }
      guard let item else { return }
      guard let line = answer(item, shared, client, deadline, &random) else { continue }
      do throws(FileError) {
        try log.append(line)
        shared.state.withLock { $0.answers[item.id] = line }
      } catch {
        shared.state.withLock { $0.writeError = error }
      }
    }
  }

  /// The line of an answer; nil when the request failed for good, or the time is over.
  private func answer(
    _ item: CollectRequest.Item, _ shared: Shared, _ client: HTTPClient,
    _ deadline: Double, _ random: inout RandomStream
  ) -> String? {
    var fields = ["Content-Type": "application/json", "Accept": "application/json"]
    if let key { fields["Authorization"] = "Bearer " + key }
    let body = Array(item.body.compactText.utf8)
    var words = ""
    for attempt in 1...max(1, policy.attempts) {
      guard waitForTurn(shared, deadline) else { return nil }
      var retryAfter: Double?
      do throws(HTTPFailure) {
        let seconds = min(request.timeout, max(0.01, deadline - Self.now()))
        let answer = try client.post(url, fields: fields, body: body, seconds: seconds)
        if answer.status == 200 {
          if let line = line(item, answer) { return line }
          words = "an answer that is no JSON with 'choices'"
        } else {
          words = "status \(answer.status): \(excerpt(answer.body))"
          if [401, 403, 404, 405].contains(answer.status) || (300..<400).contains(answer.status) {
            let refusal = CollectError.refused(
              status: answer.status, words: excerpt(answer.body))
            shared.state.withLock { $0.refusal = refusal }
            return nil
          }
          guard RetryPolicy.isTemporary(answer.status) else { break }
          retryAfter = RetryPolicy.retryAfter(
            answer.fields["retry-after"], now: Date().timeIntervalSince1970)
        }
      } catch {
        words = redacted("\(error)")
      }
      guard attempt < policy.attempts else { break }
      let pause = policy.pause(after: attempt, retryAfter: retryAfter, random: &random)
      shared.state.withLock { state in
        state.retries += 1
        // A pause that the server asks for is everybody's.
        if retryAfter != nil { state.resumeAt = max(state.resumeAt, Self.now() + pause) }
      }
      guard sleep(until: Self.now() + pause, shared, deadline) else { return nil }
    }
    shared.state.withLock { state in
      state.failed += 1
      state.lastFailure = words
    }
    return nil
  }

  /// Waits for the pace and for the pauses that the server asked for; false when the time is over.
  private func waitForTurn(_ shared: Shared, _ deadline: Double) -> Bool {
    while true {
      let start = shared.state.withLock { state -> Double in
        let now = Self.now()
        let moment = max(now, state.resumeAt, state.nextStart)
        guard moment <= now else { return moment }
        if let rate = request.requestsPerMinute { state.nextStart = now + 60 / rate }
        return 0
      }
      if start == 0 { return Self.now() < deadline }
      guard sleep(until: start, shared, deadline) else { return false }
    }
  }

  /// Sleeps in short steps; false when the time is over, or the work has ended.
  private func sleep(
    until moment: Double, _ shared: Shared, _ deadline: Double
  ) -> Bool {
    while true {
      let now = Self.now()
      guard now < deadline, shared.state.withLock({ $0.refusal == nil && $0.writeError == nil })
      else {
        return false
      }
      guard now < moment else { return true }
      Thread.sleep(forTimeInterval: min(0.1, moment - now, deadline - now))
    }
  }

  /// A batch's line of an answer; nil when the answer is none.
  private func line(_ item: CollectRequest.Item, _ answer: HTTPAnswer) -> String? {
    let text = redacted(String(decoding: answer.body, as: UTF8.self))
    guard let body = try? JSONValue(parsing: text), body["choices"]?.array?.isEmpty == false,
      (body["error"] ?? .null).isNull
    else { return nil }
    let line: JSONValue = [
      "custom_id": .string(item.id), "request": item.body,
      "response": ["status_code": 200, "body": body], "error": .null,
    ]
    return line.compactText
  }

  /// The start of an answer in one line, without the key.
  private func excerpt(_ body: [UInt8]) -> String {
    let text = redacted(String(decoding: body.prefix(4096), as: UTF8.self))
    let words = (try? JSONValue(parsing: text))?["error"]?["message"]?.string ?? text
    let line = String(
      String.UnicodeScalarView(
        words.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }))
    return line.isEmpty ? "no words" : String(line.prefix(200))
  }

  /// A text without the key, whatever a server makes of it.
  private func redacted(_ text: String) -> String {
    guard let key else { return text }
    return text.replacingOccurrences(of: key, with: "[key]")
  }
}

/// A file that grows by whole lines, each on disk before the next request's answer counts.
private final class AppendedLines: Sendable {
  private let path: String
  private let descriptor: Int32
  private let turn = Mutex(())

  /// Opens a file, and removes what a crash left of a last line.
  init(_ path: String) throws(FileError) {
    self.path = path
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600 as mode_t)
    guard descriptor >= 0 else { throw FileError(path: path, operation: "create", code: errno) }
    let bytes = try FilePath.read(path)
    let end = bytes.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    guard ftruncate(descriptor, off_t(end)) == 0, lseek(descriptor, 0, SEEK_END) >= 0 else {
      throw FileError(path: path, operation: "write", code: errno)
    }
  }

  deinit { close(descriptor) }

  func append(_ line: String) throws(FileError) {
    let bytes = Array((line + "\n").utf8)
    let code = turn.withLock { _ -> Int32 in
      var offset = 0
      while offset < bytes.count {
        let count = unsafe bytes.withUnsafeBytes { buffer in
          unsafe write(
            descriptor, buffer.baseAddress?.advanced(by: offset), bytes.count - offset)
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return errno }
        offset += count
      }
      return fdatasync(descriptor) == 0 ? 0 : errno
    }
    guard code == 0 else { throw FileError(path: path, operation: "write", code: code) }
  }
}

// Makes a teacher log of a server's answers, aligned to a student's tokenizer.

public import Checkpoints
import CondenseInference
import Glibc
import HDF5Files
public import JSONDocuments
import Networks

/// Where the answers are, and how they become windows.
public struct APILogRequest: Sendable, Equatable {
  /// JSON lines of an OpenAI-compatible server.
  public var path: String
  /// At most this many tokens of a window; longer ones are cut. Nil cuts nothing.
  public var context: Int?
  /// At most this many entries of a list; the others' probability is that of the bucket "other".
  public var topCount = 20
  /// How a message of a chat stands in a text, with `{role}` and `{content}`; nil logs answers without their chat.
  public var messageFormat: String?

  /// A request with the usual numbers.
  public init(path: String) { self.path = path }
}

/// What became of a server's answers.
public struct APILogReport: Sendable, Equatable {
  /// Answers that became windows; requests that had failed; answers that the tokenizer does not give back; answers
  /// of fewer than two tokens.
  public var answers = 0, failed = 0, unreadable = 0, empty = 0
  /// Rows with a list; with the true token alone; where the tokenizers part ways.
  public var listedRows = 0, sequenceLevelRows = 0, unalignedRows = 0
  /// Entries of lists that are the student's tokens, and others with their mean probability a row.
  public var mappedEntries = 0, droppedEntries = 0
  /// Mean probability of the dropped entries a listed row.
  public var droppedMass = 0.0
  /// Chats that were left out of their windows, as no format of messages was given.
  public var chatsWithoutPrompt = 0

  /// The keys of `condense teacher-log --from-api --json`.
  public var json: JSONValue {
    [
      "answers": .integer(answers), "failed_requests": .integer(failed),
      "unreadable_answers": .integer(unreadable), "empty_answers": .integer(empty),
      "listed_rows": .integer(listedRows), "sequence_level_rows": .integer(sequenceLevelRows),
      "unaligned_rows": .integer(unalignedRows), "mapped_entries": .integer(mappedEntries),
      "dropped_entries": .integer(droppedEntries), "dropped_mass": .number(droppedMass),
      "chats_without_prompt": .integer(chatsWithoutPrompt),
    ]
  }

  /// Lines for people: what is in the log, and what is not.
  public var text: String {
    var lines = [
      "answers       \(answers)",
      "rows          \(listedRows) with lists, \(sequenceLevelRows) with the true token alone, "
        + "\(unalignedRows) where the tokenizers part ways",
      "entries       \(mappedEntries) are tokens of the student, \(droppedEntries) dropped "
        + "(\(Figures.text(droppedMass, 5)) of probability a row)",
    ]
    if failed > 0 { lines.append("left out      \(failed) failed requests") }
    if unreadable > 0 {
      lines.append("left out      \(unreadable) answers that the tokenizer does not give back")
    }
    if empty > 0 { lines.append("left out      \(empty) answers of fewer than two tokens") }
    if chatsWithoutPrompt > 0 {
      lines.append(
        "note          \(chatsWithoutPrompt) answers stand without their chat; --message-format gives it"
      )
    }
    return lines.joined(separator: "\n")
  }
}

/// Imports a server's answers.
public struct APILogRun {
  private let student: any Checkpoint
  private let request: APILogRequest
  private let bytes: [UInt8]

  /// A run over a file, for a student's tokenizer and vocabulary.
  public init(student: any Checkpoint, request: APILogRequest) throws {
    self.student = student
    self.request = request
    bytes = try FilePath.read(request.path)
  }

  private static let windowsPerChunk = 64

  /// Writes the log.
  public func run(
    output: String, force: Bool, progress: (String, Double) -> Void = { _, _ in }
  ) throws -> (result: TeacherLogResult, report: APILogReport) {
    let model = try Model(student)
    let tokenizer = try model.requiredTokenizer()
    let vocabulary = try model.tokenNetwork().vocabularySize
    let alignment = ByteAlignment(
      tokenizer: tokenizer, vocabulary: vocabulary)
    // Twice: first what the manifest must say, then the windows.
    var longest = 0, entries = 1, names: Set<String> = []
    let report = try forEachWindow(alignment, names: &names) { window in
      longest = max(longest, window.tokens.count)
      entries = max(entries, window.rows.map { $0.list.count }.max() ?? 0)
    }
    guard longest > 0 else {
      throw CheckpointError(
        path: request.path,
        .badValue(found: "no answer that can be logged", expected: "at least one of two tokens"))
    }
    let name = names.sorted().joined(separator: ", ")
    let k = min(entries, request.topCount)
    let manifest = TeacherLogManifest(
      source: .api, teacher: name, teacherHash: ContentHash.of(Array(name.utf8)),
      tokenizerHash: tokenizerHash(tokenizer, vocabulary: vocabulary),
      vocabulary: vocabulary,
      templateHash: request.messageFormat.map { ContentHash.of(Array($0.utf8)) },
      textHash: ContentHash.of(bytes), context: longest, topCount: k, sampleCount: 0)
    let writer = try TeacherLogWriter(
      path: output, manifest: manifest, key: "\(toolVersion) \(request.context ?? 0)",
      windowsPerChunk: Self.windowsPerChunk, force: force)
    let resumed = writer.windowCount
    guard !writer.isFinished else {
      let found = try TeacherLog(path: output).manifest
      return (
        try TeacherLogResult(path: output, manifest: found, resumedWindows: found.windows), report
      )
    }
    var index = 0
    _ = try forEachWindow(alignment, names: &names, progress: { progress("import", $0) }) {
      window in
      if index >= resumed { try writer.append([Self.logged(window, k: k)]) }
      index += 1
    }
    let counted = try writer.finish { progress("write", $0) }
    return (
      try TeacherLogResult(path: output, manifest: counted, resumedWindows: resumed), report
    )
  }

  private typealias Window = (tokens: [Int32], first: Int, rows: [ByteAlignment.Row])

  private func forEachWindow(
    _ alignment: ByteAlignment, names: inout Set<String>, progress: (Double) -> Void = { _ in },
    _ body: (Window) throws -> Void
  ) throws -> APILogReport {
    var report = APILogReport(), counts = ByteAlignment.Counts()
    var number = 0, start = 0
    while start < bytes.count {
      let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
      let line = Array(bytes[start..<end])
      start = end + 1
      number += 1
      progress(Double(min(start, bytes.count)) / Double(bytes.count))
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { continue }
      switch try parse(line, number) {
      case .failed: report.failed += 1
      case .completions(let completions, let model):
        if !model.isEmpty { names.insert(model) }
        for completion in completions {
          let prompt = self.prompt(completion.prompt, &report)
          let before = counts.unreadable
          guard let window = try alignment.window(prompt: prompt, completion, counts: &counts)
          else {
            report.empty += counts.unreadable == before ? 1 : 0
            continue
          }
          report.answers += 1
          for part in cut(window) { try body(part) }
        }
      }
    }
    report.unreadable = counts.unreadable
    (report.listedRows, report.sequenceLevelRows, report.unalignedRows) =
      (counts.listed, counts.sequenceLevel, counts.unaligned)
    (report.mappedEntries, report.droppedEntries) = (counts.mapped, counts.dropped)
    report.droppedMass = counts.droppedMass / Double(max(1, counts.listed))
    return report
  }

  private func parse(_ line: [UInt8], _ number: Int) throws(CheckpointError) -> APILine {
    let place = "\(request.path):\(number)"
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue(parsing: line)
    } catch {
      throw CheckpointError(
        path: place, .badValue(found: "\(error)", expected: "a JSON object a line"))
    }
    do throws(APILine.Malformed) {
      return try APILine(json)
    } catch {
      throw CheckpointError(path: place, .badValue(found: error.found, expected: error.expected))
    }
  }

  /// The text before an answer.
  private func prompt(_ prompt: APICompletion.Prompt, _ report: inout APILogReport) -> [UInt8] {
    switch prompt {
    case .none: return []
    case .text(let text): return Array(text.utf8)
    case .messages(let messages):
      guard let format = request.messageFormat else {
        report.chatsWithoutPrompt += 1
        return []
      }
      return Array(MessageFormat(format).prompt(messages).utf8)
    }
  }

  /// Pieces of at most so many tokens; each but the first starts without what was before it.
  private func cut(_ window: Window) -> [Window] {
    guard let context = request.context, window.tokens.count > context else { return [window] }
    return stride(from: 0, to: window.tokens.count - 1, by: context).compactMap { start in
      let end = min(start + context, window.tokens.count)
      // Rows whose position and next token both lie in the piece.
      let first = max(start, window.first), last = min(end - 1, window.first + window.rows.count)
      guard first < last else { return nil }
      return (
        Array(window.tokens[start..<end]), first - start,
        Array(window.rows[first - window.first..<last - window.first])
      )
    }
  }

  private static func logged(_ window: Window, k: Int) -> TeacherLogWindow {
    var result = TeacherLogWindow(
      tokens: window.tokens, rows: window.first..<window.first + window.rows.count)
    for row in window.rows {
      let list = row.list.prefix(k)
      result.trueLogProbabilities.append(Float(row.trueLogProbability))
      result.logSumExps.append(0)
      result.entropies.append(
        Float(list.reduce(0.0) { $0 - exp($1.logProbability) * $1.logProbability }))
      let missing = k - list.count
      result.topTokens += list.map(\.id) + [Int32](repeating: -1, count: missing)
      result.topLogProbabilities +=
        list.map { Float($0.logProbability) } + [Float](repeating: -.infinity, count: missing)
      let left = row.list.dropFirst(k).reduce(0.0) { $0 + exp($1.logProbability) }
      result.otherMass.append(Float(min(1, row.otherMass + left)))
    }
    return result
  }
}

/// How a message of a chat stands in a text.
struct MessageFormat {
  private let format: String

  init(_ format: String) { self.format = format }

  /// The messages, and the start of the assistant's: all before its content.
  func prompt(_ messages: [(role: String, content: String)]) -> String {
    let texts = messages.map { message in
      format.split(separator: "{content}", omittingEmptySubsequences: false)
        .map { Self.replacing("{role}", in: String($0), by: message.role) }
        .joined(separator: message.content)
    }
    let start = format.split(separator: "{content}", omittingEmptySubsequences: false).first ?? ""
    return texts.joined() + Self.replacing("{role}", in: String(start), by: "assistant")
  }

  private static func replacing(_ word: String, in text: String, by other: String) -> String {
    text.split(separator: word, omittingEmptySubsequences: false).joined(separator: other)
  }
}

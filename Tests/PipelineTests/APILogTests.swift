import Checkpoints
import Foundation
import JSONDocuments
import TestSupport
import Testing
import Tokenization

@testable import HDF5Files
@testable import Pipeline

@Suite struct APILineTests {
  private static func completions(_ text: String) throws -> [APICompletion]? {
    guard case .completions(let completions, _) = try APILine(try JSONValue(parsing: text)) else {
      return nil
    }
    return completions
  }

  static let chat = """
    {"model":"m","choices":[{"message":{"role":"assistant","content":"Hé"},"logprobs":{"content":[
    {"token":"H","logprob":-0.5,"bytes":[72],"top_logprobs":[{"token":"H","logprob":-0.5,"bytes":[72]},
    {"token":"\\\\xc3","logprob":-2,"bytes":[195]}]},
    {"token":"é","logprob":-1,"bytes":null,"top_logprobs":[]}]}}]}
    """

  @Test func chatCompletions() throws {
    let found = try #require(try Self.completions(Self.chat))
    #expect(
      found == [
        APICompletion(
          prompt: .none, text: Array("Hé".utf8),
          steps: [
            .init(
              bytes: [72], logProbability: -0.5,
              list: [(bytes: [72], logProbability: -0.5), (bytes: [195], logProbability: -2)]),
            .init(bytes: [0xC3, 0xA9], logProbability: -1, list: []),
          ])
      ])
  }

  @Test func textCompletions() throws {
    let found = try #require(
      try Self.completions(
        #"""
        {"custom_id":"1","request":{"prompt":"Say"},"response":{"status_code":200,"body":{"choices":[{"text":" aé",
        "logprobs":{"tokens":[" a","bytes:\\xc3","bytes:\\xa9"],"token_logprobs":[null,-0.25,-0.125],
        "top_logprobs":[null,{"bytes:\\xc3":-0.25,"x":-3},{}]}}]}}}
        """#))
    #expect(found[0].prompt == .text("Say"))
    #expect(found[0].text == Array(" aé".utf8))
    #expect(found[0].steps?.map(\.bytes) == [[0x20, 0x61], [0xC3], [0xA9]])
    #expect(found[0].steps?.map(\.logProbability) == [0, -0.25, -0.125])
    #expect(found[0].steps?[1].list.map(\.bytes) == [[0xC3], [0x78]])
  }

  @Test func failuresAndPlainText() throws {
    for text in [
      #"{"response":null,"error":{"message":"x"}}"#,
      #"{"response":{"status_code":429,"body":{}}}"#, #"{"error":{"message":"x"}}"#,
    ] {
      #expect(try Self.completions(text) == nil)
    }
    let plain = try #require(
      try Self.completions(
        #"{"request":{"messages":[{"role":"user","content":"q"}]},"choices":[{"message":{"content":"a"},"logprobs":null}]}"#
      ))
    #expect(plain[0].steps == nil && plain[0].prompt == .messages([("user", "q")]))
  }

  @Test(arguments: [
    "[]", "{}", #"{"choices":[{}]}"#, #"{"choices":[{"text":"a","logprobs":{"tokens":["a"]}}]}"#,
    #"{"choices":[{"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[1]}}]}"#,
    #"{"choices":[{"text":"a","logprobs":{"content":[{"token":"a"}]}}]}"#,
    #"{"choices":[{"text":"a","logprobs":{"content":[{"token":"a","logprob":-1,"bytes":[256]}]}}]}"#,
  ]) func malformed(_ text: String) throws {
    #expect(throws: APILine.Malformed.self) { try Self.completions(text) }
  }

  @Test func messageFormat() {
    let format = MessageFormat("<{role}>{content}</{role}>\n")
    #expect(
      format.prompt([("system", "be {role}"), ("user", "hi")])
        == "<system>be {role}</system>\n<user>hi</user>\n<assistant>")
  }
}

/// Alignment to the quickstart model's tokenizer, a byte-level BPE.
@Suite struct ByteAlignmentTests {
  let tokenizer: Tokenizer
  let alignment: ByteAlignment

  init() throws {
    let path = TestData.root + "checkpoints/quickstart/tokenizer.json"
    tokenizer = try Tokenizer(contentsOf: try FilePath.read(path), name: path)
    alignment = ByteAlignment(tokenizer: tokenizer, vocabulary: tokenizer.vocabularySize)
  }

  private func step(
    _ bytes: [UInt8], _ log: Double, _ list: [([UInt8], Double)] = []
  ) -> APICompletion.Step {
    .init(
      bytes: bytes, logProbability: log, list: list.map { (bytes: $0.0, logProbability: $0.1) })
  }

  private func align(
    _ text: String, _ steps: [APICompletion.Step]?
  ) throws -> (tokens: [Int32], first: Int, rows: [ByteAlignment.Row], counts: ByteAlignment.Counts)
  {
    var counts = ByteAlignment.Counts()
    let window = try #require(
      try alignment.window(
        prompt: Array("A prompt".utf8),
        APICompletion(prompt: .none, text: Array(text.utf8), steps: steps), counts: &counts))
    return (window.tokens, window.first, window.rows, counts)
  }

  private let text = " the house and 名 the king"

  /// A server of the same tokenizer: every row has its list.
  @Test func sameTokenizer() throws {
    let ids = tokenizer.encode(text)
    let pieces = ids.map { tokenizer.tokenBytes($0) ?? [] }
    let other = try #require(tokenizer.id(of: "e"))
    let found = try align(
      text,
      pieces.map {
        step(
          $0, log(0.5), [($0, log(0.5)), (Array("e".utf8), log(0.25)), ([0, 1, 2], log(0.125))])
      })
    let prompt = tokenizer.encode("A prompt")
    #expect(found.tokens == prompt + ids && found.first == prompt.count - 1)
    #expect(found.rows.count == ids.count)
    for (row, id) in zip(found.rows, ids) where id != other {
      #expect(row.list.map(\.id) == [id, other])
      #expect(abs(row.otherMass - 0.25) < 1e-12 && row.trueLogProbability == log(0.5))
    }
    #expect(found.counts.listed == ids.count && found.counts.unaligned == 0)
    #expect(found.counts.dropped == ids.count)
    #expect(abs(found.counts.droppedMass / Double(ids.count) - 0.125) < 1e-12)
  }

  /// A server of single bytes: the true token's probability is a product, its alternatives are unknown; tokens of one
  /// byte have lists.
  @Test func smallerPieces() throws {
    let ids = tokenizer.encode(text)
    let found = try align(text, text.utf8.map { step([$0], -0.5, [([$0], -0.5)]) })
    for (row, id) in zip(found.rows, ids) {
      let count = tokenizer.tokenBytes(id)?.count ?? 0
      #expect(abs(row.trueLogProbability + 0.5 * Double(count)) < 1e-12)
      #expect(row.list.count == (count == 1 ? 1 : 0) && (row.otherMass == 1) == (count > 1))
    }
  }

  /// A server of larger pieces: rows inside of one, and at its start, say nothing.
  @Test func largerPieces() throws {
    let bytes = Array(text.utf8)
    let cut = Array(" the house and 名".utf8).count
    let found = try align(text, [step(Array(bytes[..<cut]), -1), step(Array(bytes[cut...]), -2)])
    #expect(found.rows.allSatisfy { $0.list.isEmpty && $0.otherMass == 1 })
    #expect(found.counts.unaligned == found.rows.count && found.counts.listed == 0)
  }

  /// Text alone: the true token is all of each row.
  @Test func withoutLogProbabilities() throws {
    let found = try align(text, nil)
    let ids = tokenizer.encode(text)
    #expect(found.rows.map { $0.list.map(\.id) } == ids.map { [$0] })
    #expect(found.rows.allSatisfy { $0.otherMass == 0 && $0.trueLogProbability == 0 })
    #expect(found.counts.sequenceLevel == ids.count)
  }

  /// Steps that leave the text, such as an end token, end the alignment there.
  @Test func stepsBeyondTheText() throws {
    let ids = tokenizer.encode(text)
    var steps = ids.map { step(tokenizer.tokenBytes($0) ?? [], -1) }
    steps.append(step(Array("<|end|>".utf8), -1))
    #expect(try align(text, steps).counts.listed == ids.count)
    steps[2] = step(Array("xyz".utf8), -1)
    let found = try align(text, steps)
    #expect(found.counts.listed == 2 && found.counts.unaligned == ids.count - 2)
  }
}

@Suite struct APILogRunTests {
  /// A file of answers becomes a log that says what it holds; a line that is none names its place.
  @Test func importing() throws {
    let folder = try TemporaryFolder()
    let student = try AnyCheckpoint.open(TestData.root + "checkpoints/quickstart")
    let answers = folder.file("answers.jsonl")
    let lines = [
      #"{"request":{"prompt":"The king"},"choices":[{"text":" and the queen of the house"}]}"#,
      #"{"response":{"status_code":500}}"#, "",
      APILineTests.chat.replacingOccurrences(of: "\n", with: ""),
    ]
    try OutputFile.write(lines.joined(separator: "\n"), to: answers)
    let run = try APILogRun(student: student, request: APILogRequest(path: answers))
    let (result, report) = try run.run(output: folder.file("l.h5"), force: false)
    #expect(report.answers == 2 && report.failed == 1)
    #expect(result.manifest.windows == 2 && result.manifest.source == .api)
    let log = try TeacherLog(path: folder.file("l.h5"))
    let window = try log.window(0)
    #expect(window.otherMass.allSatisfy { $0 == 0 })
    #expect(
      window.rows.map { window.tokens[$0 + 1] }
        == stride(from: 0, to: window.topTokens.count, by: result.manifest.topCount).map {
          window.topTokens[$0]
        })

    var cut = APILogRequest(path: answers)
    cut.context = 4
    let (pieces, _) = try APILogRun(student: student, request: cut).run(
      output: folder.file("cut.h5"), force: false)
    #expect(pieces.manifest.context == 4 && pieces.manifest.windows > 2)

    try OutputFile.write(lines[0] + "\n{\"choices\": 3}\n", to: answers)
    #expect(
      throws: CheckpointError(
        path: answers + ":2",
        .badValue(
          found: "no 'choices'",
          expected: "a completion, or a batch's {\"response\": {\"body\": …}}"))
    ) {
      try APILogRun(student: student, request: APILogRequest(path: answers)).run(
        output: folder.file("x.h5"), force: false)
    }
    #expect(FilePath.kind(of: folder.file("x.h5")) == nil)
  }
}

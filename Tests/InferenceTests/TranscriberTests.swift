import Checkpoints
import CondenseInference
import Foundation
import Networks
import Speech
import Tensors
import TestSupport
import Testing
import Tokenization

/// Transcripts against those of transformers, and of a tiny model that knows words; see Tests/Fixtures/whisper.
@Suite struct TranscriberTests {
  static let folder = TestData.fixtures + "/whisper/"
  static let sentences = ["one two", "four", "five one four", "two five"]

  private func recording(_ text: String) throws -> Sound {
    try Sound(
      wav: Self.folder + "recordings/" + text.replacingOccurrences(of: " ", with: "-") + ".wav")
  }

  /// A copy of a model with changes in the text of one of its files.
  private func edited(
    _ name: String, _ file: String, _ changes: [String: String]
  ) throws -> (folder: TemporaryFolder, path: String) {
    let work = try TemporaryFolder()
    let path = work.file("model")
    try FileManager.default.copyItem(atPath: Self.folder + name, toPath: path)
    var text = try String(contentsOfFile: path + "/" + file, encoding: .utf8)
    for (old, new) in changes {
      try #require(text.contains(old), "\(old)")
      text = text.replacingOccurrences(of: old, with: new)
    }
    try text.write(toFile: path + "/" + file, atomically: true, encoding: .utf8)
    return (work, path)
  }

  @Test(arguments: [0, 1], ["en", nil]) func idsEqualTransformers(
    _ place: Int, _ language: String?
  ) throws {
    let model = try Model(path: Self.folder + "random")
    let expected = try SafetensorsFile(path: Self.folder + "random/expected.safetensors")
    let features = Matrix(
      rows: 120, columns: 20, values: try #require(expected.tensor("features")).floats()
    ).rows(place * 60..<(place + 1) * 60)
    let written = try Transcriber(model, language: language).write(features)
    let ids = try #require(
      expected.tensor("generated-\(language ?? "detected")-\(place)")?.integers())
    #expect(written.ids.map { Int($0) } == ids)
    #expect((written.end == nil) == (written.sequence.count == 24))
    if language == nil {
      #expect([Int(written.prompt[1])] == expected.tensor("language-\(place)")?.integers())
    }
  }

  @Test(arguments: sentences) func wordsOfRecordings(_ text: String) throws {
    let transcript = try Model(path: Self.folder + "words").transcribe(recording(text))
    #expect(transcript.text == text && transcript.language == "en" && transcript.isComplete)
    #expect(transcript.windows.count == 1)
  }

  /// The four spoken digits that the model has learned too.
  @Test(
    .enabled(if: TestData.shared != nil, "\(TestData.sharedHint)"),
    arguments: [
      ("0_george_0", "zero"), ("3_jackson_5", "three"), ("7_lucas_9", "seven"),
      ("9_nicolas_20", "nine"),
    ])
  func spokenDigits(_ name: String, _ text: String) throws {
    let path = try #require(TestData.shared) + "/data/speech/\(name).wav"
    #expect(try Model(path: Self.folder + "words").transcribe(wav: path).text == text)
  }

  /// A window of two seconds holds one sentence; what is longer is cut.
  @Test func longRecordingsAreCut() throws {
    let first = try recording("one two"), second = try recording("two five")
    let samples =
      first.samples + [Float](repeating: 0, count: 2 * first.rate - first.samples.count)
      + second.samples
    let transcript = try Model(path: Self.folder + "words")
      .transcribe(Sound(rate: first.rate, samples: samples))
    #expect(transcript.text == "one two two five")
    #expect(transcript.windows.map(\.start) == [0, 2])
    #expect(transcript.windows.map(\.text) == ["one two", "two five"])
  }

  @Test func positionsThatRunOutAreTold() throws {
    let (work, path) = try edited(
      "words", "generation_config.json", ["\"max_length\": 24": "\"max_length\": 2"])
    _ = work
    let transcript = try Model(path: path).transcribe(recording("five one four"))
    #expect(transcript.text == "five one" && !transcript.isComplete)
  }

  @Test func suppressedTokensAreNotWritten() throws {
    let model = try Model(path: Self.folder + "words")
    let five = try #require(model.tokenizer?.encode(" five").first)
    let (work, path) = try edited(
      "words", "generation_config.json",
      ["\"suppress_tokens\": [": "\"suppress_tokens\": [\n\(five),"])
    _ = work
    let text = try Model(path: path).transcribe(recording("five one four")).text
    #expect(!text.contains("five") && text.contains("four"))
  }

  @Test func languagesAreKnownOrRefused() throws {
    let model = try Model(path: Self.folder + "words")
    #expect(throws: TranscriptionError.unknownLanguage("xx", known: ["en", "de", "haw"])) {
      try Transcriber(model, language: "xx")
    }
    let (work, path) = try edited(
      "words", "generation_config.json", ["\"is_multilingual\": true": "\"is_multilingual\": false"]
    )
    _ = work
    let single = try Model(path: path)
    #expect(throws: TranscriptionError.oneLanguage("en")) {
      try Transcriber(single, language: "en")
    }
    let transcript = try single.transcribe(recording("four"))
    #expect(transcript.language == nil)
    let features = LogMel(frames: 200).features(of: try recording("four"))
    #expect(try Transcriber(single).write(features).prompt.count == 2)
  }

  @Test func missingFilesAndTokensAreNamed() throws {
    func problem(_ path: String) -> CheckpointError.Problem? {
      do {
        _ = try Transcriber(try Model(path: path))
        return nil
      } catch {
        return (error as? CheckpointError)?.problem
      }
    }
    let (work, path) = try edited(
      "words", "generation_config.json", ["no_timestamps_token_id": "something_else"])
    // The tokenizer names it.
    #expect(problem(path) == nil)
    try FileManager.default.removeItem(atPath: path + "/tokenizer.json")
    #expect(problem(path) == .missingFile("tokenizer.json"))
    _ = work
    let (other, outside) = try edited(
      "words", "generation_config.json", ["\"lang_to_id\": {": "\"lang_to_id\": {\"<|fr|>\": 999,"])
    guard case .badValue(let found, _) = try #require(problem(outside)) else {
      Issue.record("\(String(describing: problem(outside)))")
      return
    }
    #expect(found == "999")
    _ = other
  }
}

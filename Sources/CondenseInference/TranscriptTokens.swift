// How a transcript begins and ends, and what it never says: ids that a checkpoint's files name.
//
// Given    generation_config.json as transformers writes it for Whisper; without it the same keys of config.json; for the
//          two ids that either may lack, the tokenizer's tokens of these names

import Checkpoints
import JSONDocuments
import Networks
import Tokenization

/// The special ids of a model's transcripts.
struct TranscriptTokens: Sendable {
  /// `<|startoftranscript|>`.
  let start: Int32
  /// The ids of languages by code, such as `en`; empty for a model of one language, whose prompt names none.
  let languages: [(code: String, id: Int32)]
  /// `<|transcribe|>`, for a model of several languages.
  let task: Int32?
  /// `<|notimestamps|>`. Ids above it are times.
  let noTimestamps: Int32
  /// Ids that end a transcript.
  let end: Set<Int32>
  /// Ids that are never chosen, and ids that are not chosen first.
  let suppressed, suppressedFirst: [Int]
  /// Most tokens, prompt included.
  let limit: Int

  init(_ model: Model) throws {
    let checkpoint = model.checkpoint, network = try model.speechRecognizer()
    let name = "generation_config.json"
    let isThere = checkpoint.sideFileNames.contains(name)
    let json = isThere ? try checkpoint.sideJSON(name) : checkpoint.configuration
    let path = FilePath.join(checkpoint.path, isThere ? name : "config.json")
    let vocabulary = network.vocabularySize

    func id(_ key: String, _ value: JSONValue?) throws(CheckpointError) -> Int32? {
      guard let value, !value.isNull else { return nil }
      guard let id = value.integer, (0..<vocabulary).contains(id) else {
        throw CheckpointError(
          path: path, tensor: key,
          .badValue(found: value.compactText, expected: "an id below \(vocabulary)"))
      }
      return Int32(id)
    }
    func list(_ key: String) throws(CheckpointError) -> [Int32] {
      guard let value = json[key], !value.isNull else { return [] }
      var ids: [Int32] = []
      for element in value.array ?? [value] {
        if let id = try id(key, element) { ids.append(id) }
      }
      return ids
    }
    func required(_ key: String, _ value: JSONValue?, token: String) throws -> Int32 {
      if let id = try id(key, value) { return id }
      if let id = model.tokenizer?.id(of: token), id < vocabulary { return id }
      throw CheckpointError(path: path, .missing(key: key, expected: "the id of \(token)"))
    }

    start = try required(
      "decoder_start_token_id",
      json["decoder_start_token_id"] ?? checkpoint.configuration["decoder_start_token_id"],
      token: "<|startoftranscript|>")
    noTimestamps = try required(
      "no_timestamps_token_id", json["no_timestamps_token_id"], token: "<|notimestamps|>")
    var languages: [(code: String, id: Int32)] = []
    if json["is_multilingual"]?.bool != false, let all = json["lang_to_id"]?.object?.members {
      for member in all {
        if let id = try id("lang_to_id", member.value) {
          languages.append((member.key.filter { !"<|>".contains($0) }, id))
        }
      }
    }
    self.languages = languages.sorted { $0.id < $1.id }
    task =
      languages.isEmpty
      ? nil
      : try required("task_to_id", json["task_to_id"]?["transcribe"], token: "<|transcribe|>")
    end = Set(try list("eos_token_id"))
    guard !end.isEmpty else {
      throw CheckpointError(
        path: path, .missing(key: "eos_token_id", expected: "the id that ends a transcript"))
    }
    suppressed = try list("suppress_tokens").map { Int($0) }
    suppressedFirst = try list("begin_suppress_tokens").map { Int($0) }
    // As transformers counts it: beside the prompt, and never more than there are positions.
    let own = languages.isEmpty ? 2 : 4
    let most = json["max_length"]?.integer.map { max(1, min($0, 1 << 20)) + own }
    limit = min(network.contextLimit, most ?? network.contextLimit)
    guard own < limit else {
      throw CheckpointError(
        path: path, .badValue(found: "\(limit) positions", expected: "more than \(own)"))
    }
  }
}

/// Why a recording cannot be transcribed as it was asked for.
public enum TranscriptionError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The model does not know a language.
  case unknownLanguage(String, known: [String])
  /// The model knows one language only, and its prompt has no place for it.
  case oneLanguage(String)
  /// A transcript has more tokens than the model has positions.
  case tooLong(tokens: Int, limit: Int)
  /// A transcript's id that the model's embedding does not have.
  case outsideVocabulary(id: Int32, vocabulary: Int)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .unknownLanguage(let code, let known):
      "the language '\(code)' is none of the model's: \(known.joined(separator: ", "))"
    case .oneLanguage(let code):
      "the model writes one language and cannot be told '\(code)'; leave out the language"
    case .tooLong(let tokens, let limit):
      "a transcript of \(tokens) tokens with its prompt; the decoder has \(limit) positions"
    case .outsideVocabulary(let id, let vocabulary):
      "the tokenizer gives id \(id), the model's embedding has \(vocabulary) rows; "
        + "the tokenizer is another model's"
    }
  }
}

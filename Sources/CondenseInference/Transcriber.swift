// Recordings to text: after the prompt the likeliest token each time, without timestamps.
//
// Source   Radford et al., arXiv:2212.04356, section 2.3 (the prompt's tokens) and 4.5 (greedy decoding)
// Differs  windows follow each other without overlap and know nothing of each other: the paper moves by timestamps, which
//          are off here, and starts again at another temperature where a text repeats itself
// Checked  TranscriberTests: ids equal those of transformers' generate(do_sample=False)

import Checkpoints
import Networks
public import Speech
public import Tensors
import Tokenization
import Foundation

/// What was said in a recording.
public struct Transcript: Sendable, Equatable {
  /// What was said in one window.
  public struct Window: Sendable, Equatable {
    /// Where it begins, in seconds.
    public let start: Double
    /// The ids, without prompt and end.
    public let ids: [Int32]
    /// The text.
    public let text: String
    /// Whether the text came to its end before the decoder's positions did.
    public let isComplete: Bool
  }

  /// The windows' texts with blanks between them.
  public let text: String
  /// The language's code, such as `en`; nil for a model of one language.
  public let language: String?
  /// The windows.
  public let windows: [Window]

  /// Whether every window's text came to its end.
  public var isComplete: Bool { windows.allSatisfy(\.isComplete) }
}

/// Writes down recordings.
public struct Transcriber {
  /// The tokens of one window.
  public struct Written: Sendable, Equatable {
    /// What the decoder began with.
    public let prompt: [Int32]
    /// What it wrote, without the end.
    public let ids: [Int32]
    /// The token that ended it; nil where positions ran out.
    public let end: Int32?

    /// What a decoder reads to write the same.
    public var sequence: [Int32] { prompt + ids }
    /// The rows of `sequence` that predict `ids` and the end.
    public var scored: Range<Int> { prompt.count - 1..<sequence.count - (end == nil ? 1 : 0) }
  }

  private let network: any SpeechRecognizer
  private let path: String
  private let tokens: TranscriptTokens
  private let tokenizer: Tokenizer
  private let language: Int32?
  /// Makes the network's input.
  public let features: LogMel

  /// A transcriber.
  ///
  /// - Parameter language: A code, such as `en`; nil lets a model of several languages tell it by itself, from the first
  ///   window of each recording.
  /// - Throws: `TranscriptionError` for a language that the model does not know, `CheckpointError` for a model that
  ///   transcribes nothing or lacks its tokenizer or special tokens.
  public init(_ model: Model, language: String? = nil) throws {
    network = try model.speechRecognizer()
    path = model.checkpoint.path
    tokenizer = try model.requiredTokenizer()
    let tokens = try TranscriptTokens(model)
    self.tokens = tokens
    features = LogMel(bands: network.input.channels, frames: network.input.rows)
    self.language = try language.map { code in
      guard !tokens.languages.isEmpty else { throw TranscriptionError.oneLanguage(code) }
      guard let known = tokens.languages.first(where: { $0.code == code }) else {
        throw TranscriptionError.unknownLanguage(code, known: tokens.languages.map(\.code))
      }
      return known.id
    }
  }

  /// Writes down a sound of any rate and length.
  public func transcribe(
    _ sound: Sound, progress: (Double) -> Void = { _ in }
  ) throws -> Transcript {
    try transcribe(
      windows: features.windows(of: sound).lazy.map { features.features(of: $0) },
      progress: progress)
  }

  /// Writes down the windows of one recording, `[frames, bands]` each.
  public func transcribe(
    windows all: some Collection<Matrix>, progress: (Double) -> Void = { _ in }
  ) throws -> Transcript {
    let written = try write(windows: all, progress: progress)
    let windows = written.enumerated().map { index, written in
      Transcript.Window(
        start: Double(index) * features.seconds, ids: written.ids, text: text(written.ids),
        isComplete: written.end != nil)
    }
    return Transcript(
      text: Self.joined(windows.map(\.text)),
      language: written.first.flatMap { first in
        tokens.languages.first { $0.id == first.prompt[1] }?.code
      }, windows: windows)
  }

  /// The tokens of the windows of one recording. The first one tells the language of all.
  public func write(
    windows: some Collection<Matrix>, progress: (Double) -> Void = { _ in }
  ) throws -> [Written] {
    var all: [Written] = []
    for window in windows {
      progress(Double(all.count) / Double(windows.count))
      all.append(
        try write(window, language: tokens.languages.isEmpty ? nil : all.first?.prompt[1]))
    }
    return all
  }

  /// Texts of windows as that of the recording.
  public static func joined(_ texts: [String]) -> String {
    texts.filter { !$0.isEmpty }.joined(separator: " ")
  }

  /// The text of some ids, without special tokens, times and blanks around it.
  public func text(_ ids: [Int32]) -> String {
    tokenizer.decode(ids.filter { $0 <= tokens.noTimestamps })
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Writes down one window.
  ///
  /// - Parameters:
  ///   - features: `[frames, bands]`.
  ///   - language: The language's id, where it is known.
  public func write(_ features: Matrix, language given: Int32? = nil) throws -> Written {
    let cache = KeyValueCache()
    var prompt = [tokens.start]
    var logits: [Float]
    if tokens.languages.isEmpty {
      prompt.append(tokens.noTimestamps)
      logits = self.logits(network.batch(features, tokens: [prompt]), cache)
    } else if let language = language ?? given {
      prompt += rest(language)
      logits = self.logits(network.batch(features, tokens: [prompt]), cache)
    } else {
      // What follows the first token is the language: the likeliest of them.
      logits = self.logits(network.batch(features, tokens: [prompt]), cache)
      let rest = rest(try likeliestLanguage(logits))
      prompt += rest
      logits = self.logits(TokenBatch([rest]), cache)
    }
    var ids: [Int32] = []
    while true {
      try check(logits)
      for id in tokens.suppressed + (ids.isEmpty ? tokens.suppressedFirst : []) {
        logits[id] = -.infinity
      }
      var best = 0
      for (index, value) in logits.enumerated() where value > logits[best] { best = index }
      let token = Int32(best)
      if tokens.end.contains(token) { return Written(prompt: prompt, ids: ids, end: token) }
      ids.append(token)
      guard prompt.count + ids.count < tokens.limit else {
        return Written(prompt: prompt, ids: ids, end: nil)
      }
      logits = self.logits(TokenBatch([[token]]), cache)
    }
  }

  /// The tokens with which a decoder writes a given text.
  ///
  /// - Parameter language: As the model tells it from the recording, or as the transcriber was told.
  public func written(
    _ text: String, language: Int32?
  ) throws(TranscriptionError) -> Written {
    let prompt = [tokens.start] + (language.map(rest) ?? [tokens.noTimestamps])
    // Whisper's texts begin with a blank.
    let ids = tokenizer.encode(" " + text), count = prompt.count + ids.count
    guard count <= network.contextLimit else {
      throw TranscriptionError.tooLong(tokens: count, limit: network.contextLimit)
    }
    if let id = ids.first(where: { Int($0) >= network.vocabularySize }) {
      throw TranscriptionError.outsideVocabulary(id: id, vocabulary: network.vocabularySize)
    }
    return Written(prompt: prompt, ids: ids, end: tokens.end.min())
  }

  /// The language of a window; nil for a model of one language.
  public func language(of features: Matrix) throws -> Int32? {
    guard !tokens.languages.isEmpty else { return nil }
    if let language { return language }
    return try likeliestLanguage(
      logits(network.batch(features, tokens: [[tokens.start]]), KeyValueCache()))
  }

  /// Of equally likely ones the lower id.
  private func likeliestLanguage(_ logits: [Float]) throws(CheckpointError) -> Int32 {
    try check(logits)
    var best = tokens.languages[0].id
    for (_, id) in tokens.languages where logits[Int(id)] > logits[Int(best)] { best = id }
    return best
  }

  private func rest(_ language: Int32) -> [Int32] {
    [language] + (tokens.task.map { [$0] } ?? []) + [tokens.noTimestamps]
  }

  private func logits(_ batch: TokenBatch, _ cache: KeyValueCache) -> [Float] {
    let hidden = network.hidden(batch, cache: cache)
    return network.logits(hidden.rows(hidden.rows - 1..<hidden.rows)).values
  }

  private func check(_ logits: [Float]) throws(CheckpointError) {
    let bad = countNotFinite(logits.span)
    guard bad == 0 else {
      throw CheckpointError(
        path: path, tensor: "logits", .notFinite(count: bad, total: logits.count))
    }
  }
}

extension Model {
  /// What is said in a WAV file.
  ///
  /// - Parameter language: A code, such as `en`; nil lets a model of several languages tell it by itself.
  /// - Throws: As `Transcriber` and `Sound` do.
  public func transcribe(wav path: String, language: String? = nil) throws -> Transcript {
    try transcribe(try Sound(wav: path), language: language)
  }

  /// What is said in a sound of any rate and length.
  public func transcribe(_ sound: Sound, language: String? = nil) throws -> Transcript {
    try Transcriber(self, language: language).transcribe(sound)
  }
}

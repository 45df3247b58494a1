// What a model is measured on: texts and pairs, read once, tokenized once for each pair of models.

import Calibration
import Checkpoints
public import CondenseInference
public import Drift
public import JSONDocuments
import Networks
import Tokenization

/// The texts and the protocol of a measurement.
public struct ValidationText: Sendable, Equatable {
  /// Files of text: windows of it for language models, a sentence a line for encoders; for networks over samples one
  /// array in NumPy's format; for speech recognizers WAV files, folders of them, or arrays of features.
  public var text: [String]
  /// Tokens of a window.
  public var context: Int
  /// Which predictions count.
  public var scoring: Scoring
  /// At most this many windows or sentences, from the start; nil takes all.
  public var windows: Int?
  /// A table of labelled sentence pairs, for encoders.
  public var pairs: String?
  /// The labels of an array of samples.
  public var labels: String?
  /// What is said in the recordings.
  public var transcripts: String?
  /// The recordings' language; nil lets a model tell it by itself.
  public var language: String?

  /// Texts with the usual protocol.
  public init(
    text: [String], context: Int = 256, scoring: Scoring = .all, windows: Int? = nil,
    pairs: String? = nil, labels: String? = nil, transcripts: String? = nil,
    language: String? = nil
  ) {
    self.transcripts = transcripts
    self.language = language
    self.labels = labels
    self.text = text
    self.context = context
    self.scoring = scoring
    self.windows = windows
    self.pairs = pairs
  }

  /// The hash of the files and the protocol.
  func contentHash() throws -> String {
    var hash = ContentHash()
    for path in try Recordings.files(text) { hash.update(try ContentHash.of(file: path)) }
    hash.update(try pairs.map { try ContentHash.of(file: $0) } ?? "")
    hash.update(try labels.map { try ContentHash.of(file: $0) } ?? "")
    hash.update(try transcripts.map { try ContentHash.of(file: $0) } ?? "")
    hash.update(language ?? "")
    hash.update("\(context) \(scoring.rawValue) \(windows ?? -1)")
    return hash.digits
  }

  /// The files' bytes.
  func read() throws -> [(path: String, bytes: [UInt8])] {
    var texts: [(path: String, bytes: [UInt8])] = []
    for path in text { texts.append((path, try FilePath.read(path))) }
    return texts
  }
}

/// What a model is and does on a text; one case a kind of model.
public enum MeasuredDrift: Sendable, Equatable {
  /// A language model's.
  case language(LanguageDrift)
  /// A text encoder's.
  case encoder(EmbeddingDrift)
  /// Of a network over samples.
  case samples(SampleDrift)
  /// Of a speech recognizer.
  case speech(SpeechDrift)

  /// The keys of `condense eval --json`.
  public var json: JSONValue {
    switch self {
    case .language(let drift): drift.json
    case .encoder(let drift): drift.json
    case .samples(let drift): drift.json
    case .speech(let drift): drift.json
    }
  }

  /// Reads what `json` gives; nil when it is something else.
  init?(json: JSONValue) {
    if let drift = SpeechDrift(json: json) {
      self = .speech(drift)
    } else if let drift = LanguageDrift(json: json) {
      self = .language(drift)
    } else if let drift = EmbeddingDrift(json: json) {
      self = .encoder(drift)
    } else if let drift = SampleDrift(json: json) {
      self = .samples(drift)
    } else {
      return nil
    }
  }
}

/// Measures models on a validation text, each compared with a reference.
public struct Measurement {
  private enum Evaluator {
    case language(LanguageEvaluator)
    case encoder(EmbeddingEvaluator)
    case samples(SampleEvaluator)
    case speech(SpeechMeasurement)
  }

  private let evaluator: Evaluator
  private let reference: Model?

  /// Reads and tokenizes the text with the tokenizer of `model`.
  ///
  /// - Parameter reference: The model to compare with; nil measures a model alone.
  public init(_ text: ValidationText, tokenizedFor model: Model, reference: Model?) throws {
    self.reference = reference
    if let network = model.network as? any SpeechRecognizer {
      try Self.refuse([text.pairs, text.labels], of: model, "pairs and labels")
      evaluator = .speech(try SpeechMeasurement(text, for: model))
      if let reference { try SpeechMeasurement.checkComparable(network, reference.network) }
      return
    }
    try Self.refuse([text.transcripts], of: model, "transcripts")
    if let network = model.network as? any SampleNetwork {
      evaluator = .samples(try Self.evaluator(text, of: network))
      if let reference { try Self.checkComparable(network, reference.network) }
      return
    }
    try Self.refuse([text.labels], of: model, "labels")
    let tokenizer = try model.requiredTokenizer()
    let vocabulary = try model.tokenNetwork().vocabularySize
    if let encoder = model.network as? any TextEncoder {
      let length = SentenceLength(of: encoder)
      var sentences: [[Int32]] = []
      for file in try text.read() {
        for line in String(decoding: file.bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        where sentences.count < text.windows ?? .max {
          let ids = SentenceTokens.ids(of: String(line), tokenizer: tokenizer, length: length)
          if let id = ids.first(where: { Int($0) >= vocabulary }) {
            throw TextError(path: file.path, .idOutsideVocabulary(id: id, vocabulary: vocabulary))
          }
          sentences.append(ids)
        }
      }
      if sentences.isEmpty, text.pairs == nil {
        throw TextError(path: text.text.joined(separator: ", "), .empty)
      }
      let pairs = try text.pairs.map {
        try SentencePairs.read($0, tokenizer: tokenizer, length: length)
      }
      evaluator = .encoder(EmbeddingEvaluator(sentences: sentences, pairs: pairs ?? []))
    } else {
      var windows = try TextWindows(
        texts: try text.read(), tokenizer: tokenizer, context: text.context,
        network: try model.tokenNetwork())
      if let limit = text.windows { windows = windows.first(limit) }
      evaluator = .language(LanguageEvaluator(windows: windows, scoring: text.scoring))
    }
    if let reference { try Self.checkComparable(model, reference) }
  }

  /// Files that say nothing of what a model does.
  private static func refuse(
    _ files: [String?], of model: Model, _ what: String
  ) throws(CheckpointError) {
    guard let path = files.lazy.compactMap({ $0 }).first else { return }
    throw CheckpointError(
      path: path, .unsupported("\(what) for a \(model.network.family) model"))
  }

  private static func evaluator(
    _ text: ValidationText, of network: any SampleNetwork
  ) throws -> SampleEvaluator {
    guard text.text.count == 1, text.pairs == nil else {
      throw CheckpointError(
        path: text.text.joined(separator: ", "),
        .badValue(
          found: "\(text.text.count) files for a \(network.family) network",
          expected: "one file of samples (.npy, or .npz for several inputs)"))
    }
    let samples = try SampleArray(path: text.text[0], for: network)
    if let path = text.labels { try LabelledSamples.checkTakesLabels(network, path: path) }
    return SampleEvaluator(
      samples: samples, limit: text.windows,
      labels: try text.labels.map {
        try SampleArray.labels(path: $0, count: samples.count, below: network.outputCount)
      })
  }

  private static func checkComparable(
    _ network: any SampleNetwork, _ reference: any Network
  ) throws(DriftError) {
    guard let other = reference as? any SampleNetwork else {
      throw .differentModels("one reads samples of numbers, the other tokens")
    }
    func names(_ inputs: [SampleInput]) -> String {
      inputs.map { "\($0.shape)" }.joined(separator: " and ")
    }
    guard network.inputs.map(\.shape) == other.inputs.map(\.shape),
      network.inputs.count == 1 || network.inputs.map(\.name) == other.inputs.map(\.name)
    else {
      throw .differentModels(
        "one reads \(names(network.inputs)), the other \(names(other.inputs))")
    }
    guard network.results.map(\.count) == other.results.map(\.count),
      network.results.map(\.isClassifier) == other.results.map(\.isClassifier)
    else {
      throw .differentModels(
        "one gives \(network.outputCount) numbers a sample, the other \(other.outputCount)")
    }
  }

  private static func checkComparable(_ model: Model, _ reference: Model) throws(DriftError) {
    if (model.network is any LanguageModel) != (reference.network is any LanguageModel) {
      throw .differentModels("one predicts tokens, the other embeds texts")
    }
    let own = try? model.tokenNetwork().vocabularySize
    let other = try? reference.tokenNetwork().vocabularySize
    guard let own, let other else {
      throw .differentModels("one reads tokens, the other samples of numbers")
    }
    guard own == other || !(model.network is any LanguageModel) else {
      throw .differentModels("vocabularies of \(own) and \(other) tokens")
    }
  }

  /// The drift of a model from the reference.
  public func drift(
    of model: Model, progress: (Double) -> Void = { _ in }
  ) throws -> MeasuredDrift {
    try drift(of: model, from: reference, progress: progress)
  }

  /// The drift of a model from another one.
  public func drift(
    of model: Model, from reference: Model?, progress: (Double) -> Void = { _ in }
  ) throws -> MeasuredDrift {
    switch evaluator {
    case .language(let evaluator):
      return .language(
        try evaluator.drift(
          of: try model.languageModel(), from: try reference?.languageModel(), progress: progress))
    case .encoder(let evaluator):
      return .encoder(
        try evaluator.drift(
          of: try model.textEncoder(), from: try reference?.textEncoder(), progress: progress))
    case .samples(let evaluator):
      return .samples(
        try evaluator.drift(
          of: try model.sampleNetwork(), from: try reference?.sampleNetwork(), progress: progress))
    case .speech(let measurement):
      return .speech(try measurement.drift(of: model, from: reference, progress: progress))
    }
  }
}

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
  /// Files of text: windows of it for language models, a sentence a line for encoders.
  public var text: [String]
  /// Tokens of a window.
  public var context: Int
  /// Which predictions count.
  public var scoring: Scoring
  /// At most this many windows or sentences, from the start; nil takes all.
  public var windows: Int?
  /// A table of labelled sentence pairs, for encoders.
  public var pairs: String?

  /// Texts with the usual protocol.
  public init(
    text: [String], context: Int = 256, scoring: Scoring = .all, windows: Int? = nil,
    pairs: String? = nil
  ) {
    self.text = text
    self.context = context
    self.scoring = scoring
    self.windows = windows
    self.pairs = pairs
  }

  /// The hash of the files and the protocol.
  func contentHash() throws -> String {
    var hash = ContentHash()
    for path in text { hash.update(try ContentHash.of(file: path)) }
    hash.update(try pairs.map { try ContentHash.of(file: $0) } ?? "")
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

  /// The keys of `condense eval --json`.
  public var json: JSONValue {
    switch self {
    case .language(let drift): drift.json
    case .encoder(let drift): drift.json
    }
  }

  /// Reads what `json` gives; nil when it is something else.
  init?(json: JSONValue) {
    if let drift = LanguageDrift(json: json) {
      self = .language(drift)
    } else if let drift = EmbeddingDrift(json: json) {
      self = .encoder(drift)
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
  }

  private let evaluator: Evaluator
  private let reference: Model?

  /// Reads and tokenizes the text with the tokenizer of `model`.
  ///
  /// - Parameter reference: The model to compare with; nil measures a model alone.
  public init(_ text: ValidationText, tokenizedFor model: Model, reference: Model?) throws {
    self.reference = reference
    let tokenizer = try model.requiredTokenizer()
    let vocabulary = model.network.vocabularySize
    if let encoder = model.network as? any TextEncoder {
      let limit = encoder.maximumTokens
      var sentences: [[Int32]] = []
      for file in try text.read() {
        for line in String(decoding: file.bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        where sentences.count < text.windows ?? .max {
          let ids = SentenceTokens.ids(of: String(line), tokenizer: tokenizer, limit: limit)
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
        try SentencePairs.read($0, tokenizer: tokenizer, limit: limit)
      }
      evaluator = .encoder(EmbeddingEvaluator(sentences: sentences, pairs: pairs ?? []))
    } else {
      var windows = try TextWindows(
        texts: try text.read(), tokenizer: tokenizer, context: text.context,
        network: model.network)
      if let limit = text.windows { windows = windows.first(limit) }
      evaluator = .language(LanguageEvaluator(windows: windows, scoring: text.scoring))
    }
    if let reference { try Self.checkComparable(model, reference) }
  }

  private static func checkComparable(_ model: Model, _ reference: Model) throws(DriftError) {
    if (model.network is any LanguageModel) != (reference.network is any LanguageModel) {
      throw .differentModels("one predicts tokens, the other embeds texts")
    }
    let own = model.network.vocabularySize, other = reference.network.vocabularySize
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
    }
  }
}

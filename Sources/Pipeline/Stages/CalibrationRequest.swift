// The calibration text of a stage: read, tokenized, chosen and hashed.

import Calibration
import Checkpoints
import CondenseInference
import JSONDocuments
import Networks
import Tensors

/// The texts and how much of them.
public struct CalibrationRequest: Sendable, Equatable {
  /// Files of text; encoders read a sentence a line. `selfWritten` alone lets the model write its own. For networks over
  /// samples: arrays in NumPy's formats. For speech recognizers: WAV files, folders of them, or arrays of features.
  public var text: [String]
  /// What is said in the recordings; nil lets the model write it down.
  public var transcripts: String?
  /// Tokens that are asked for.
  public var tokens: Int
  /// Tokens of a window, for language models.
  public var context: Int
  /// Of the choice of windows, or of samples.
  public var seed: Int
  /// Samples that are asked for, where the model reads such.
  public var samples: Int

  /// A request.
  public init(
    text: [String], tokens: Int = 65536, context: Int = 256, seed: Int = 0, samples: Int = 512,
    transcripts: String? = nil
  ) {
    self.transcripts = transcripts
    self.samples = samples
    self.text = text
    self.tokens = tokens
    self.context = context
    self.seed = seed
  }

  /// In place of files: text that the model writes.
  public static let selfWritten = ["self"]

  /// What is read of the texts.
  struct Loaded {
    let set: CalibrationSet
    /// Text that the set leaves out, at most as much; nil when it takes all.
    let rest: CalibrationSet?
    /// The names of the files, in order, with their hashes.
    let files: [(name: String, hash: String)]
  }

  /// The set for a model.
  func load(
    for model: Model, progress: (String, Double) -> Void = { _, _ in }
  ) throws -> Loaded {
    if model.network is any SpeechRecognizer { return try loadRecordings(for: model, progress) }
    if let transcripts {
      throw CheckpointError(
        path: transcripts,
        .unsupported("transcripts for a \(model.network.family) model, which reads no recordings"))
    }
    if let network = model.network as? any SampleNetwork { return try loadSamples(for: network) }
    if text == Self.selfWritten { return try write(with: model, progress) }
    var texts: [(path: String, bytes: [UInt8])] = []
    for path in text { texts.append((path, try FilePath.read(path))) }
    let tokenizer = try model.requiredTokenizer()
    let set: CalibrationSet, rest: CalibrationSet?
    if let encoder = model.network as? any TextEncoder {
      set = try CalibrationSet(
        lines: texts, tokenizer: tokenizer, length: SentenceLength(of: encoder),
        vocabulary: encoder.vocabularySize, tokens: tokens, seed: UInt64(seed))
      rest = try CalibrationSet(
        lines: texts, tokenizer: tokenizer, length: SentenceLength(of: encoder),
        vocabulary: encoder.vocabularySize, tokens: .max / 2, seed: UInt64(seed)
      ).without(set, tokens: Self.restTokens)
    } else {
      let windows = try TextWindows(
        texts: texts, tokenizer: tokenizer, context: context,
        network: try model.tokenNetwork())
      set = CalibrationSet(windows: windows, tokens: tokens, seed: UInt64(seed))
      rest = CalibrationSet(windows: windows, tokens: .max / 2, seed: UInt64(seed))
        .without(set, tokens: Self.restTokens)
    }
    return Loaded(
      set: set, rest: rest,
      files: texts.map { (FilePath.name(of: $0.path), ContentHash.of($0.bytes)) })
  }

  /// Samples out of arrays, at random, and as many others for measuring as there are, up to a limit.
  private func loadSamples(for network: any SampleNetwork) throws -> Loaded {
    guard text != Self.selfWritten else {
      throw CheckpointError(
        path: Self.selfWritten[0],
        .unsupported("a \(network.family) network that writes its own samples"))
    }
    var arrays: [SampleArray] = []
    for path in text { arrays.append(try SampleArray(path: path, for: network)) }
    let places = arrays.enumerated().flatMap { index, array in (0..<array.count).map { (index, $0) }
    }
    var stream = RandomStream(seed: UInt64(seed), name: "calibration")
    let order = stream.permutation(places.count)
    func set(_ chosen: ArraySlice<Int>, asked: Int) -> CalibrationSet {
      let parts = chosen.sorted().map { index in
        let (array, sample) = places[index]
        return arrays[array].features(sample..<sample + 1, network.normalization)
      }
      return CalibrationSet(samples: SampleSet(Matrix.stack(parts), for: network), asked: asked)
    }
    let rest = order.dropFirst(samples).prefix(Self.restSamples)
    return Loaded(
      set: set(order.prefix(samples), asked: samples),
      rest: rest.isEmpty ? nil : set(rest, asked: rest.count),
      files: try Self.hashed(text))
  }

  static func hashed(_ paths: [String]) throws -> [(name: String, hash: String)] {
    try paths.map { (FilePath.name(of: $0), try ContentHash.of(file: $0)) }
  }

  /// Lets a model write windows for calibration, and more for measuring.
  private func write(
    with model: Model, _ progress: (String, Double) -> Void
  ) throws -> Loaded {
    let network = try model.languageModel()
    let length = min(context, network.contextLimit)
    var special: Set<Int32> = []
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
      let value = model.checkpoint.configuration[key]
      for id in value?.array ?? (value.map { [$0] } ?? []) {
        if let id = id.integer { special.insert(Int32(clamping: id)) }
      }
    }
    let own = max(1, tokens / length), rest = max(1, min(Self.restTokens, tokens) / length)
    let all = SelfWrittenText.sequences(
      of: network, count: own + rest, length: length, avoiding: special, seed: UInt64(seed)
    ) { progress("write calibration text", $0) }
    var hash = ContentHash()
    for sequence in all { hash.update(sequence.map(String.init).joined(separator: " ")) }
    return Loaded(
      set: CalibrationSet(sequences: Array(all.prefix(own)), tokensAsked: tokens),
      rest: CalibrationSet(sequences: Array(all.dropFirst(own)), tokensAsked: tokens),
      files: [(Self.selfWritten[0], hash.digits)])
  }

  /// Tokens of the text left out that are kept for measuring.
  private static let restTokens = 16384
  /// Samples left out that are kept for measuring.
  private static let restSamples = 256

  /// What the lineage says of it.
  func json(_ set: CalibrationSet, files: [(name: String, hash: String)]) -> JSONValue {
    var object = JSONObject()
    object["files"] = .array(
      files.map { ["name": .string($0.name), "sha256": .string($0.hash)] })
    let unit = set.unit
    object["\(unit)_asked"] = .integer(set.tokensAsked)
    object["\(unit)_used"] = .integer(set.tokensUsed)
    if set.samples == nil { object["context"] = .integer(context) }
    object["seed"] = .integer(seed)
    return .object(object)
  }
}

extension CalibrationSet {
  /// What is counted: `tokens` or `samples`.
  var unit: String { samples == nil ? "tokens" : "samples" }
}

// What `distill` is asked to do.

public import Distillation
import Encodings
public import JSONDocuments
public import Networks

/// How a student starts.
public enum StudentStart: String, Sendable, CaseIterable {
  /// As the input is.
  case input
  /// Random weights of the input's shapes, for comparison.
  case random
}

/// The options of a distillation.
public struct DistillRequest: Sendable, Equatable {
  /// Teacher logs.
  public var logs: [String] = []
  /// Texts, where there are no logs.
  public var text: [String] = []
  /// Arrays of samples, for networks over such.
  public var images: [String] = []
  /// The labels of `images`, a file each; empty without labels.
  public var labels: [String] = []
  /// How views of samples differ from them; of a log, its own.
  public var augmentation: SampleAugmentation?
  /// Tokens of a window of the texts.
  public var context = 256
  /// A checkpoint that runs beside the student; nil for none.
  public var teacher: String?
  /// What is trained.
  public var parts = TrainedParts.all
  /// The encoding that float weights of the branches get before `quantized` training; nil for none.
  public var encoding: String?
  /// Of adapters.
  public var rank = 16
  /// Of adapters: α; the rank when nil.
  public var alpha: Double?
  /// Weights that are zero stay zero.
  public var keepsZeros = false
  /// How the student starts.
  public var start = StudentStart.input
  /// A configuration with fewer layers, for which the input's layers are taken evenly; nil keeps them all.
  public var studentConfiguration: String?
  /// Tunes each block to give what the teacher's block gives, instead of training the whole; nil trains the whole.
  public var blocks: BlockOptions?
  /// Tokens of the text that blocks are tuned on.
  public var blockTokens = 32768
  /// The length and the manner of training.
  public var training = TrainingOptions()

  /// A request with the defaults.
  public init() {}

  /// The resolved options that the result depends on, files left out: they count by their hashes.
  public var json: JSONValue {
    var object = JSONObject()
    object["train"] = .string(parts.rawValue)
    if parts == .adapters {
      object["rank"] = .integer(rank)
      object["alpha"] = .number(alpha ?? Double(rank))
    }
    if let encoding { object["encoding"] = .string(encoding) }
    object["keep-zeros"] = .bool(keepsZeros)
    object["start"] = .string(start.rawValue)
    if !images.isEmpty {
      object["augmentation"] = augmentation.map { .string($0.description) } ?? .null
    } else if logs.isEmpty {
      object["context"] = .integer(context)
    }
    if let blocks {
      object["blockwise"] = [
        "tokens": .integer(blockTokens), "passes": .integer(blocks.passes),
        "batch": .integer(blocks.batch), "learning-rate": .number(blocks.learningRate),
        "scale-rate": .number(blocks.scaleRate), "optimizer": .string(blocks.optimizer.rawValue),
        "seed": .integer(Int(blocks.seed)),
      ]
      return .object(object)
    }
    for member in training.json.object?.members ?? [] { object[member.key] = member.value }
    return .object(object)
  }

  /// What is compared where nobody says it: all that is known of a teacher, or else right answers.
  public var impliedTargets: DistillationTargets {
    guard images.isEmpty else { return logs.isEmpty && teacher == nil ? .labels : .full }
    return !logs.isEmpty ? .samples : teacher != nil ? .full : .text
  }

  /// Refuses options that contradict each other.
  public func check() throws(DistillRequestError) {
    if !images.isEmpty { return try checkSamples() }
    guard logs.isEmpty != text.isEmpty else { throw .oneSource(hasBoth: !logs.isEmpty) }
    guard labels.isEmpty, augmentation == nil, training.epochs == nil else {
      throw .needs("labels, augmentation or epochs", "images")
    }
    guard training.targets != .labels else { throw .needs("targets labels", "images and labels") }
    if blocks != nil {
      guard teacher != nil else {
        throw .needs("blockwise", "a teacher, whose blocks are compared")
      }
      guard logs.isEmpty else { throw .needs("blockwise", "text instead of logs") }
      guard parts != .adapters else { throw .needs("blockwise", "train: all, scales or quantized") }
    }
    let targets = training.targets
    if targets == .full, teacher == nil, blocks == nil { throw .needs("targets full", "a teacher") }
    let isOfLog = targets == .samples || targets == .topK || targets == .topKRenormalized
    if isOfLog, logs.isEmpty, blocks == nil {
      throw .needs("targets \(targets.rawValue)", "a teacher log")
    }
    if training.divergence != .forward, targets == .samples {
      throw .needs(
        "the divergence \(training.divergence.name)",
        "targets full or top-k: samples estimate the forward divergence alone")
    }
    if targets == .text, !logs.isEmpty, training.representations.isEmpty, teacher == nil {
      throw .needs("targets text", "text instead of logs")
    }
    if encoding != nil, parts != .quantized { throw .needs("an encoding", "train: quantized") }
    if start == .random, parts != .all { throw .needs("a random start", "train: all") }
    let sources = logs.count + text.count
    if !training.sourceWeights.isEmpty, training.sourceWeights.count != sources {
      throw .weights(found: training.sourceWeights.count, sources: sources)
    }
  }

  /// The same for samples.
  private func checkSamples() throws(DistillRequestError) {
    guard text.isEmpty else { throw .notForSamples("text") }
    guard logs.count <= 1 else { throw .notForSamples("more than one log") }
    guard logs.isEmpty || teacher == nil || parts == .quantized else {
      throw .notForSamples("a log and a teacher at once")
    }
    guard blocks == nil else { throw .notForSamples("blockwise") }
    guard training.representations.isEmpty else { throw .notForSamples("streams and relations") }
    guard training.sourceWeights.isEmpty else { throw .notForSamples("source weights") }
    guard studentConfiguration == nil else { throw .notForSamples("a student's configuration") }
    guard !training.recomputes else { throw .notForSamples("recompute") }
    guard labels.isEmpty || labels.count == images.count else {
      throw .labels(found: labels.count, images: images.count)
    }
    if augmentation != nil, !logs.isEmpty {
      throw .needs("augmentation", "no log, which has its own")
    }
    switch training.targets {
    case .full:
      guard !logs.isEmpty || teacher != nil else {
        throw .needs("targets full", "a log of samples or a teacher")
      }
    case .labels:
      guard !labels.isEmpty else { throw .needs("targets labels", "labels") }
    case .samples, .topK, .topKRenormalized, .text:
      throw .notForSamples("targets \(training.targets.rawValue)")
    }
    let hasLabelLoss = training.targets == .labels || training.textWeight > 0
    if training.textWeight > 0, labels.isEmpty { throw .needs("a label weight", "labels") }
    if hasLabelLoss, augmentation?.mixes == true {
      throw .needs("the augmentation mix", "a teacher alone: a mixed picture has no label")
    }
    if encoding != nil, parts != .quantized { throw .needs("an encoding", "train: quantized") }
    if start == .random, parts != .all { throw .needs("a random start", "train: all") }
  }
}

/// Why a distillation cannot be asked for like this.
public enum DistillRequestError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Logs and text, or neither.
  case oneSource(hasBoth: Bool)
  /// What does nothing for networks over samples.
  case notForSamples(String)
  /// Another number of files of labels than of samples.
  case labels(found: Int, images: Int)
  /// Images for a network that reads something else.
  case notOverSamples(family: String)
  /// A random start where the statistics of norms belong to the weights.
  case fixedStatistics(family: String)
  /// An option without what it needs.
  case needs(String, String)
  /// Another number of weights than of sources.
  case weights(found: Int, sources: Int)
  /// An encoding that cannot be trained.
  case encoding(String)
  /// A configuration that differs from the input's in more than its layers.
  case configuration(key: String, found: String, expected: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .oneSource(let hasBoth):
      hasBoth
        ? "logs and text exclude each other: a log holds its text"
        : "nothing to learn from: give --logs FILE.h5 (condense teacher-log), --text FILE or --images FILE.npy"
    case .notForSamples(let what): "\(what) does not go with images"
    case .labels(let found, let images):
      "\(found) files of labels for \(images) of images; give one each"
    case .notOverSamples(let family):
      "a \(family) model does not read images; give --text or --logs"
    case .fixedStatistics(let family):
      "a random start of a \(family) network: the statistics of its norms are those of the trained weights"
    case .needs(let what, let need): "\(what) needs \(need)"
    case .weights(let found, let sources):
      "\(found) weights for \(sources) logs or texts; give one each"
    case .encoding(let name):
      "the encoding '\(name)' cannot be trained; intB-gN, intB-channel, TQ1_0 and TQ2_0 can"
    case .configuration(let key, let found, let expected):
      "the student's configuration says \(key) \(found); the input has \(expected), and only the number of layers may be "
        + "less (condense prune makes other sizes smaller)"
    }
  }
}

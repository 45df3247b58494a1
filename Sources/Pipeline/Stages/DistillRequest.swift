// What `distill` is asked to do.

public import Distillation
import Encodings
public import JSONDocuments

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
    if logs.isEmpty { object["context"] = .integer(context) }
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

  /// Refuses options that contradict each other.
  public func check() throws(DistillRequestError) {
    guard logs.isEmpty != text.isEmpty else { throw .oneSource(hasBoth: !logs.isEmpty) }
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
}

/// Why a distillation cannot be asked for like this.
public enum DistillRequestError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Logs and text, or neither.
  case oneSource(hasBoth: Bool)
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
        : "nothing to learn from: give --logs FILE.h5 (condense teacher-log), or --text FILE"
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

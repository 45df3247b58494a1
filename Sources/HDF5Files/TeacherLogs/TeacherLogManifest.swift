// What a teacher log says of itself: who spoke, over which tokens, and what was written down.

public import Checkpoints
public import JSONDocuments

/// The manifest of a teacher log.
public struct TeacherLogManifest: Sendable, Equatable {
  /// Where the probabilities come from.
  public enum Source: String, Sendable, CaseIterable {
    /// A model that ran here: every probability was there to be logged.
    case model
    /// A server: what it chose to list.
    case api
  }

  /// The version of the layout that this program writes and reads.
  public static let currentVersion = 1

  /// The version of the layout.
  public var version = Self.currentVersion
  /// Where the probabilities come from.
  public var source: Source
  /// The teacher as people call it: a file's name or a server's model.
  public var teacher: String
  /// SHA-256 of the teacher's weights and configuration; of an API's model name.
  public var teacherHash: String
  /// SHA-256 of the bytes that the ids stand for: `tokenizerHash` of Pipeline.
  public var tokenizerHash: String
  /// Ids are below this.
  public var vocabulary: Int
  /// SHA-256 of the chat template; nil when no template was applied.
  public var templateHash: String?
  /// SHA-256 of the texts.
  public var textHash: String
  /// SHA-256 of the windows' tokens in their order.
  public var orderHash = ""
  /// Tokens of a window; of an API's log, of the longest one.
  public var context: Int
  /// Tokens of the list of the most probable ones, k.
  public var topCount: Int
  /// Samples a row; 0 when none were drawn.
  public var sampleCount: Int
  /// The temperature at which samples were drawn. Everything else is at temperature 1.
  public var temperature: Double
  /// The seed of the samples.
  public var seed: Int
  /// How finely log-probabilities and entropies are stored: `TeacherLogSteps`.
  public var resolution = 640
  /// Tokens of all windows.
  public var tokens = 0
  /// Logged predictions of all windows.
  public var rows = 0
  /// Windows.
  public var windows = 0
  /// Layers whose outputs are logged, ascending: 0 is the embedding, l the stream after l layers.
  public var hiddenLayers: [Int] = []
  /// Values of a hidden state; 0 without hidden layers.
  public var hiddenWidth = 0
  /// Whether rows carry the probability that is in no listed token.
  public var hasOtherMass: Bool { source == .api }

  /// A manifest of a log that is to be written; the writer counts tokens, rows and windows.
  public init(
    source: Source, teacher: String, teacherHash: String, tokenizerHash: String, vocabulary: Int,
    templateHash: String? = nil, textHash: String, context: Int, topCount: Int = 8,
    sampleCount: Int = 50, temperature: Double = 1, seed: Int = 0, hiddenLayers: [Int] = [],
    hiddenWidth: Int = 0
  ) {
    self.source = source
    self.teacher = teacher
    self.teacherHash = teacherHash
    self.tokenizerHash = tokenizerHash
    self.vocabulary = vocabulary
    self.templateHash = templateHash
    self.textHash = textHash
    self.context = context
    self.topCount = topCount
    self.sampleCount = sampleCount
    self.temperature = temperature
    self.seed = seed
    self.hiddenLayers = hiddenLayers
    self.hiddenWidth = hiddenWidth
  }

  /// The manifest as the file holds it.
  public var json: JSONValue {
    [
      "version": .integer(version), "source": .string(source.rawValue),
      "teacher": .string(teacher), "teacher_sha256": .string(teacherHash),
      "tokenizer_sha256": .string(tokenizerHash), "vocabulary": .integer(vocabulary),
      "template_sha256": templateHash.map { .string($0) } ?? .null,
      "text_sha256": .string(textHash), "order_sha256": .string(orderHash),
      "context": .integer(context), "top_k": .integer(topCount),
      "samples": .integer(sampleCount), "temperature": .number(temperature),
      "seed": .integer(seed), "resolution": .integer(resolution), "tokens": .integer(tokens),
      "rows": .integer(rows),
      "windows": .integer(windows),
      "hidden_layers": .array(hiddenLayers.map { .integer($0) }),
      "hidden_width": .integer(hiddenWidth),
    ]
  }

  /// Reads what `json` gives, and checks it.
  public init(json: JSONValue) throws(CheckpointError.Problem) {
    let reader = LogManifestReader(json: json)
    version = try reader.integer("version", 1...Int(Int32.max))
    guard version == Self.currentVersion else {
      throw .unsupported(
        "version \(version) of teacher logs (this program reads \(Self.currentVersion))")
    }
    guard let source = Source(rawValue: try reader.text("source")) else {
      throw .badValue(found: "source '\(try reader.text("source"))'", expected: "model or api")
    }
    self.source = source
    teacher = try reader.text("teacher")
    teacherHash = try reader.text("teacher_sha256")
    tokenizerHash = try reader.text("tokenizer_sha256")
    vocabulary = try reader.integer("vocabulary", 1...Int(Int32.max))
    templateHash = json["template_sha256"]?.string
    textHash = try reader.text("text_sha256")
    orderHash = try reader.text("order_sha256")
    context = try reader.integer("context", 1...1 << 24)
    topCount = try reader.integer("top_k", 0...Self.topLimit)
    sampleCount = try reader.integer("samples", 0...Self.sampleLimit)
    guard let temperature = json["temperature"]?.number, temperature > 0, temperature.isFinite
    else { throw .missing(key: "temperature", expected: "a number above 0") }
    self.temperature = temperature
    seed = try reader.integer("seed", Int.min...Int.max)
    resolution = try reader.integer("resolution", 1...4096)
    tokens = try reader.integer("tokens", 0...1 << 48)
    rows = try reader.integer("rows", 0...1 << 48)
    windows = try reader.integer("windows", 0...1 << 40)
    hiddenWidth = try reader.integer("hidden_width", 0...1 << 24)
    guard let layers = json["hidden_layers"]?.array?.compactMap(\.integer),
      layers == Set(layers).sorted(), layers.allSatisfy({ (0...1 << 16).contains($0) }),
      layers.isEmpty == (hiddenWidth == 0)
    else { throw .missing(key: "hidden_layers", expected: "a list of layers, ascending") }
    hiddenLayers = layers
  }

  /// The longest list of most probable tokens.
  public static let topLimit = 256
  /// The most samples a row: a count is two bytes.
  public static let sampleLimit = 65_535
}

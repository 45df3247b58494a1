// What a recipe says of calibration and validation.

/// Which tokens of a window are scored.
public enum ScoredTokens: String, Sendable, CaseIterable {
  /// Every token but the first.
  case all
  /// Only predictions that have at least half a window before them.
  case half
}

/// The text that statistics of layer inputs are taken from.
public struct CalibrationOptions: Sendable, Equatable {
  /// Text files, in this order.
  public var text: [Located<String>] = []
  /// In place of text: arrays of samples.
  public var images: [Located<String>] = []
  /// In place of text: recordings.
  public var audio: [Located<String>] = []
  /// What is said in the recordings.
  public var transcripts: Located<String>?
  /// At most this many samples are used.
  public var samples = 512
  /// The model writes the text itself.
  public var selfWritten = false
  /// At most this many tokens are used.
  public var tokens = 65_536
  /// Tokens a window.
  public var context = 256
  /// Chooses the windows when there are more than `tokens` asks for.
  public var seed = 0

  /// The defaults; a recipe must give `text`, `images`, `audio` or `self-written: true`.
  public init() {}
}

/// A named part of the validation text with a row of its own in the report.
public struct ValidationSlice: Sendable, Equatable {
  /// The name in the report and in a gate.
  public var name: Located<String>
  /// Text files, in this order.
  public var text: [Located<String>]

  /// A slice.
  public init(name: Located<String>, text: [Located<String>]) {
    self.name = name
    self.text = text
  }
}

/// The text that drift is measured on.
public struct ValidationOptions: Sendable, Equatable {
  /// Text files, in this order.
  public var text: [Located<String>] = []
  /// In place of text: an array of samples.
  public var images: [Located<String>] = []
  /// The samples' labels.
  public var labels: Located<String>?
  /// In place of text: recordings.
  public var audio: [Located<String>] = []
  /// What is said in the recordings.
  public var transcripts: Located<String>?
  /// The recordings' language; `nil` when the model tells it.
  public var language: Located<String>?
  /// Tokens a window.
  public var context = 256
  /// Which tokens of a window are scored.
  public var score = ScoredTokens.all
  /// At most this many windows, from the start; `nil` for all.
  public var windows: Int?
  /// For encoders: a CSV file with the columns sentence1, sentence2 and score.
  public var pairs: Located<String>?
  /// Parts with rows and gates of their own.
  public var slices: [ValidationSlice] = []

  /// The defaults; a recipe must give `text`, `images` or `audio`.
  public init() {}
}

extension RecipeSection where Root == CalibrationOptions {
  static let calibration = RecipeSection(
    title: "calibration", make: CalibrationOptions.init,
    fields: [
      .init(
        "text", \.text, .list(.path, of: "paths", atLeast: 0),
        "Text files to take calibration tokens from, in this order."),
      .init(
        "images", \.images, .list(.path, of: "paths", atLeast: 0),
        "In place of text, for networks over pictures or other samples: arrays (`.npy`, `.npz`)."),
      .init(
        "audio", \.audio, .list(.path, of: "paths", atLeast: 0),
        "In place of text, for speech recognizers: WAV files, folders of them, or arrays of features (`.npy`)."
      ),
      .init(
        "transcripts", \.transcripts, .optional(.path),
        "What is said in `audio`, a line a recording: its file's name, a tab, the text. The model writes it when absent."
      ),
      .init(
        "samples", \.samples, .integer(1...1_000_000_000),
        "At most this many samples of `images`, or windows of `audio`, are used."),
      .init(
        "self-written", \.selfWritten, .flag,
        "In place of text: the model writes it, from random first tokens on."),
      .init(
        "tokens", \.tokens, .integer(1...1_000_000_000), "At most this many tokens are used."),
      .init("context", \.context, .integer(2...1_048_576), "Tokens a window."),
      .init(
        "seed", \.seed, .integer(0...Int.max),
        "Chooses the windows when the text has more than `tokens`."),
    ])
}

extension RecipeSection where Root == ValidationOptions {
  static let validation = RecipeSection(
    title: "validation", make: ValidationOptions.init,
    fields: [
      .init(
        "text", \.text, .list(.path, of: "paths", atLeast: 0),
        "Text files that drift is measured on, in this order."),
      .init(
        "images", \.images, .list(.path, of: "paths", atLeast: 0),
        "In place of text, for networks over pictures or other samples: one array (`.npy`, `.npz`)."
      ),
      .init(
        "labels", \.labels, .optional(.path),
        "The right labels of `images`, an array of integers (`.npy`), for the accuracy."),
      .init(
        "audio", \.audio, .list(.path, of: "paths", atLeast: 0),
        "In place of text, for speech recognizers: WAV files, folders of them, or arrays of features (`.npy`)."
      ),
      .init(
        "transcripts", \.transcripts, .optional(.path),
        "What is said in `audio`, a line a recording: its file's name, a tab, the text; for the word error rate."
      ),
      .init(
        "language", \.language, .optional(.located("the code of a language")),
        "The language of `audio`, such as `en`; the model tells it when absent."),
      .init("context", \.context, .integer(2...1_048_576), "Tokens a window."),
      .init(
        "score", \.score, .choice(),
        "Which tokens of a window are scored: all but the first, or those of the second half."),
      .init(
        "windows", \.windows, .optional(.integer(1...1_000_000_000)),
        "At most this many windows, from the start; all when absent."),
      .init(
        "pairs", \.pairs, .optional(.path),
        "For encoders: a CSV file with the columns sentence1, sentence2 and score."),
      .init(
        "slices", \.slices,
        .map(
          .list(.path, of: "paths", atLeast: 1), keys: "slice name",
          checkKey: RecipeCodec<Located<String>>.isName,
          make: { ValidationSlice(name: $0, text: $1) }, split: { ($0.name.value, $0.text) }),
        "Named parts of the validation text, each with its own row and its own gate."),
    ])
}

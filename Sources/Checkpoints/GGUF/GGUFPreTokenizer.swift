// The ways to cut text before byte-level BPE, by the names that GGUF files use for them.
//
// Source   names: `tokenizer.ggml.pre` in llama.cpp (src/llama-vocab.cpp); patterns: the tokenizer.json of the
//          models that each name stands for
// Checked  GGUFTokenizerTests: ids equal those of the source's tokenizer.json and of llama-tokenize

public import JSONDocuments

/// One way to cut text into words.
public struct GGUFPreTokenizer: Sendable {
  /// One step: every word is cut further.
  enum Step: Sendable, Equatable {
    /// GPT-2's own pattern.
    case gpt2
    /// Each digit for itself.
    case digits
    /// Runs of punctuation.
    case punctuation
    /// Matches of a pattern and what is between them.
    case matches(String)
  }

  /// The name that is written.
  public let name: String
  /// Other names of the same steps.
  let aliases: [String]
  let steps: [Step]
  /// Words that are tokens are not merged.
  let ignoresMerges: Bool
  /// Text is brought to NFC first.
  let normalizes: Bool

  private init(
    _ name: String, _ aliases: [String] = [], _ steps: [Step], ignoresMerges: Bool = false,
    normalizes: Bool = false
  ) {
    self.name = name
    self.aliases = aliases
    self.steps = steps
    self.ignoresMerges = ignoresMerges
    self.normalizes = normalizes
  }

  private static let contractions = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)"#
  private static let spaces = #"|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static func words(digits: String) -> String {
    contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|"# + digits + #"| ?[^\s\p{L}\p{N}]+[\r\n]*"#
      + spaces
  }
  private static let cased =
    #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"#
  private static let capitals =
    #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"#

  /// All that are known.
  static let all: [GGUFPreTokenizer] = [
    .init(
      "gpt-2",
      [
        "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais", "roberta-bpe", "exaone4", "mellum",
        "modern-bert", "trillion", "granite-docling",
      ], [.gpt2]),
    .init(
      "llama-bpe",
      ["llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
      [.matches(words(digits: #"\p{N}{1,3}"#))], ignoresMerges: true),
    .init("dbrx", ["smaug-bpe", "chatglm-bpe"], [.matches(words(digits: #"\p{N}{1,3}"#))]),
    .init("glm4", ["glm5"], [.matches(words(digits: #"\p{N}{1,3}"#))], ignoresMerges: true),
    .init(
      "qwen2", ["deepseek-r1-qwen", "megrez", "kormo", "hunyuan"],
      [.matches(words(digits: #"\p{N}"#))], normalizes: true),
    .init("stablelm2", ["grok-2"], [.matches(words(digits: #"\p{N}"#))]),
    .init(
      "qwen35", [],
      [
        .matches(
          contractions + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"#
            + spaces)
      ], normalizes: true),
    .init(
      "smollm", ["starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
      [.digits, .gpt2]),
    .init(
      "tekken", [],
      [
        .matches(
          cased + "|" + capitals + #"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"# + spaces)
      ], ignoresMerges: true),
    .init(
      "gpt-4o", ["llama4", "kanana2"],
      [
        .matches(
          cased + contractions + "?|" + capitals + contractions
            + #"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"# + spaces)
      ]),
    .init(
      "seed-coder", [],
      [
        .matches(
          contractions
            + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"# + spaces)
      ]),
    .init(
      "deepseek-coder", [],
      [
        .matches(#"[\r\n]"#), .matches(#"\s?\p{L}+"#), .matches(#"\s?\p{P}+"#),
        .matches(#"[一-龥ࠀ-一가-퟿]+"#), .matches(#"\p{N}"#),
      ]),
    .init(
      "deepseek-v3", ["hunyuan-dense", "joyai-llm"],
      [
        .matches(#"\p{N}{1,3}"#), .matches(#"[一-龥぀-ゟ゠-ヿ]+"#),
        .matches(
          ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"##
            + #"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"# + spaces),
      ]),
    .init(
      "falcon", [],
      [.punctuation, .gpt2, .matches(#"[0-9][0-9][0-9]"#)]),
    .init("bloom", ["poro-chat", "gpt3-finnish"], [.matches(#" ?[^(\s|.,!?…。，、।۔،)]+"#)]),
    .init(
      "viking", [], [.matches(#" ?[^(\s|.,!?…。，、।۔،)]+"#), .matches(#"\p{N}"#)]),
  ]

  /// The one that a file names; nil for one that is not known.
  public static func named(_ name: String) -> GGUFPreTokenizer? {
    all.first { $0.name == name || $0.aliases.contains(name) }
  }

  /// The one that does what a tokenizer.json's `pre_tokenizer` does; nil when none does.
  public static func matching(
    _ preTokenizer: JSONValue, ignoresMerges: Bool
  ) -> GGUFPreTokenizer? {
    guard let steps = steps(of: preTokenizer) else { return nil }
    let equal = all.filter { $0.steps == steps }
    return equal.first { $0.ignoresMerges == ignoresMerges } ?? equal.first
  }

  /// The steps of a `pre_tokenizer`; nil when it has others.
  private static func steps(of json: JSONValue) -> [Step]? {
    switch json["type"]?.string {
    case "Sequence":
      var all: [Step] = []
      for part in json["pretokenizers"]?.array ?? [] {
        guard let steps = steps(of: part) else { return nil }
        all += steps
      }
      return all
    case "ByteLevel":
      guard json["add_prefix_space"]?.bool != true else { return nil }
      return json["use_regex"]?.bool == false ? [] : [.gpt2]
    case "Digits": return json["individual_digits"]?.bool == true ? [.digits] : nil
    case "Punctuation": return [.punctuation]
    case "Split":
      guard let pattern = json["pattern"]?["Regex"]?.string, json["invert"]?.bool != true,
        json["behavior"]?.string == "Isolated"
      else { return nil }
      return [.matches(pattern)]
    default: return nil
    }
  }

  /// The `pre_tokenizer` of a tokenizer.json.
  var json: JSONValue {
    let usesOwn = steps.last == .gpt2
    var parts: [JSONValue] = (usesOwn ? steps.dropLast() : steps[...]).map { step in
      switch step {
      case .gpt2: Self.byteLevel(usesPattern: true)
      case .digits: ["type": "Digits", "individual_digits": true]
      case .punctuation: ["type": "Punctuation", "behavior": "Contiguous"]
      case .matches(let pattern):
        [
          "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
          "invert": false,
        ]
      }
    }
    // Bytes become letters in the last step: patterns before it must see the text as it is.
    if let inner = parts.firstIndex(of: Self.byteLevel(usesPattern: true)) {
      parts[inner] = [
        "type": "Split", "pattern": ["Regex": .string(Self.gpt2Pattern)], "behavior": "Isolated",
        "invert": false,
      ]
    }
    parts.append(Self.byteLevel(usesPattern: usesOwn))
    return parts.count == 1
      ? parts[0] : ["type": "Sequence", "pretokenizers": .array(parts)]
  }

  private static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  private static func byteLevel(usesPattern: Bool) -> JSONValue {
    [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
      "use_regex": .bool(usesPattern),
    ]
  }
}

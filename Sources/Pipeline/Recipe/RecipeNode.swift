// A recipe between YAML and its types: every value knows where it was written.

/// One value of a recipe.
struct RecipeNode: Sendable {
  /// A mapping's key and value.
  struct Entry: Sendable {
    let key: String
    let keyPlace: RecipePlace
    /// A key that is a relative path starts here.
    let directory: String
    var value: RecipeNode
  }

  /// A scalar as it was written; what type it has, the key decides.
  struct Scalar: Sendable {
    var text: String
    /// Not quoted: `4` is an integer, `"4"` is text.
    var isPlain: Bool
    /// A parameter stands for the whole scalar: it is an integer or text, as the key needs.
    var isParameter = false
    /// The place of each `${` in the text.
    var references: [RecipePlace] = []
  }

  indirect enum Value: Sendable {
    case scalar(Scalar)
    case list([RecipeNode])
    case mapping([Entry])
  }

  var value: Value
  var place: RecipePlace
  /// Relative paths in this value start here.
  var directory: String

  /// What a plain scalar means in YAML 1.2; a quoted one is text.
  enum Meaning: Equatable {
    case null
    case flag(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
  }

  var meaning: Meaning? {
    guard case .scalar(let scalar) = value else { return nil }
    return scalar.isPlain ? Self.meaning(ofPlain: scalar.text) : .text(scalar.text)
  }

  private static func meaning(ofPlain text: String) -> Meaning {
    switch text {
    case "", "~", "null": return .null
    case "true": return .flag(true)
    case "false": return .flag(false)
    default: break
    }
    let numeric = text.utf8.allSatisfy { "0123456789+-.eE".utf8.contains($0) }
    guard numeric, text.utf8.contains(where: { (0x30...0x39).contains($0) }) else {
      return .text(text)
    }
    if let integer = Int(text) { return .integer(integer) }
    if let number = Double(text) { return .number(number) }
    return .text(text)
  }

  var isNull: Bool { meaning == .null }

  var entries: [Entry]? {
    guard case .mapping(let entries) = value else { return nil }
    return entries
  }

  /// The value of a mapping's key.
  subscript(key: String) -> RecipeNode? { entries?.first { $0.key == key }?.value }

  /// What was found, in the words of an error.
  var found: String {
    switch value {
    case .list: return "a list"
    case .mapping: return "a mapping"
    case .scalar(let scalar):
      let text = scalar.text.count > 60 ? String(scalar.text.prefix(60)) + "…" : scalar.text
      switch meaning {
      case .null: return "empty"
      case .flag, .integer, .number: return text
      case .text, nil: return "the text '\(text)'"
      }
    }
  }

  /// An error about this value.
  func error(
    _ key: String, expected: String, nearest: String? = nil
  ) -> RecipeError {
    RecipeError(
      at: place,
      .wrongValue(key: key, found: found, expected: expected, nearest: nearest))
  }
}

// The types that a recipe's values have. Each reads, writes and describes one.

internal import JSONDocuments

extension RecipeCodec where Value == String {
  /// Text that is not empty.
  static let text = RecipeCodec(
    shape: .value("text", ["type": "string", "minLength": 1]),
    decode: { (key, node) throws(RecipeError) in try node.text(key, expected: "text") },
    encode: { value, _ in .string(value) })

  /// A path to a file or folder, joined to the folder of the file that writes it.
  static let path = RecipeCodec(
    shape: .value("path", ["type": "string", "minLength": 1]),
    decode: { (key, node) throws(RecipeError) in
      RecipePaths.join(node.directory, try node.text(key, expected: "a path"))
    },
    encode: { value, paths in .string(paths.write(value)) })
}

extension RecipeCodec where Value == Located<String> {
  /// Text that another module checks; it keeps its place.
  static func located(
    _ words: String, pattern: String? = nil,
    check: @escaping @Sendable (String) -> Bool = { _ in true }
  ) -> RecipeCodec {
    var schema: JSONObject = JSONObject([
      .init(key: "type", value: "string"), .init(key: "minLength", value: 1),
    ])
    schema["pattern"] = pattern.map { .string($0) }
    return RecipeCodec(
      shape: .value(words, .object(schema)),
      decode: { (key, node) throws(RecipeError) in
        let text = try node.text(key, expected: words)
        guard check(text) else { throw node.error(key, expected: words) }
        return Located(text, at: node.place)
      },
      encode: { value, _ in .string(value.value) })
  }

  /// The name of a weight encoding.
  static let encoding = located("the name of an encoding")

  /// A path that keeps its place.
  static let path = RecipeCodec(
    shape: RecipeCodec<String>.path.shape,
    decode: { (key, node) throws(RecipeError) in
      Located(try RecipeCodec<String>.path.decode(key, node), at: node.place)
    },
    encode: { value, paths in .string(paths.write(value.value)) })

  /// A name that can be a part of a file's name.
  static let name = RecipeCodec(
    shape: .value("name", ["type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"]),
    decode: { (key, node) throws(RecipeError) in
      let words = "letters, digits, '.', '_' and '-', the first a letter or a digit"
      let text = try node.text(key, expected: words)
      guard isName(text) else { throw node.error(key, expected: words) }
      return Located(text, at: node.place)
    },
    encode: { value, _ in .string(value.value) })

  static func isName(_ text: String) -> Bool {
    func isLetterOrDigit(_ byte: UInt8) -> Bool {
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte & 0xDF) && byte < 0x80
    }
    guard let first = text.utf8.first, isLetterOrDigit(first), text.utf8.count <= 100 else {
      return false
    }
    return text.utf8.allSatisfy { isLetterOrDigit($0) || "._-".utf8.contains($0) }
  }
}

extension RecipeCodec where Value == Int {
  /// An integer of a range.
  static func integer(_ range: ClosedRange<Int>) -> RecipeCodec {
    var schema = JSONObject([
      .init(key: "type", value: "integer"),
      .init(key: "minimum", value: .integer(range.lowerBound)),
    ])
    let words: String
    if range.lowerBound == range.upperBound {
      words = "integer, always \(range.lowerBound)"
      schema["maximum"] = .integer(range.upperBound)
    } else if range.upperBound == .max {
      words = "integer, at least \(range.lowerBound)"
    } else {
      words = "integer, \(range.lowerBound) to \(range.upperBound)"
      schema["maximum"] = .integer(range.upperBound)
    }
    return RecipeCodec(
      shape: .value(words, .object(schema)),
      decode: { (key, node) throws(RecipeError) in
        guard case .integer(let value)? = node.meaning, range.contains(value) else {
          throw node.error(key, expected: "an " + words)
        }
        return value
      },
      encode: { value, _ in .integer(value) })
  }
}

extension RecipeCodec where Value == Double {
  /// A finite number of a range; an upper bound of infinity means no upper bound.
  static func number(_ range: ClosedRange<Double>) -> RecipeCodec {
    func text(_ value: Double) -> String { value == value.rounded() ? "\(Int(value))" : "\(value)" }
    var schema = JSONObject([
      .init(key: "type", value: "number"), .init(key: "minimum", value: .number(range.lowerBound)),
    ])
    let words: String
    if range.upperBound == .infinity {
      words = "number, at least \(text(range.lowerBound))"
    } else {
      words = "number, \(text(range.lowerBound)) to \(text(range.upperBound))"
      schema["maximum"] = .number(range.upperBound)
    }
    return RecipeCodec(
      shape: .value(words, .object(schema)),
      decode: { (key, node) throws(RecipeError) in
        let value: Double? =
          switch node.meaning {
          case .integer(let value)?: Double(value)
          case .number(let value)?: value
          default: nil
          }
        guard let value, value.isFinite, range.contains(value) else {
          throw node.error(key, expected: "a " + words)
        }
        return value
      },
      encode: { value, _ in .number(value) })
  }
}

extension RecipeCodec where Value == Bool {
  /// `true` or `false`.
  static let flag = RecipeCodec(
    shape: .value("true or false", ["type": "boolean"]),
    decode: { (key, node) throws(RecipeError) in
      if case .flag(let value)? = node.meaning { return value }
      let meant: String? =
        switch node.scalarText?.lowercased() {
        case "yes", "on", "true", "y": "true"
        case "no", "off", "false", "n": "false"
        default: nil
        }
      throw node.error(key, expected: "true or false", nearest: meant)
    },
    encode: { value, _ in .bool(value) })
}

extension RecipeCodec
where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
  /// One of the words of an enumeration.
  static func choice() -> RecipeCodec {
    let words = Value.allCases.map(\.rawValue)
    let text = words.joined(separator: " or ")
    return RecipeCodec(
      shape: .value(
        words.map { "`\($0)`" }.joined(separator: " or "),
        ["enum": .array(words.map { .string($0) })]),
      decode: { (key, node) throws(RecipeError) in
        guard let found = node.scalarText, let value = Value(rawValue: found) else {
          let nearest = node.scalarText.flatMap { nearestWord(to: $0, among: words) }
          throw node.error(key, expected: text, nearest: nearest)
        }
        return value
      },
      encode: { value, _ in .string(value.rawValue) })
  }
}

extension RecipeNode {
  /// The text of a scalar, whatever its type.
  var scalarText: String? {
    guard case .scalar(let scalar) = value else { return nil }
    return scalar.text
  }

  /// The text of a scalar that is text: quoted, or not to be taken for a number.
  func text(_ key: String, expected: String) throws(RecipeError) -> String {
    guard case .scalar(let scalar) = value else { throw error(key, expected: expected) }
    switch meaning {
    case .text(let text)? where !text.isEmpty: return text
    case .integer?, .number?, .flag?:
      if scalar.isParameter { return scalar.text }
      throw error(key, expected: "\(expected), in quotes: \"\(scalar.text)\"")
    default: throw error(key, expected: expected)
    }
  }
}

// Members of a JSON object with the kind that a tokenizer file must give them.

internal import JSONDocuments

/// A component of a tokenizer file: an object that is read member by member.
struct JSONMembers {
  /// Where the object stands, for messages: `model`, `normalizer`.
  let name: String
  private let object: JSONObject

  init(_ value: JSONValue, name: String) throws(TokenizerError.Problem) {
    guard let object = value.object else {
      throw .wrongKind(key: name, expected: "an object", found: value.kind)
    }
    self.name = name
    self.object = object
  }

  /// A member; `nil` when it is absent or null.
  func value(_ key: String) -> JSONValue? {
    guard let value = object[key] else { return nil }
    if case .null = value { return nil }
    return value
  }

  /// A member that must be there.
  func required(_ key: String) throws(TokenizerError.Problem) -> JSONValue {
    guard let value = value(key) else { throw .missing(key: "\(name).\(key)") }
    return value
  }

  private func wrongKind(
    _ key: String, _ expected: String, _ value: JSONValue
  ) -> TokenizerError.Problem {
    .wrongKind(key: "\(name).\(key)", expected: expected, found: value.kind)
  }

  /// A string that must be there.
  func string(_ key: String) throws(TokenizerError.Problem) -> String {
    let value = try required(key)
    guard let string = value.string else { throw wrongKind(key, "a string", value) }
    return string
  }

  /// A string, or `nil` when it is absent.
  func optionalString(_ key: String) throws(TokenizerError.Problem) -> String? {
    value(key) == nil ? nil : try string(key)
  }

  /// A truth value, or `fallback` when it is absent.
  func bool(_ key: String, or fallback: Bool) throws(TokenizerError.Problem) -> Bool {
    guard let value = value(key) else { return fallback }
    guard let bool = value.bool else { throw wrongKind(key, "a truth value", value) }
    return bool
  }

  /// An integer that is not negative and fits an id, or `fallback` when it is absent.
  func count(_ key: String, or fallback: Int? = nil) throws(TokenizerError.Problem) -> Int {
    if let fallback, value(key) == nil { return fallback }
    let value = try required(key)
    guard let integer = value.integer else { throw wrongKind(key, "an integer", value) }
    guard (0..<Int(Int32.max)).contains(integer) else {
      throw .badValue(
        key: "\(name).\(key)", value: "\(integer)", expected: "0..<\(Int32.max)")
    }
    return integer
  }

  /// An array that must be there.
  func array(_ key: String) throws(TokenizerError.Problem) -> [JSONValue] {
    let value = try required(key)
    guard let array = value.array else { throw wrongKind(key, "an array", value) }
    return array
  }

  /// An object that must be there.
  func members(_ key: String) throws(TokenizerError.Problem) -> JSONMembers {
    try JSONMembers(required(key), name: "\(name).\(key)")
  }

  /// The members of an object that must be there, walked once.
  func entries(_ key: String) throws(TokenizerError.Problem) -> [JSONObject.Member] {
    let value = try required(key)
    guard let object = value.object else { throw wrongKind(key, "an object", value) }
    return object.members
  }

  /// One of the values of an enumeration, or `fallback` when it is absent.
  func choice<Choice: RawRepresentable<String>>(
    _ key: String, or fallback: Choice, expected: String
  ) throws(TokenizerError.Problem) -> Choice {
    guard let text = try optionalString(key) else { return fallback }
    guard let choice = Choice(rawValue: text) else {
      throw .badValue(key: "\(name).\(key)", value: text, expected: expected)
    }
    return choice
  }
}

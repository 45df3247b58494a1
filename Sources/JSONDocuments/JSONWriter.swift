// Writes JSON with the members in the order of the value: the same value gives the same bytes.

extension JSONValue {
  /// The document on one line, without spaces.
  public var compactText: String {
    var text = ""
    write(into: &text, indent: nil)
    return text
  }

  /// The document with one member a line, indented by two spaces; ends without a newline.
  public var indentedText: String {
    var text = ""
    write(into: &text, indent: 0)
    return text
  }

  private func write(into text: inout String, indent: Int?) {
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .integer(let value): text += String(value)
    case .number(let value):
      // JSON has no infinity and no NaN; a figure that is neither is absent.
      text += value.isFinite ? Self.text(of: value) : "null"
    case .string(let value): Self.write(string: value, into: &text)
    case .array(let elements):
      let flat = elements.allSatisfy { $0.array == nil && $0.object == nil }
      let indent = flat ? nil : indent
      text += "["
      for (index, element) in elements.enumerated() {
        if index > 0 { text += "," }
        Self.newLine(into: &text, indent: indent.map { $0 + 1 })
        element.write(into: &text, indent: indent.map { $0 + 1 })
      }
      if !elements.isEmpty { Self.newLine(into: &text, indent: indent) }
      text += "]"
    case .object(let object):
      text += "{"
      for (index, member) in object.members.enumerated() {
        if index > 0 { text += "," }
        Self.newLine(into: &text, indent: indent.map { $0 + 1 })
        Self.write(string: member.key, into: &text)
        text += indent == nil ? ":" : ": "
        member.value.write(into: &text, indent: indent.map { $0 + 1 })
      }
      if !object.members.isEmpty { Self.newLine(into: &text, indent: indent) }
      text += "}"
    }
  }

  private static func newLine(into text: inout String, indent: Int?) {
    guard let indent else { return }
    text += "\n" + String(repeating: "  ", count: indent)
  }

  private static func text(of value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) + ".0" : String(value)
  }

  private static func write(string: String, into text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case let control where control.value < 0x20:
        let digits = String(control.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }

  /// The same document with every number replaced by one whose text is as long as any number's.
  public var withLongestNumbers: JSONValue {
    switch self {
    case .integer, .number: .number(-2.2250738585072014e-308)
    case .array(let elements): .array(elements.map(\.withLongestNumbers))
    case .object(let object):
      .object(
        JSONObject(
          object.members.map { .init(key: $0.key, value: $0.value.withLongestNumbers) }))
    default: self
    }
  }
}

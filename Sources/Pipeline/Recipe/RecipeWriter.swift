// Writes a recipe with everything resolved, as YAML that reads back to an equal recipe.

internal import JSONDocuments

extension Recipe {
  /// The recipe with imports merged, parameters replaced and every default written out.
  ///
  /// - Parameters:
  ///   - directory: The folder that the text is going to stand in: relative paths start there.
  ///   - current: The current folder, absolute; relative paths of the recipe and `directory` start there.
  /// - Returns: YAML, ending with a newline. `${` in values is written so that it stays text.
  public func resolvedYAML(in directory: String, current: String) -> String {
    let paths = RecipePathWriter { path in
      RecipePaths.relative(path, from: directory, current: current)
    }
    return YAMLWriter.document(RecipeSection.recipe.encode(self, paths))
  }
}

/// Writes plain data as block YAML.
enum YAMLWriter {
  static func document(_ value: JSONValue) -> String {
    var text = ""
    write(value, indent: 0, into: &text)
    return text
  }

  private static func write(_ value: JSONValue, indent: Int, into text: inout String) {
    switch value {
    case .object(let object) where !object.members.isEmpty:
      for member in object.members {
        text += String(repeating: " ", count: indent) + key(member.key) + ":"
        writeInside(member.value, indent: indent + 2, into: &text)
      }
    case .array(let elements) where !elements.isEmpty:
      for element in elements {
        text += String(repeating: " ", count: indent) + "-"
        if element.isScalar {
          text += " " + scalar(element) + "\n"
        } else {
          // The first key stands on the line of the dash.
          var inner = ""
          write(element, indent: indent + 2, into: &inner)
          text += " " + inner.drop { $0 == " " }
        }
      }
    default: text += String(repeating: " ", count: indent) + scalar(value) + "\n"
    }
  }

  private static func writeInside(_ value: JSONValue, indent: Int, into text: inout String) {
    if value.isScalar {
      text += " " + scalar(value) + "\n"
    } else {
      text += "\n"
      write(value, indent: indent, into: &text)
    }
  }

  private static func scalar(_ value: JSONValue) -> String {
    switch value {
    case .string(let text): quoted(text.replacing("${", with: "$${"))
    case .array: "[]"
    case .object: "{}"
    default: value.compactText
    }
  }

  private static func key(_ text: String) -> String { quoted(text) }

  /// The text, in double quotes unless it can only be read as this text.
  private static func quoted(_ text: String) -> String {
    let isPlain =
      text.utf8.first.map { (0x41...0x5A).contains($0 & 0xDF) && $0 < 0x80 } == true
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0 & 0xDF) && $0 < 0x80
          || "-_./".utf8.contains($0)
      }
      && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(text.lowercased())
    guard !isPlain else { return text }
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\t": quoted += "\\t"
      case " "..."~", "\u{A1}"..."\u{2027}", "\u{2030}"..."\u{D7FF}":
        quoted.unicodeScalars.append(scalar)
      default:
        let digits = String(scalar.value, radix: 16)
        quoted += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
      }
    }
    return quoted + "\""
  }
}

extension JSONValue {
  /// True for what stands on one line: scalars, and collections without elements.
  fileprivate var isScalar: Bool {
    switch self {
    case .array(let elements): elements.isEmpty
    case .object(let object): object.members.isEmpty
    default: true
    }
  }
}

// Replaces `${name}` in the values of a recipe.
//
// A scalar that is one reference takes the parameter's value with its type and, for paths, its folder;
// inside longer text the parameter's text is put in. `$${` stands for the text `${`.

/// The parameters of one recipe.
struct RecipeParameters {
  /// A text with its parameters replaced is at most this long.
  static let textLimit = 65_536

  private let declared: [RecipeNode.Entry]
  private var resolved: [String: RecipeNode] = [:]

  /// Takes the parameters of the tree's `parameters` key.
  init(of root: RecipeNode) throws(RecipeError) {
    guard let node = root["parameters"], !node.isNull else {
      declared = []
      return
    }
    guard let entries = node.entries else {
      throw node.error("parameters", expected: "a mapping from names to values")
    }
    for entry in entries {
      guard Self.isName(entry.key) else {
        throw RecipeError(at: entry.keyPlace, .badKey(found: "the parameter name '\(entry.key)'"))
      }
      guard case .scalar = entry.value.value, !entry.value.isNull else {
        throw entry.value.error(
          "the parameter '\(entry.key)'", expected: "text, a number, true or false")
      }
    }
    declared = entries
  }

  /// Letters, digits, `_` and `-`, the first a letter or `_`.
  static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, !(0x30...0x39).contains(first), first != 0x2D else {
      return false
    }
    return text.utf8.allSatisfy {
      (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
        || $0 == 0x5F || $0 == 0x2D
    }
  }

  var names: [String] { declared.map(\.key) }

  /// The tree without `parameters` and with every reference replaced.
  mutating func replaced(in root: RecipeNode) throws(RecipeError) -> RecipeNode {
    // A parameter that nothing refers to must be sound too.
    for entry in declared {
      _ = try value(of: entry.key, at: entry.keyPlace, through: [])
    }
    return try replace(root.without("parameters"), through: [])
  }

  private mutating func replace(
    _ node: RecipeNode, through stack: [String]
  ) throws(RecipeError) -> RecipeNode {
    var copy = node
    switch node.value {
    case .list(let elements):
      var replaced: [RecipeNode] = []
      for element in elements { replaced.append(try replace(element, through: stack)) }
      copy.value = .list(replaced)
    case .mapping(var entries):
      for index in entries.indices {
        entries[index].value = try replace(entries[index].value, through: stack)
      }
      copy.value = .mapping(entries)
    case .scalar(let scalar):
      guard scalar.text.utf8.contains(UInt8(ascii: "$")) else { return node }
      let pieces = try Self.pieces(of: scalar, at: node.place)
      if pieces.count == 1, case .reference(let name, let place) = pieces[0] {
        var value = try value(of: name, at: place, through: stack)
        value.place = node.place
        if case .scalar(var scalar) = value.value {
          scalar.isParameter = true
          value.value = .scalar(scalar)
        }
        return value
      }
      copy.value = .scalar(try joined(pieces, scalar, at: node.place, through: stack))
    }
    return copy
  }

  private mutating func joined(
    _ pieces: [Piece], _ scalar: RecipeNode.Scalar, at place: RecipePlace, through stack: [String]
  ) throws(RecipeError) -> RecipeNode.Scalar {
    var text = ""
    var replacedAny = false
    for piece in pieces {
      switch piece {
      case .text(let part): text += part
      case .reference(let name, let place):
        text += try value(of: name, at: place, through: stack).scalarText ?? ""
        replacedAny = true
      }
      guard text.utf8.count <= Self.textLimit else {
        throw RecipeError(at: place, .textTooLong(limit: Self.textLimit))
      }
    }
    return RecipeNode.Scalar(text: text, isPlain: scalar.isPlain, isParameter: replacedAny)
  }

  private mutating func value(
    of name: String, at place: RecipePlace, through stack: [String]
  ) throws(RecipeError) -> RecipeNode {
    if let value = resolved[name] { return value }
    guard let entry = declared.first(where: { $0.key == name }) else {
      throw RecipeError(at: place, .unknownParameter(name, known: names))
    }
    guard !stack.contains(name) else {
      throw RecipeError(at: place, .parameterCycle(stack + [name]))
    }
    let value = try replace(entry.value, through: stack + [name])
    resolved[name] = value
    return value
  }

  private enum Piece {
    case text(String)
    case reference(String, RecipePlace)
  }

  private static func pieces(
    of scalar: RecipeNode.Scalar, at place: RecipePlace
  ) throws(RecipeError) -> [Piece] {
    let text = Array(scalar.text.unicodeScalars)
    var pieces: [Piece] = []
    var plain = String.UnicodeScalarView()
    var index = 0
    var references = scalar.references.makeIterator()
    while index < text.count {
      guard text[index] == "$", index + 1 < text.count else {
        plain.append(text[index])
        index += 1
        continue
      }
      if text[index + 1] == "$", index + 2 < text.count, text[index + 2] == "{" {
        _ = references.next()
        plain.append(contentsOf: ["$", "{"])
        index += 3
      } else if text[index + 1] == "{" {
        let here = references.next() ?? place
        guard let end = text[index...].firstIndex(of: "}") else {
          throw RecipeError(at: here, .badReference)
        }
        let name = String(String.UnicodeScalarView(text[index + 2..<end]))
        guard isName(name) else { throw RecipeError(at: here, .badReference) }
        if !plain.isEmpty { pieces.append(.text(String(plain))) }
        plain = .init()
        pieces.append(.reference(name, here))
        index = end + 1
      } else {
        plain.append(text[index])
        index += 1
      }
    }
    if !plain.isEmpty || pieces.isEmpty { pieces.append(.text(String(plain))) }
    return pieces
  }
}

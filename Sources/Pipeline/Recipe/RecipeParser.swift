// YAML text to nodes with places, within limits: no recipe makes the reader slow, large or trap.

internal import Yams

/// Reads the YAML of one recipe file, or of one `--set` value.
struct RecipeParser {
  static let byteLimit = 256 * 1024
  static let valueLimit = 20_000
  /// n aliases can write out at most 3^(n/3) copies of a value: 24 keep that under seven thousand.
  static let aliasLimit = 24

  let source: RecipePlace.Source
  /// Relative paths start here.
  let directory: String
  /// A place to blame for everything, when the text is an option's value.
  private var isOption: Bool { if case .option = source { true } else { false } }

  private func place(_ line: Int, _ column: Int) -> RecipePlace {
    isOption ? RecipePlace(source) : RecipePlace(source, line: line, column: column)
  }

  /// Reads a file's bytes.
  func node(of bytes: [UInt8]) throws(RecipeError) -> RecipeNode {
    guard bytes.count <= Self.byteLimit else {
      throw RecipeError(at: place(1, 1), .tooLarge(limit: Self.byteLimit))
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      let offset = Self.firstNonUTF8(bytes)
      let (line, column) = Self.position(ofByte: offset, in: bytes)
      throw RecipeError(at: place(line, column), .notUTF8(offset: offset))
    }
    return try node(of: text)
  }

  /// Reads a text.
  func node(of text: String) throws(RecipeError) -> RecipeNode {
    try refuseManyAliases(text)
    let root: Node?
    do {
      root = try Yams.compose(yaml: text)
    } catch {
      throw RecipeSyntax(text: text, place: place).error(for: error)
    }
    guard let root else { throw RecipeError(at: place(1, 1), .empty) }
    var converter = Converter(lines: SourceLines(text), place: place, directory: directory)
    return try converter.node(root)
  }

  /// The first byte that does not belong to UTF-8.
  private static func firstNonUTF8(_ bytes: [UInt8]) -> Int {
    var offset = 0
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    while case .scalarValue(let scalar) = decoder.decode(&iterator) {
      offset += UTF8.width(scalar)
    }
    return offset
  }

  private static func position(ofByte offset: Int, in bytes: [UInt8]) -> (Int, Int) {
    let before = bytes.prefix(offset)
    let line = before.count { $0 == 0x0A } + 1
    let start = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    return (line, before[start...].count { $0 & 0xC0 != 0x80 } + 1)
  }

  /// Counts `*name` where a value can start, before the YAML reader compares keys that hold them.
  private func refuseManyAliases(_ text: String) throws(RecipeError) {
    var previous: Unicode.Scalar = "\n"
    var count = 0
    for scalar in text.unicodeScalars {
      if previous == "*", scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) {
        count += 1
      }
      previous = scalar
    }
    guard count > Self.aliasLimit else { return }
    // Patterns may hold stars too. Only where there are anchors can a star stand for more.
    guard text.unicodeScalars.contains("&") else { return }
    throw RecipeError(at: place(1, 1), .tooManyAliases(limit: Self.aliasLimit))
  }
}

/// The text by lines, to find where in a scalar a reference stands.
private struct SourceLines {
  private let lines: [[Unicode.Scalar]]

  init(_ text: String) {
    lines = text.unicodeScalars.split(omittingEmptySubsequences: false) { $0 == "\n" }
      .map(Array.init)
  }

  /// The places of the first `count` times `${` from a line and column on (all from 1).
  func references(_ count: Int, line: Int, column: Int) -> [(line: Int, column: Int)] {
    var found: [(Int, Int)] = []
    var index = column - 1
    for number in line..<max(line, lines.count + 1) {
      let scalars = lines[number - 1]
      while index + 1 < scalars.count, found.count < count {
        if scalars[index] == "$", scalars[index + 1] == "{" { found.append((number, index + 1)) }
        index += 1
      }
      index = 0
      if found.count == count { break }
    }
    return found
  }
}

private struct Converter {
  let lines: SourceLines
  let place: (Int, Int) -> RecipePlace
  let directory: String
  var count = 0

  private func place(of node: Node) -> RecipePlace {
    place(node.mark?.line ?? 1, node.mark?.column ?? 1)
  }

  mutating func node(_ node: Node) throws(RecipeError) -> RecipeNode {
    count += 1
    guard count <= RecipeParser.valueLimit else {
      throw RecipeError(at: place(of: node), .tooManyValues(limit: RecipeParser.valueLimit))
    }
    let value: RecipeNode.Value
    switch node {
    case .scalar(let scalar): value = .scalar(try self.scalar(scalar, at: place(of: node)))
    case .sequence(let sequence):
      try refuse(tag: sequence.tag, unless: .seq, at: place(of: node))
      var elements: [RecipeNode] = []
      for element in sequence { elements.append(try self.node(element)) }
      value = .list(elements)
    case .mapping(let mapping):
      try refuse(tag: mapping.tag, unless: .map, at: place(of: node))
      value = .mapping(try entries(mapping))
    case .alias(let alias):
      throw RecipeError(at: place(of: node), .syntax("the alias '\(alias.anchor)' is not defined"))
    }
    return RecipeNode(value: value, place: place(of: node), directory: directory)
  }

  private func refuse(
    tag: Tag, unless plain: Tag.Name, at place: RecipePlace
  ) throws(RecipeError) {
    let name = tag.description
    guard name == Tag.Name.implicit.rawValue || name == plain.rawValue else {
      throw RecipeError(at: place, .unsupportedTag(name))
    }
  }

  private func scalar(
    _ scalar: Node.Scalar, at place: RecipePlace
  ) throws(RecipeError) -> RecipeNode.Scalar {
    // Comparing keys makes the YAML reader resolve their tags, so all of these stand for "none".
    let known: [Tag.Name] = [
      .implicit, .str, .bool, .int, .float, .null, .merge, .timestamp, .value,
    ]
    guard known.contains(where: { $0.rawValue == scalar.tag.description }) else {
      throw RecipeError(at: place, .unsupportedTag(scalar.tag.description))
    }
    let isPlain = scalar.style == .plain && scalar.tag.description != Tag.Name.str.rawValue
    var result = RecipeNode.Scalar(text: scalar.string, isPlain: isPlain)
    let count = scalar.string.occurrences(of: "${")
    if count > 0 {
      let found = lines.references(
        count, line: scalar.mark?.line ?? 1, column: scalar.mark?.column ?? 1)
      result.references = found.map { self.place($0.line, $0.column) }
    }
    return result
  }

  private mutating func entries(_ mapping: Node.Mapping) throws(RecipeError) -> [RecipeNode.Entry] {
    var entries: [RecipeNode.Entry] = []
    var seen: Set<String> = []
    for (key, value) in mapping {
      let node = try self.node(key)
      guard case .scalar(let scalar) = node.value, !scalar.text.isEmpty else {
        throw RecipeError(at: node.place, .badKey(found: node.found))
      }
      guard scalar.references.isEmpty else {
        throw RecipeError(at: node.place, .badKey(found: "'${'"))
      }
      guard seen.insert(scalar.text).inserted else {
        throw RecipeError(at: node.place, .duplicateKey(scalar.text))
      }
      entries.append(
        .init(
          key: scalar.text, keyPlace: node.place, directory: directory,
          value: try self.node(value)))
    }
    return entries
  }
}

extension String {
  /// How often `part` stands in the text, not overlapping.
  fileprivate func occurrences(of part: String) -> Int {
    guard contains("$") else { return 0 }
    return split(separator: part, omittingEmptySubsequences: false).count - 1
  }
}

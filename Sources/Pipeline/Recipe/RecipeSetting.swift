// Values given on the command line: `--set key=value`, `--model DIR`, `--output DIR`.

/// One value that replaces what a recipe says.
public struct RecipeSetting: Sendable {
  /// The keys from the top, such as `stages`, `0`, `quantize`, `encoding`.
  let path: [String]
  let value: RecipeNode
  let option: RecipePlace

  /// Reads the argument of `--set`: `key=value`, where the value is YAML.
  ///
  /// The key is a parameter, or the keys from the top with dots between them and positions in lists
  /// from 0; a key with dots of its own stands in double quotes. Paths in the value are relative to
  /// the current folder.
  public init(set argument: String) throws(RecipeError) {
    let everything = RecipePlace(.option("--set \(argument)"))
    guard let equals = Self.firstEquals(in: argument) else {
      throw RecipeError(at: everything, .badSetting(argument))
    }
    let key = String(argument[..<equals])
    let text = String(argument[argument.index(after: equals)...])
    guard let path = Self.split(key), !path.contains("") else {
      throw RecipeError(at: everything, .badSetting(argument))
    }
    self.path = path
    option = RecipePlace(.option("--set \(key)"))
    let isEmpty = text.allSatisfy { $0 == " " }
    value =
      isEmpty
      ? RecipeNode(
        value: .scalar(.init(text: "", isPlain: true)), place: option, directory: ".")
      : try RecipeParser(source: option.source, directory: ".").node(of: text)
  }

  private init(key: String, option name: String, path: String) {
    self.path = [key]
    option = RecipePlace(.option(name))
    value = RecipeNode(
      value: .scalar(.init(text: path.replacing("${", with: "$${"), isPlain: false)),
      place: option, directory: ".")
  }

  /// The checkpoint of `--model`.
  public static func model(_ path: String) -> RecipeSetting {
    RecipeSetting(key: "model", option: "--model", path: path)
  }

  /// The folder of `--output`.
  public static func output(_ path: String) -> RecipeSetting {
    RecipeSetting(key: "output", option: "--output", path: path)
  }

  private static func firstEquals(in text: String) -> String.Index? {
    var isQuoted = false
    return text.firstIndex { character in
      if character == "\"" { isQuoted.toggle() }
      return character == "=" && !isQuoted
    }
  }

  /// The keys of a dotted path; `nil` when a quote is left open.
  private static func split(_ key: String) -> [String]? {
    var path = [""]
    var isQuoted = false
    for character in key {
      switch character {
      case "\"": isQuoted.toggle()
      case "." where !isQuoted: path.append("")
      default: path[path.count - 1].append(character)
      }
    }
    return isQuoted ? nil : path
  }

  /// The tree with this value in its place.
  func applied(to root: RecipeNode) throws(RecipeError) -> RecipeNode {
    var path = path
    let parameters = root["parameters"]?.entries?.map(\.key) ?? []
    let top = RecipeSection<Recipe>.recipe.fields.map(\.key).filter { $0 != "imports" }
    if path.count == 1, parameters.contains(path[0]) {
      path = ["parameters", path[0]]
    } else if path.count == 1, !top.contains(path[0]) {
      throw RecipeError(at: option, .unknownSetting(path[0], known: parameters + top))
    } else if !top.contains(path[0]) {
      throw RecipeError(at: option, .unknownSetting(path.joined(separator: "."), known: top))
    } else if path[0] == "parameters", path.count == 2, !parameters.contains(path[1]) {
      throw RecipeError(at: option, .unknownSetting(path[1], known: parameters))
    }
    return try set(path[...], in: root)
  }

  private func set(
    _ path: ArraySlice<String>, in node: RecipeNode?
  ) throws(RecipeError) -> RecipeNode {
    guard let key = path.first else { return value }
    let rest = path.dropFirst()
    switch node?.value {
    case .list(var elements)?:
      guard let index = Int(key), elements.indices.contains(index) else {
        let known = elements.indices.map(String.init)
        throw RecipeError(
          at: option, .unknownSetting(self.path.joined(separator: "."), known: known))
      }
      elements[index] = try set(rest, in: elements[index])
      return RecipeNode(value: .list(elements), place: node?.place ?? option, directory: ".")
    case .mapping(var entries)?:
      if let index = entries.firstIndex(where: { $0.key == key }) {
        entries[index].value = try set(rest, in: entries[index].value)
      } else {
        entries.append(
          .init(key: key, keyPlace: option, directory: ".", value: try set(rest, in: nil)))
      }
      var copy = node ?? value
      copy.value = .mapping(entries)
      return copy
    case .scalar?, nil:
      guard node == nil || node?.isNull == true else {
        throw RecipeError(
          at: option, .refused("'\(key)' cannot be set in \(node?.found ?? "a value")"))
      }
      let entry = RecipeNode.Entry(
        key: key, keyPlace: option, directory: ".", value: try set(rest, in: nil))
      return RecipeNode(value: .mapping([entry]), place: option, directory: ".")
    }
  }
}

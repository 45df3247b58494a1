// Reads a recipe file and the files it imports, and merges them into one tree.

/// Reads recipe files.
struct RecipeImports {
  static let fileLimit = 64

  /// Gives the bytes of a file, at most one more than the limit of a recipe.
  let readFile: (String) throws -> [UInt8]
  private var files = 0

  init(readFile: @escaping (String) throws -> [UInt8]) {
    self.readFile = readFile
  }

  /// The file's tree, merged above its imports.
  mutating func load(_ path: String) throws(RecipeError) -> RecipeNode {
    try load(path, from: RecipePlace(.file(path)), through: [])
  }

  private mutating func load(
    _ path: String, from place: RecipePlace, through stack: [String]
  ) throws(RecipeError) -> RecipeNode {
    guard !stack.contains(path) else {
      throw RecipeError(at: place, .importCycle(stack + [path]))
    }
    files += 1
    guard files <= Self.fileLimit else {
      throw RecipeError(at: place, .tooManyImports(limit: Self.fileLimit))
    }
    let bytes: [UInt8]
    do {
      bytes = try readFile(path)
    } catch {
      let reason = stack.isEmpty ? "\(error)" : "\(error) (\(path))"
      throw RecipeError(at: place, .unreadable(reason))
    }
    let parser = RecipeParser(source: .file(path), directory: RecipePaths.directory(of: path))
    let node = try parser.node(of: bytes)
    guard node.entries != nil else {
      guard !node.isNull else { throw RecipeError(at: node.place, .empty) }
      throw node.error("the recipe", expected: "a mapping that starts with 'condense: 1'")
    }
    return try merge(node, through: stack + [path])
  }

  /// Puts a file's tree above its imports; later imports stand above earlier ones.
  private mutating func merge(
    _ node: RecipeNode, through stack: [String]
  ) throws(RecipeError) -> RecipeNode {
    guard let imports = node["imports"], !imports.isNull else { return node.without("imports") }
    guard case .list(let elements) = imports.value else {
      throw imports.error("imports", expected: "a list of paths")
    }
    var below: RecipeNode?
    for element in elements {
      if case .scalar(let scalar) = element.value, let reference = scalar.references.first {
        throw RecipeError(
          at: reference, .refused("parameters are not replaced in imports, write the path itself"))
      }
      let path = try RecipeCodec<String>.path.decode("an import", element)
      let loaded = try load(path, from: element.place, through: stack)
      below = below.map { loaded.merged(over: $0) } ?? loaded
    }
    let own = node.without("imports")
    return below.map { own.merged(over: $0) } ?? own
  }
}

extension RecipeNode {
  func without(_ key: String) -> RecipeNode {
    guard let entries else { return self }
    var copy = self
    copy.value = .mapping(entries.filter { $0.key != key })
    return copy
  }

  /// Mappings merge key by key, this one wins; everything else is replaced.
  func merged(over below: RecipeNode) -> RecipeNode {
    guard let mine = entries, let theirs = below.entries else { return self }
    // Where the order counts, as with patterns, what stands last counts most: this one's entries.
    let kept = theirs.filter { entry in !mine.contains { $0.key == entry.key } }
    let own = mine.map { entry in
      var entry = entry
      if let other = theirs.first(where: { $0.key == entry.key }) {
        entry.value = entry.value.merged(over: other.value)
      }
      return entry
    }
    var copy = self
    copy.value = .mapping(kept + own)
    return copy
  }
}

// Lists, mappings with free keys, optional values and nested sections.

internal import JSONDocuments

extension RecipeCodec {
  /// A list of values.
  static func list<Element>(
    _ element: RecipeCodec<Element>, of words: String, atLeast: Int = 0
  ) -> RecipeCodec where Value == [Element] {
    let expected =
      "a list of \(words)" + (atLeast > 0 ? " with at least \(atLeast) element" : "")
    return RecipeCodec(
      shape: .list(words, element.shape, atLeast: atLeast),
      decode: { (key, node) throws(RecipeError) in
        guard case .list(let nodes) = node.value, nodes.count >= atLeast else {
          let cure = node.scalarText.map { $0.isEmpty ? "" : ": [\($0)]" } ?? ""
          throw node.error(key, expected: expected + cure)
        }
        var values: [Element] = []
        for (index, node) in nodes.enumerated() {
          values.append(try element.decode("element \(index + 1) of \(key)", node))
        }
        return values
      },
      encode: { values, paths in .array(values.compactMap { element.encode($0, paths) }) })
  }

  /// A mapping whose keys the author of the recipe chooses, in the order of the recipe.
  static func map<Element: Sendable, Inner>(
    _ inner: RecipeCodec<Inner>, keys words: String,
    checkKey: @escaping @Sendable (String) -> Bool = { _ in true }, keysArePaths: Bool = false,
    make: @escaping @Sendable (Located<String>, Inner) -> Element,
    split: @escaping @Sendable (Element) -> (String, Inner)
  ) -> RecipeCodec where Value == [Element] {
    RecipeCodec(
      shape: .map(words, inner.shape),
      decode: { (key, node) throws(RecipeError) in
        guard let entries = node.entries else {
          if node.isNull { return [] }
          throw node.error(key, expected: "a mapping from each \(words)")
        }
        var values: [Element] = []
        for entry in entries {
          guard checkKey(entry.key) else {
            throw RecipeError(at: entry.keyPlace, .badKey(found: "'\(entry.key)'"))
          }
          let value = try inner.decode("\(key) of '\(entry.key)'", entry.value)
          let name = keysArePaths ? RecipePaths.join(entry.directory, entry.key) : entry.key
          values.append(make(Located(name, at: entry.keyPlace), value))
        }
        return values
      },
      encode: { values, paths in
        guard !values.isEmpty else { return nil }
        return .object(
          JSONObject(
            values.compactMap { element in
              let (key, value) = split(element)
              let name = keysArePaths ? paths.write(key) : key
              return inner.encode(value, paths).map { .init(key: name, value: $0) }
            }))
      })
  }

  /// A value that may be absent; an empty value is an absent one.
  static func optional<Wrapped>(
    _ wrapped: RecipeCodec<Wrapped>
  ) -> RecipeCodec where Value == Wrapped? {
    RecipeCodec(
      shape: wrapped.shape,
      decode: { (key, node) throws(RecipeError) in
        node.isNull ? nil : try wrapped.decode(key, node)
      },
      encode: { value, paths in value.flatMap { wrapped.encode($0, paths) } })
  }

  /// A mapping with fixed keys.
  static func section(_ section: RecipeSection<Value>) -> RecipeCodec {
    RecipeCodec(
      shape: .section(section.info),
      decode: { (key, node) throws(RecipeError) in
        try section.decode(node, key: key, at: node.place)
      },
      encode: { value, paths in section.encode(value, paths) })
  }
}

// The one table of a recipe's keys: from it come decoding, errors, defaults, JSON Schema and docs.

internal import JSONDocuments

/// Every key of one mapping of a recipe, and how each becomes a property of `Root`.
///
/// A key's default is the property's value in `Root()`; there is no second place for it.
public struct RecipeSection<Root: Sendable>: Sendable {
  /// What the mapping is, in the words of an error: "a quantize stage".
  let title: String
  let make: @Sendable () -> Root
  let fields: [RecipeField<Root>]
}

/// One key.
struct RecipeField<Root: Sendable>: Sendable {
  let key: String
  let doc: String
  let isRequired: Bool
  let shape: RecipeShape
  let decode: @Sendable (RecipeNode, inout Root) throws(RecipeError) -> Void
  /// The value as a recipe writes it, or `nil` to leave the key out.
  let encode: @Sendable (Root, RecipePathWriter) -> JSONValue?
}

/// What the values of a key look like, for the JSON Schema and the documentation.
indirect enum RecipeShape: Sendable {
  /// One value: its type in words, and its schema.
  case value(String, JSONValue)
  /// A mapping with fixed keys.
  case section([RecipeKeyInfo])
  /// A mapping with free keys: what a key is, and what its value looks like.
  case map(String, RecipeShape)
  /// A list.
  case list(String, RecipeShape, atLeast: Int)
  /// A list of mappings that have one of these keys each.
  case kinds([(kind: String, doc: String, keys: [RecipeKeyInfo])])
}

/// What a reader of the documentation wants to know of a key.
struct RecipeKeyInfo: Sendable {
  let key: String
  let doc: String
  let isRequired: Bool
  let shape: RecipeShape
  let defaultValue: JSONValue?
}

/// Writes a path so that a recipe in another folder finds the same file.
struct RecipePathWriter: Sendable {
  let write: @Sendable (String) -> String
}

/// How one value is read and written.
struct RecipeCodec<Value: Sendable>: Sendable {
  let shape: RecipeShape
  let decode: @Sendable (_ key: String, RecipeNode) throws(RecipeError) -> Value
  let encode: @Sendable (Value, RecipePathWriter) -> JSONValue?
}

extension RecipeField {
  /// A key that is a property of `Root`.
  init<Value>(
    _ key: String, _ path: any WritableKeyPath<Root, Value> & Sendable, _ codec: RecipeCodec<Value>,
    required: Bool = false, _ doc: String
  ) {
    self.init(
      key: key, doc: doc, isRequired: required, shape: codec.shape,
      decode: { (node, root) throws(RecipeError) in
        root[keyPath: path] = try codec.decode(key, node)
      },
      encode: { root, paths in codec.encode(root[keyPath: path], paths) })
  }

  /// A key that is dealt with before decoding, and only documented here.
  init(documenting key: String, shape: RecipeShape, _ doc: String) {
    self.init(
      key: key, doc: doc, isRequired: false, shape: shape,
      decode: { (_, _) throws(RecipeError) in }, encode: { _, _ in nil })
  }

  /// The same key, as one of a property of `Outer`.
  func lifted<Outer>(_ path: any WritableKeyPath<Outer, Root> & Sendable) -> RecipeField<Outer> {
    let decode = self.decode
    let encode = self.encode
    return RecipeField<Outer>(
      key: key, doc: doc, isRequired: isRequired, shape: shape,
      decode: { (node, outer) throws(RecipeError) in try decode(node, &outer[keyPath: path]) },
      encode: { outer, paths in encode(outer[keyPath: path], paths) })
  }
}

extension RecipeSection {
  /// Reads a mapping. What is not given keeps its default.
  ///
  /// - Parameter place: Where the key of the mapping stands, to blame when a key is missing.
  func decode(_ node: RecipeNode, key: String, at place: RecipePlace) throws(RecipeError) -> Root {
    var root = make()
    guard node.entries != nil || node.isNull else {
      throw node.error(key, expected: "a mapping with keys such as '\(fields.first?.key ?? "")'")
    }
    for entry in node.entries ?? [] {
      guard let field = fields.first(where: { $0.key == entry.key }) else {
        throw RecipeError(
          at: entry.keyPlace, .unknownKey(entry.key, in: title, known: fields.map(\.key)))
      }
      try field.decode(entry.value, &root)
    }
    for field in fields where field.isRequired && node[field.key] == nil {
      throw RecipeError(at: place, .missingKey(field.key, in: title))
    }
    return root
  }

  /// Writes every key that has a value, defaults too.
  func encode(_ root: Root, _ paths: RecipePathWriter) -> JSONValue {
    .object(
      JSONObject(
        fields.compactMap { field in
          field.encode(root, paths).map { .init(key: field.key, value: $0) }
        }))
  }

  /// The keys with their defaults.
  var info: [RecipeKeyInfo] {
    let root = make()
    return fields.map { field in
      RecipeKeyInfo(
        key: field.key, doc: field.doc, isRequired: field.isRequired, shape: field.shape,
        defaultValue: field.isRequired
          ? nil : field.encode(root, RecipePathWriter { $0 }))
    }
  }
}

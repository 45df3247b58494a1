// The JSON Schema of recipes and the documentation's table of keys, both from the table of keys.

public import JSONDocuments

extension Recipe {
  /// The JSON Schema (draft 2020-12) of a recipe file, for editors.
  ///
  /// Where a key wants another type than text, a reference such as `${bits}` is allowed too.
  public static var jsonSchema: JSONValue {
    var schema = JSONSchema.object(
      RecipeSection.recipe.info, title: "Condense recipe", requiresKeys: false)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    // A file without `condense` is there to be imported; one with imports may get its stages there.
    schema["if"] = ["required": ["condense"], "not": ["required": ["imports"]]]
    schema["then"] = ["required": ["stages"]]
    let first = ["$schema", "title"]
    let members = first.compactMap { key in
      schema[key].map { JSONObject.Member(key: key, value: $0) }
    }
    return .object(JSONObject(members + schema.members.filter { !first.contains($0.key) }))
  }

  /// The key tables of the recipe documentation, Markdown.
  public static var keyTables: String {
    var tables = KeyTables()
    tables.add(RecipeSection.recipe.info, heading: "The recipe", path: "")
    return tables.text
  }
}

private enum JSONSchema {
  static let reference: JSONValue = [
    "type": "string", "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_-]*\\}",
  ]

  static func object(
    _ keys: [RecipeKeyInfo], title: String? = nil, requiresKeys: Bool = true
  ) -> JSONObject {
    var schema = JSONObject([.init(key: "type", value: "object")])
    schema["title"] = title.map { .string($0) }
    schema["additionalProperties"] = false
    let required = keys.filter { $0.isRequired && requiresKeys }.map { JSONValue.string($0.key) }
    schema["required"] = required.isEmpty ? nil : .array(required)
    schema["properties"] = .object(
      JSONObject(
        keys.map { info in
          var property = value(info.shape).object ?? JSONObject()
          property["description"] = .string(info.doc)
          if let value = info.defaultValue, value != .array([]) { property["default"] = value }
          return .init(key: info.key, value: .object(property))
        }))
    return schema
  }

  static func value(_ shape: RecipeShape) -> JSONValue {
    switch shape {
    case .value(_, let schema):
      guard schema["type"] != "string", schema["type"]?.array == nil else {
        guard let pattern = schema["pattern"]?.string else { return schema }
        return ["anyOf": [["type": "string", "pattern": .string(pattern)], reference]]
      }
      return ["anyOf": [schema, reference]]
    case .section(let keys): return .object(object(keys))
    case .map(_, let inner): return ["type": "object", "additionalProperties": value(inner)]
    case .list(_, let inner, let atLeast):
      return ["type": "array", "minItems": .integer(atLeast), "items": value(inner)]
    case .kinds(let kinds):
      return [
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
        "properties": .object(
          JSONObject(
            kinds.map { kind in
              var schema = object(kind.keys)
              schema["description"] = .string(kind.doc)
              return .init(key: kind.kind, value: .object(schema))
            })),
      ]
    }
  }
}

private struct KeyTables {
  var text = ""
  private var done: Set<String> = []

  /// A heading, the table, then the tables of what is inside.
  mutating func add(_ keys: [RecipeKeyInfo], heading: String, path: String, intro: String = "") {
    guard done.insert(heading).inserted else { return }
    text += (text.isEmpty ? "" : "\n") + "### \(heading)\n\n"
    if !intro.isEmpty { text += intro + "\n\n" }
    text += "| key | type | default | what it says |\n|---|---|---|---|\n"
    for info in keys {
      let fallback =
        info.isRequired ? "required" : info.defaultValue.map(Self.words) ?? ""
      text += "| `\(info.key)` | \(Self.type(info.shape)) | \(fallback) | \(info.doc) |\n"
    }
    for info in keys {
      addInside(info.shape, path: path.isEmpty ? info.key : path + "." + info.key)
    }
  }

  private mutating func addInside(_ shape: RecipeShape, path: String) {
    switch shape {
    case .value: break
    case .section(let keys):
      // Every stage has the same gate.
      let isGate = path.hasSuffix(".gate")
      add(keys, heading: isGate ? "`gate` of a stage" : "`\(path)`", path: isGate ? "gate" : path)
    case .map(let key, .section(let keys)): add(keys, heading: "`\(path)`: each \(key)", path: path)
    case .map(_, let inner), .list(_, let inner, _): addInside(inner, path: path)
    case .kinds(let kinds):
      for kind in kinds {
        add(
          kind.keys, heading: "Stage `\(kind.kind)`", path: path + "." + kind.kind, intro: kind.doc)
      }
    }
  }

  private static func words(_ value: JSONValue) -> String {
    switch value {
    case .array, .object: ""
    case .string(let text): text.isEmpty ? "" : "`\(text)`"
    case .number(let number) where number == number.rounded(): "`\(Int(number))`"
    default: "`\(value.compactText)`"
    }
  }

  private static func type(_ shape: RecipeShape) -> String {
    switch shape {
    case .value(let words, _): words
    case .section: "mapping"
    case .map(let key, let inner): "mapping from \(key) to \(type(inner))"
    case .list(let words, _, _): "list of \(words)"
    case .kinds: "stage"
    }
  }
}

// What every kind of stage is to a recipe, and the registry of kinds.

internal import JSONDocuments

/// The options of one kind of stage. A kind is one conforming type and one line in `StageRegistry`.
public protocol StageOptions: Sendable, Equatable {
  /// The key of the stage in a recipe.
  static var kind: String { get }
  /// One sentence: what the stage does.
  static var summary: String { get }
  /// The options. `name` and `gate` come with every stage.
  static var section: RecipeSection<Self> { get }
  /// The defaults.
  init()
  /// What the options need of the rest of the recipe: the option in words and the key it needs.
  func requirement(of recipe: Recipe) -> (what: String, key: String)?
}

extension StageOptions {
  /// Nothing.
  public func requirement(of recipe: Recipe) -> (what: String, key: String)? { nil }

  fileprivate func isEqual(to other: any StageOptions) -> Bool { (other as? Self) == self }
}

/// Every kind of stage.
public enum StageRegistry {
  /// In the order of the documentation.
  public static let kinds: [any StageOptions.Type] = [
    PruneStageOptions.self,
    DistillStageOptions.self,
    QuantizeStageOptions.self,
    PackStageOptions.self,
  ]
}

/// One stage of a recipe.
public struct StageEntry: Sendable, Equatable {
  /// Which kind of stage, such as `quantize`.
  public var kind: String { type(of: options).kind }
  /// Unique in the recipe; the kind when the recipe gives none.
  public var name: Located<String>
  /// The tower of the model that the stage works on; nil for the whole.
  public var tower: Located<String>?
  /// A value of the kind's own type.
  public var options: any StageOptions
  /// What the stage may cost.
  public var gate: GateOptions

  /// A stage.
  public init(
    name: Located<String>, tower: Located<String>? = nil, options: any StageOptions,
    gate: GateOptions = .init()
  ) {
    self.tower = tower
    self.name = name
    self.options = options
    self.gate = gate
  }

  /// Compares kind, name, options and gate.
  public static func == (a: StageEntry, b: StageEntry) -> Bool {
    a.name == b.name && a.tower == b.tower && a.gate == b.gate && a.options.isEqual(to: b.options)
  }
}

/// A stage of one kind, while it is read.
private struct StageDraft<Options: StageOptions>: Sendable {
  var name: Located<String>?
  var tower: Located<String>?
  var options = Options()
  var gate = GateOptions()

  static var section: RecipeSection<StageDraft> {
    RecipeSection<StageDraft>(
      title: "a \(Options.kind) stage", make: { StageDraft() },
      fields: [
        .init(
          "name", \.name, .optional(.name),
          "Unique among the stages; names the stage in reports and folders. Default: the kind."),
        .init(
          "tower", \.tower, .optional(.name),
          "Of a model with several towers, the one that the stage works on; the others stay as they are."
        ),
      ] + Options.section.fields.map { $0.lifted(\.options) } + [
        .init("gate", \.gate, .section(.gate), "What the stage may cost before the run stops.")
      ])
  }
}

extension StageOptions {
  static var keys: [RecipeKeyInfo] { StageDraft<Self>.section.info }

  fileprivate static func entry(
    _ node: RecipeNode, at place: RecipePlace
  ) throws(RecipeError) -> StageEntry {
    let draft = try StageDraft<Self>.section.decode(node, key: kind, at: place)
    return StageEntry(
      name: draft.name ?? Located(kind, at: place), tower: draft.tower, options: draft.options,
      gate: draft.gate)
  }

  fileprivate func encode(_ entry: StageEntry, _ paths: RecipePathWriter) -> JSONValue {
    let draft = StageDraft(
      name: entry.name, tower: entry.tower, options: self, gate: entry.gate)
    return StageDraft<Self>.section.encode(draft, paths)
  }
}

extension RecipeCodec where Value == StageEntry {
  /// A mapping from a kind of stage to its options.
  static let stage = RecipeCodec(
    shape: .kinds(StageRegistry.kinds.map { ($0.kind, $0.summary, $0.keys) }),
    decode: { (key, node) throws(RecipeError) in
      let known = StageRegistry.kinds.map { $0.kind }
      guard let entries = node.entries, let first = entries.first else {
        throw node.error(key, expected: "a mapping from a kind of stage (\(known[0]): …)")
      }
      guard let kind = StageRegistry.kinds.first(where: { $0.kind == first.key }) else {
        throw RecipeError(
          at: first.keyPlace, .unknownKey(first.key, in: "stages", known: known))
      }
      guard entries.count == 1 else {
        throw RecipeError(
          at: entries[1].keyPlace,
          .refused(
            "'\(entries[1].key)' stands beside '\(kind.kind)', indent it further to make it an "
              + "option of '\(kind.kind)'"))
      }
      return try kind.entry(first.value, at: first.keyPlace)
    },
    encode: { entry, paths in
      .object(
        JSONObject([.init(key: entry.kind, value: entry.options.encode(entry, paths))]))
    })
}

// A recipe: which checkpoint, which texts, which stages in which order, and what each may cost.

internal import JSONDocuments

/// A recipe, imports merged, parameters replaced, defaults filled in.
///
/// Paths are as seen from the current folder: relative where the recipe was named and written so.
public struct Recipe: Sendable, Equatable {
  /// The version of the recipe format that this reader knows.
  public static let format = 1

  /// A file that the recipe read when it ran, and the hash that it had.
  public struct Input: Sendable, Equatable {
    /// The file.
    public var path: Located<String>
    /// SHA-256, 64 digits in lower case.
    public var sha256: Located<String>

    /// A file and its hash.
    public init(path: Located<String>, sha256: Located<String>) {
      self.path = path
      self.sha256 = sha256
    }
  }

  /// The checkpoint to start from, which is also the reference for drift.
  public var model = Located("")
  /// The folder for results; `nil` when the recipe leaves it to the command line.
  public var output: Located<String>?
  /// The text for methods that need layer inputs.
  public var calibration: CalibrationOptions?
  /// The text that drift is measured on.
  public var validation: ValidationOptions?
  /// The towers of a model that has several, each with files of its own.
  public var towers: [NamedTower] = []
  /// The stages, in order; at least one.
  public var stages: [StageEntry] = []
  /// Hashes that the inputs must have; empty in recipes written by hand.
  public var inputs: [Input] = []

  /// Used while reading only.
  var declaredFormat = Recipe.format

  /// A recipe without stages, to fill in.
  public init() {}
}

extension RecipeSection where Root == Recipe {
  static let recipe = RecipeSection(
    title: "the recipe", make: Recipe.init,
    fields: [
      .init(
        "condense", \.declaredFormat, .integer(Recipe.format...Recipe.format), required: true,
        "The version of the recipe format."),
      .init(
        documenting: "imports", shape: .list("paths", RecipeCodec<String>.path.shape, atLeast: 0),
        "Recipe files merged below this one: mappings key by key, this file wins, lists replace."),
      .init(
        documenting: "parameters",
        shape: .map(
          "parameter name",
          .value(
            "text, number or truth value", ["type": ["string", "number", "boolean"]])),
        "Values for `${name}` in other values; `--set name=value` replaces one."),
      .init(
        "model", \.model, .path, required: true,
        "The checkpoint folder to start from, which is also the reference for drift."),
      .init(
        "output", \.output, .optional(.path),
        "The folder for results; `--output` replaces it."),
      .init(
        "calibration", \.calibration, .optional(.section(.calibration)),
        "The text that statistics of layer inputs are taken from."),
      .init(
        "validation", \.validation, .optional(.section(.validation)),
        "The text that drift is measured on."),
      .init(
        "towers", \.towers,
        .map(
          .section(.tower), keys: "tower", checkKey: RecipeCodec<Located<String>>.isName,
          make: { NamedTower(name: $0, options: $1) }, split: { ($0.name.value, $0.options) }),
        "For models of several towers, such as CLIP's `vision` and `text`: the files of each, which stages with `tower` "
          + "are calibrated with, and on which every stage is measured."),
      .init(
        "stages", \.stages, .list(.stage, of: "stages", atLeast: 1), required: true,
        "What is done, in order; each element has one key, the kind of stage."),
      .init(
        "inputs", \.inputs,
        .map(
          .located(
            "64 hexadecimal digits", pattern: "^[0-9a-f]{64}$",
            check: { text in
              text.utf8.count == 64 && text.utf8.allSatisfy { "0123456789abcdef".utf8.contains($0) }
            }), keys: "path", keysArePaths: true,
          make: { Recipe.Input(path: $0, sha256: $1) },
          split: { ($0.path.value, $0.sha256) }),
        "Hashes that input files must have; a resolved recipe has them."),
    ])
}

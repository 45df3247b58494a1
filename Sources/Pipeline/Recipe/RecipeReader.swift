// From a recipe file and command-line settings to a checked `Recipe`.

internal import Foundation

extension Recipe {
  /// Reads a recipe.
  ///
  /// - Parameters:
  ///   - path: The recipe file. Paths in it are relative to its folder.
  ///   - settings: Values of the command line, applied in order after imports are merged.
  /// - Throws: `RecipeError` with the place of the first mistake, in an imported file too.
  public static func read(
    _ path: String, settings: [RecipeSetting] = []
  ) throws(RecipeError) -> Recipe {
    try read(path, settings: settings, readFile: readBytes)
  }

  static func read(
    _ path: String, settings: [RecipeSetting] = [], readFile: @escaping (String) throws -> [UInt8]
  ) throws(RecipeError) -> Recipe {
    var imports = RecipeImports(readFile: readFile)
    var root = try imports.load(path)
    for setting in settings { root = try setting.applied(to: root) }
    var parameters = try RecipeParameters(of: root)
    root = try parameters.replaced(in: root)
    let recipe = try RecipeSection.recipe.decode(
      root, key: "the recipe", at: RecipePlace(.file(path)))
    try recipe.checkParts()
    return recipe
  }

  /// At most one byte more than a recipe may have.
  private static func readBytes(_ path: String) throws -> [UInt8] {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw Unreadable(
        description: FileManager.default.fileExists(atPath: path)
          ? "no permission" : "no such file")
    }
    defer { try? file.close() }
    do {
      return try [UInt8](file.read(upToCount: RecipeParser.byteLimit + 1) ?? Data())
    } catch {
      let kind = try? FileManager.default.attributesOfItem(atPath: path)[.type]
      let isFolder = kind as? FileAttributeType == .typeDirectory
      throw Unreadable(
        description: isFolder ? "it is a folder, expected a recipe file" : "reading failed")
    }
  }

  private struct Unreadable: Error, CustomStringConvertible {
    let description: String
  }

  /// What one part of a recipe needs of another.
  private func checkParts() throws(RecipeError) {
    if let calibration {
      let given = [
        !calibration.text.isEmpty, !calibration.images.isEmpty, !calibration.audio.isEmpty,
        calibration.selfWritten,
      ].count { $0 }
      guard given == 1 else {
        throw RecipeError(
          at: (calibration.text + calibration.images + calibration.audio).first?.place
            ?? model.place,
          .refused("calibration needs either 'text', 'images', 'audio' or 'self-written: true'"))
      }
    }
    if let validation {
      let given = [validation.text, validation.images, validation.audio].filter { !$0.isEmpty }
      guard given.count == 1 else {
        throw RecipeError(
          at: given.first?.first?.place ?? model.place,
          .refused("validation needs either 'text', 'images' or 'audio'"))
      }
    }
    let transcripts = [
      (calibration?.transcripts, calibration?.audio), (validation?.transcripts, validation?.audio),
      (validation?.language, validation?.audio),
    ]
    for case (let option?, let audio) in transcripts where audio?.isEmpty ?? true {
      throw RecipeError(at: option.place, .refused("this belongs to 'audio', which is not given"))
    }
    var places: [String: RecipePlace] = [:]
    for stage in stages {
      if let first = places.updateValue(stage.name.place, forKey: stage.name.value) {
        throw RecipeError(at: stage.name.place, .duplicateName(stage.name.value, first: first))
      }
      if let tower = stage.tower, stage.kind == PackStageOptions.kind {
        throw RecipeError(at: tower.place, .refused("a bundle holds all towers; leave out 'tower'"))
      }
      if let requirement = stage.options.requirement(of: seen(by: stage)) {
        throw RecipeError(at: stage.name.place, .needs(requirement.what, key: requirement.key))
      }
      try check(stage.gate, at: stage.name.place)
    }
  }

  private func check(_ gate: GateOptions, at place: RecipePlace) throws(RecipeError) {
    let slices =
      (validation?.slices.map(\.name.value) ?? [])
      + towers.filter { !$0.options.validation.isEmpty }.map(\.name.value)
    for slice in gate.slices where !slices.contains(slice.slice.value) {
      throw RecipeError(
        at: slice.slice.place,
        .unknownKey(slice.slice.value, in: "validation.slices", known: slices))
    }
    guard gate.allLimits.contains(where: { $0 != DriftLimits() }) else { return }
    if validation == nil, gate.limits == DriftLimits() { return }
    guard let validation else {
      throw RecipeError(at: place, .needs("a gate on drift", key: "validation"))
    }
    if gate.allLimits.contains(where: { $0.maxSpearmanDrop != nil }), validation.pairs == nil {
      throw RecipeError(at: place, .needs("max-spearman-drop", key: "validation.pairs"))
    }
  }
}

// The files that a recipe reads and their hashes: written into the resolved recipe, checked when it runs.

import Bundles
import Checkpoints

enum InputHashes {
  /// Every file and checkpoint of a recipe, each once, with its hash.
  static func all(of recipe: Recipe) throws -> [Recipe.Input] {
    var inputs: [Recipe.Input] = []
    func add(_ path: Located<String>, _ digits: String) {
      guard !inputs.contains(where: { $0.path == path }) else { return }
      inputs.append(Recipe.Input(path: path, sha256: Located(digits)))
    }
    add(recipe.model, try contentHash(of: try AnyCheckpoint.open(recipe.model.value)))
    for entry in recipe.stages {
      guard let options = entry.options as? DistillStageOptions else { continue }
      for path in options.files { add(path, try ContentHash.of(file: path.value)) }
      if let teacher = options.teacher {
        add(teacher, try contentHash(of: try AnyCheckpoint.open(teacher.value)))
      }
    }
    for path in try texts(of: recipe) { add(path, try ContentHash.of(file: path.value)) }
    return inputs
  }

  private static func texts(of recipe: Recipe) throws -> [Located<String>] {
    var paths = recipe.calibration.map { $0.text + $0.images } ?? []
    paths += recipe.towers.flatMap { $0.options.calibration + $0.options.validation }
    let audio = (recipe.calibration?.audio ?? []) + (recipe.validation?.audio ?? [])
    for path in audio + (recipe.validation?.slices.flatMap(\.text) ?? []) {
      // A folder stands for its recordings.
      paths += try Recordings.files([path.value]).map { Located($0, at: path.place) }
    }
    if let transcripts = recipe.calibration?.transcripts { paths.append(transcripts) }
    if let validation = recipe.validation {
      paths += validation.text + validation.images
      if let pairs = validation.pairs { paths.append(pairs) }
      if let labels = validation.labels { paths.append(labels) }
      if let transcripts = validation.transcripts { paths.append(transcripts) }
    }
    return paths
  }

  /// Refuses a resolved recipe whose inputs are not what they were.
  static func check(_ recipe: Recipe) throws {
    for input in recipe.inputs {
      let path = input.path.value
      let digits =
        FilePath.kind(of: path) == .folder || path.hasSuffix(".condensed")
        ? try contentHash(of: try AnyCheckpoint.open(path)) : try ContentHash.of(file: path)
      guard digits == input.sha256.value else {
        throw RecipeError(
          at: input.sha256.place,
          .refused("'\(path)' has SHA-256 \(digits), the recipe was resolved with another content"))
      }
    }
  }
}

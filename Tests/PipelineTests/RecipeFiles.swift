@testable import Pipeline

/// Reads a recipe from texts in memory; the first is `recipes/main.yaml`.
func readRecipe(
  _ text: String, _ others: [String: String] = [:], set settings: [String] = []
) throws -> Recipe {
  struct Missing: Error, CustomStringConvertible { let description = "no such file" }
  return try Recipe.read(
    "recipes/main.yaml", settings: settings.map { try RecipeSetting(set: $0) },
    readFile: { path in
      guard path != "recipes/main.yaml" else { return Array(text.utf8) }
      guard let other = others[path] else { throw Missing() }
      return Array(other.utf8)
    })
}

/// The description of the error that reading gives, or `nil`.
func recipeError(
  _ text: String, _ others: [String: String] = [:], set settings: [String] = []
) -> String? {
  do {
    _ = try readRecipe(text, others, set: settings)
    return nil
  } catch {
    return "\(error)"
  }
}

let smallRecipe = """
  condense: 1
  model: m
  stages:
    - pack:

  """

let fullRecipe = """
  condense: 1                          # recipe format
  parameters: {bits: 4, head: int8-g32}
  model: ../checkpoints/quickstart
  output: ../out
  calibration: {text: [calibration.txt], tokens: 1000, context: 128, seed: 7}
  validation:
    text: [validation.txt]
    context: 64
    score: half
    windows: 200
    pairs: stsb.csv
    slices: {dialogue: [dialogue.txt], "code": [/data/code.txt]}
  stages:
    - quantize:
        name: gptq4
        method: gptq
        encoding: int${bits}-g32
        symmetric: true
        overrides: {lm_head: "${head}", "model.layers.*.mlp.down_proj": int6-g32}
        damping: 0.05
        block-size: 64
        act-order: false
        grid: minmax
        true-sequential: false
        gate:
          max-kl: 0.02
          max-perplexity-ratio: 1.02
          min-top1: 0.9
          min-cosine: 0.98
          min-neighbour-overlap: 0.8
          max-spearman-drop: 0.5
          max-fallbacks: 2
          slices: {dialogue: {max-kl: 0.05}}
    - pack: {dtype: bf16, self-test: false, gate: {max-kl: 1}}

  """

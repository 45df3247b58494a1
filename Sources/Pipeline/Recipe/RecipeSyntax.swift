// What the YAML reader refuses, as an error of ours with its place.

internal import Yams

/// Turns errors of the YAML reader into `RecipeError`.
struct RecipeSyntax {
  let text: String
  let place: (_ line: Int, _ column: Int) -> RecipePlace

  func error(for error: any Error) -> RecipeError {
    guard let error = error as? YamlError else {
      return RecipeError(at: place(1, 1), .syntax("\(error)"))
    }
    switch error {
    case .scanner(let context, let problem, let mark, _),
      .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      return RecipeError(at: place(mark.line, mark.column), .syntax(reason(context, problem, mark)))
    case .reader(let problem, let offset, _, _):
      let (line, column) = position(ofCharacter: offset ?? 0)
      return RecipeError(at: place(line, column), .syntax(problem))
    case .duplicatedKeysInMapping(let duplicates, let context):
      let mark = context.mark
      return RecipeError(
        at: place(mark.line, mark.column), .duplicateKey(duplicates.first ?? ""))
    default:
      return RecipeError(at: place(1, 1), .syntax("the YAML reader gave up"))
    }
  }

  private func reason(_ context: YamlError.Context?, _ problem: String, _ mark: Mark) -> String {
    switch character(at: mark) {
    case "\t": return "a tab stands here, indent with spaces"
    case "*" where problem.hasPrefix("did not find expected alphabetic"),
      "." where problem.hasPrefix("did not find expected alphabetic"):
      return "a value that starts with * must stand in quotes"
    default: break
    }
    guard let context, !context.text.isEmpty else { return problem }
    return "\(problem) \(context.text) (line \(context.mark.line))"
  }

  private func character(at mark: Mark) -> Unicode.Scalar? {
    let lines = text.unicodeScalars.split(omittingEmptySubsequences: false) { $0 == "\n" }
    guard lines.indices.contains(mark.line - 1) else { return nil }
    return lines[mark.line - 1].dropFirst(mark.column - 1).first
  }

  private func position(ofCharacter offset: Int) -> (line: Int, column: Int) {
    var line = 1
    var column = 1
    for character in text.prefix(offset) {
      (line, column) = character.isNewline ? (line + 1, 1) : (line, column + 1)
    }
    return (line, column)
  }
}

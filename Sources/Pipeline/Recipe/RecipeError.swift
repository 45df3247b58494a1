// Why a recipe cannot be run: where, what was found, what was expected, what to write instead.

/// What is wrong with a recipe, and where.
public struct RecipeError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong. The cases carry the words of the recipe, never a sentence, but for two that pass
  /// on what another module said.
  public enum Problem: Sendable, Equatable {
    /// The file cannot be opened or read; the reason in the system's words.
    case unreadable(String)
    /// The file is longer than any recipe.
    case tooLarge(limit: Int)
    /// The bytes from this one on are not UTF-8.
    case notUTF8(offset: Int)
    /// Nothing but white space and comments.
    case empty
    /// Not YAML; the reason in the words of the YAML reader.
    case syntax(String)
    /// More `*aliases` than this, which could stand for any amount of text.
    case tooManyAliases(limit: Int)
    /// More values than this, aliases written out.
    case tooManyValues(limit: Int)
    /// A tag such as `!!binary`.
    case unsupportedTag(String)
    /// One mapping has this key twice.
    case duplicateKey(String)
    /// A key that is not a plain piece of text.
    case badKey(found: String)
    /// A key that this part of a recipe does not have.
    case unknownKey(String, in: String, known: [String])
    /// A key that must be there.
    case missingKey(String, in: String)
    /// A value of the wrong type or out of range.
    case wrongValue(key: String, found: String, expected: String, nearest: String?)
    /// `${name}` where no parameter has this name.
    case unknownParameter(String, known: [String])
    /// `${` without a name and `}`.
    case badReference
    /// A parameter's value refers to itself, through these.
    case parameterCycle([String])
    /// With its parameters replaced, one text is longer than this.
    case textTooLong(limit: Int)
    /// A file imports itself, through these.
    case importCycle([String])
    /// More files than this are imported.
    case tooManyImports(limit: Int)
    /// Two stages have one name.
    case duplicateName(String, first: RecipePlace)
    /// `--set` without a key and `=`.
    case badSetting(String)
    /// `--set` of a key that cannot be there.
    case unknownSetting(String, known: [String])
    /// Something is used here that another part of the recipe must give: what, and which key.
    case needs(String, key: String)
    /// Another module refuses the value; its reason.
    case refused(String)
  }

  /// Where the mistake stands.
  public let place: RecipePlace
  /// What is wrong.
  public let problem: Problem

  /// A problem at a place.
  public init(at place: RecipePlace, _ problem: Problem) {
    self.place = place
    self.problem = problem
  }

  /// `file:line:column: what, expected, cure` on one line, without a full stop.
  public var description: String {
    // Whatever a file holds, an error stays on one line.
    let line = "\(place): \(problem.sentence)"
    return String(String.UnicodeScalarView(line.unicodeScalars.map { $0.isControl ? " " : $0 }))
  }
}

extension Unicode.Scalar {
  fileprivate var isControl: Bool {
    value < 0x20 || (0x7F..<0xA0).contains(value) || value == 0x2028 || value == 0x2029
  }
}

extension RecipeError.Problem {
  fileprivate var sentence: String {
    switch self {
    case .unreadable(let reason): "cannot be read: \(reason)"
    case .tooLarge(let limit): "longer than \(limit) bytes, which is the limit for a recipe"
    case .notUTF8(let offset): "byte \(offset) is not UTF-8, save the recipe as UTF-8"
    case .empty: "the recipe is empty, expected a mapping that starts with 'condense: 1'"
    case .syntax(let reason): "not YAML: \(reason)"
    case .tooManyAliases(let limit):
      "more than \(limit) aliases (*name), use 'imports' or '${parameter}' to repeat values"
    case .tooManyValues(let limit): "more than \(limit) values, aliases written out"
    case .unsupportedTag(let tag): "the tag '\(tag)' has no meaning in a recipe, remove it"
    case .duplicateKey(let key): "the key '\(key)' stands twice in one mapping, keep one"
    case .badKey(let found): "\(found) stands where a key is expected"
    case .unknownKey(let key, let section, let known):
      "unknown key '\(key)' in \(section)\(Self.hint(key, known))"
    case .missingKey(let key, let section): "\(section) has no key '\(key)', which it needs"
    case .wrongValue(let key, let found, let expected, let nearest):
      "\(key) is \(found), expected \(expected)"
        + (nearest.map { ", did you mean '\($0)'?" } ?? "")
    case .unknownParameter(let name, let known):
      "unknown parameter '\(name)'" + Self.hint(name, known)
    case .badReference:
      "'${' without a parameter's name and '}', expected '${name}' (or '$${' for the text '${')"
    case .parameterCycle(let names):
      "the parameter refers to itself: \(names.joined(separator: " → "))"
    case .textTooLong(let limit):
      "the text is longer than \(limit) characters when its parameters are replaced"
    case .importCycle(let files): "the file imports itself: \(files.joined(separator: " → "))"
    case .tooManyImports(let limit): "more than \(limit) files are imported"
    case .duplicateName(let name, let first):
      "the name '\(name)' is taken by the stage at \(first), give this stage a 'name' of its own"
    case .badSetting(let text): "'\(text)' is no setting, expected key=value"
    case .unknownSetting(let key, let known):
      "no parameter and no key is called '\(key)'" + Self.hint(key, known)
    case .needs(let what, let key): "\(what) needs '\(key)', which the recipe does not give"
    case .refused(let reason): reason
    }
  }

  private static func hint(_ word: String, _ known: [String]) -> String {
    if let nearest = nearestWord(to: word, among: known) { return ", did you mean '\(nearest)'?" }
    return known.isEmpty ? ", none is known here" : ", known: \(known.joined(separator: ", "))"
  }
}

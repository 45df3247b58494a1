// Reads a regular expression, as `tokenizers` writes them in its files, into a tree.
//
// Source   Oniguruma's syntax, https://github.com/kkos/oniguruma/blob/master/doc/RE: the engine of
//          `tokenizers`. Its dialect shows in places: `^` and `$` are ends of lines, and `{1,3}+`
//          is a repeated repeat, not a possessive one.
// Differs  No groups to refer back to, no look-behind beyond one character, no scripts but Han:
//          such a pattern is refused by name.

/// A part of a regular expression.
indirect enum RegexNode {
  case set(ScalarSetExpression)
  case sequence([RegexNode])
  case alternatives([RegexNode])
  case repeated(RegexNode, least: Int, most: Int?, RepeatMode)
  /// Matches without taking text, or with `isNegated` where the body does not match.
  case lookahead(RegexNode, isNegated: Bool)
  case lookbehind(ScalarSetExpression, isNegated: Bool)
  /// What the body took is not given back.
  case atomic(RegexNode)
  case lineStart, lineEnd, textStart, textEnd, textEndOrLastNewline
  case wordBoundary(isNegated: Bool)

  enum RepeatMode { case greedy, lazy, possessive }
}

/// Why a pattern cannot be used; the caller knows the pattern.
struct RegexError: Error {
  let reason: String
}

/// Reads one pattern.
struct RegexParser {
  static let depthLimit = 40
  private static let countLimit = 1000

  let pattern: [Unicode.Scalar]
  var position = 0
  private var ignoresCase = false
  private var isExtended = false
  var depth = 0

  private init(_ pattern: String) { self.pattern = Array(pattern.unicodeScalars) }

  /// The tree of a pattern.
  static func parse(_ pattern: String) throws(RegexError) -> RegexNode {
    var parser = RegexParser(pattern)
    let node = try parser.alternatives()
    guard parser.position == parser.pattern.count else {
      throw RegexError(reason: "')' at \(parser.position) closes nothing")
    }
    return node
  }

  var next: Unicode.Scalar? {
    position < pattern.count ? pattern[position] : nil
  }

  mutating func take(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    guard pattern[position...].starts(with: scalars) else { return false }
    position += scalars.count
    return true
  }

  func unsupported(_ what: String) -> RegexError {
    RegexError(reason: "\(what) at \(position) is not supported")
  }

  private mutating func alternatives() throws(RegexError) -> RegexNode {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else {
      throw RegexError(reason: "groups are nested deeper than \(Self.depthLimit)")
    }
    // An option such as (?i) holds to the end of its group.
    let options = (ignoresCase, isExtended)
    defer { (ignoresCase, isExtended) = options }
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    return branches.count == 1 ? branches[0] : .alternatives(branches)
  }

  private mutating func sequence() throws(RegexError) -> RegexNode {
    var parts: [RegexNode] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      if isExtended, scalar.properties.isPatternWhitespace {
        position += 1
        continue
      }
      guard var part = try atom() else { continue }
      var quantifiers = 0
      while let quantified = try quantifier(of: part) {
        part = quantified
        quantifiers += 1
        guard quantifiers <= 4 else { throw unsupported("so many repeats of one part") }
      }
      parts.append(part)
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func quantifier(of part: RegexNode) throws(RegexError) -> RegexNode? {
    let bounds: (Int, Int?)
    var isInterval = false
    switch next {
    case "*": bounds = (0, nil)
    case "+": bounds = (1, nil)
    case "?": bounds = (0, 1)
    case "{":
      guard let interval = try interval() else { return nil }
      bounds = interval
      isInterval = true
    default: return nil
    }
    if !isInterval { position += 1 }
    if isInterval, bounds.0 == bounds.1, next == "?" {
      // `a{3}?` is an optional `a{3}`.
      position += 1
      return .repeated(
        .repeated(part, least: bounds.0, most: bounds.1, .greedy), least: 0, most: 1, .greedy)
    }
    var mode = RegexNode.RepeatMode.greedy
    if take("?") { mode = .lazy } else if !isInterval, take("+") { mode = .possessive }
    return .repeated(part, least: bounds.0, most: bounds.1, mode)
  }

  /// `{2}`, `{2,}`, `{,3}` or `{2,3}`; a brace that starts none of these is a character.
  private mutating func interval() throws(RegexError) -> (Int, Int?)? {
    var index = position + 1
    func number() -> Int? {
      var value: Int?
      while index < pattern.count, let digit = Int(String(pattern[index])) {
        value = min((value ?? 0) * 10 + digit, Self.countLimit + 1)
        index += 1
      }
      return value
    }
    let least = number()
    var most = least
    if index < pattern.count, pattern[index] == "," {
      index += 1
      most = number()
      guard least != nil || most != nil else { return nil }
    } else if least == nil {
      return nil
    }
    guard index < pattern.count, pattern[index] == "}" else { return nil }
    guard max(least ?? 0, most ?? 0) <= Self.countLimit else {
      throw RegexError(reason: "a repeat count is above \(Self.countLimit)")
    }
    if let least, let most, least > most { throw unsupported("a repeat from more to less") }
    position = index + 1
    return (least ?? 0, most)
  }

  private func set(_ expression: ScalarSetExpression) -> RegexNode {
    .set(ignoresCase ? .anyCase(expression) : expression)
  }

  /// One atom, or `nil` for an option such as `(?i)`.
  private mutating func atom() throws(RegexError) -> RegexNode? {
    let scalar = pattern[position]
    position += 1
    switch scalar {
    case "(": return try group()
    case "[": return set(try characterClass())
    case ".": return .set(.complement(.ranges([0x0A...0x0A])))
    case "^": return .lineStart
    case "$": return .lineEnd
    case "\\": return try escapedAtom()
    case "*", "+", "?":
      position -= 1
      throw unsupported("'\(scalar)' with nothing to repeat")
    default: return set(.ranges([scalar.value...scalar.value]))
    }
  }

  private mutating func group() throws(RegexError) -> RegexNode? {
    guard take("?") else { return try closed(alternatives()) }
    if take(":") { return try closed(alternatives()) }
    if take(">") { return .atomic(try closed(alternatives())) }
    if take("=") { return .lookahead(try closed(alternatives()), isNegated: false) }
    if take("!") { return .lookahead(try closed(alternatives()), isNegated: true) }
    for (mark, isNegated) in [("<=", false), ("<!", true)] where take(mark) {
      guard case .set(let set) = try closed(alternatives()) else {
        throw unsupported("look-behind of more than one character")
      }
      return .lookbehind(set, isNegated: isNegated)
    }
    var isOn = true
    while let option = next {
      position += 1
      switch option {
      case "-": isOn = false
      case "i": ignoresCase = isOn
      case "x": isExtended = isOn
      case ")": return nil
      case ":": return try closed(alternatives())
      default:
        position -= 1
        throw unsupported("group option '\(option)'")
      }
    }
    throw RegexError(reason: "a group is not closed")
  }

  private mutating func closed(_ node: RegexNode) throws(RegexError) -> RegexNode {
    guard take(")") else { throw RegexError(reason: "a group is not closed") }
    return node
  }

  private mutating func escapedAtom() throws(RegexError) -> RegexNode {
    switch next {
    case "b": position += 1; return .wordBoundary(isNegated: false)
    case "B": position += 1; return .wordBoundary(isNegated: true)
    case "A": position += 1; return .textStart
    case "z": position += 1; return .textEnd
    case "Z": position += 1; return .textEndOrLastNewline
    case "R":
      position += 1
      let single = ScalarSetExpression.ranges([0x0A...0x0D, 0x85...0x85, 0x2028...0x2029])
      return .atomic(
        .alternatives([
          .sequence([.set(.ranges([0x0D...0x0D])), .set(.ranges([0x0A...0x0A]))]), .set(single),
        ]))
    case "w": position += 1; return set(Self.bareWord)
    case "W": position += 1; return set(.complement(Self.bareWord))
    default: return set(try escapedSet())
    }
  }

  /// Outside brackets, and there alone, Oniguruma counts ² ³ ¹ ¼ ½ ¾ as word characters.
  private static let bareWord = ScalarSetExpression.union([
    .word, .ranges([0xB2...0xB3, 0xB9...0xB9, 0xBC...0xBE]),
  ])
}

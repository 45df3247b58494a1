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
  private static let depthLimit = 40
  private static let countLimit = 1000

  private let pattern: [Unicode.Scalar]
  private var position = 0
  private var ignoresCase = false
  private var isExtended = false
  private var depth = 0

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

  private var next: Unicode.Scalar? {
    position < pattern.count ? pattern[position] : nil
  }

  private mutating func take(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    guard pattern[position...].starts(with: scalars) else { return false }
    position += scalars.count
    return true
  }

  private func unsupported(_ what: String) -> RegexError {
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

// MARK: - Sets

extension RegexParser {
  /// What follows a backslash, inside a class or outside.
  private mutating func escapedSet() throws(RegexError) -> ScalarSetExpression {
    guard let scalar = next else { throw RegexError(reason: "the pattern ends in a backslash") }
    position += 1
    switch scalar {
    case "s": return .whitespace
    case "S": return .complement(.whitespace)
    case "d": return .categories(1 << 8)
    case "D": return .complement(.categories(1 << 8))
    case "w": return .word
    case "W": return .complement(.word)
    case "h": return Self.hexadecimal
    case "H": return .complement(Self.hexadecimal)
    case "p", "P": return try property(isComplement: scalar == "P")
    default:
      let value = try escapedScalar(scalar)
      return .ranges([value...value])
    }
  }

  private static let hexadecimal = ScalarSetExpression.ranges([
    0x30...0x39, 0x41...0x46, 0x61...0x66,
  ])

  private mutating func escapedScalar(_ scalar: Unicode.Scalar) throws(RegexError) -> UInt32 {
    switch scalar {
    case "n": return 0x0A
    case "t": return 0x09
    case "r": return 0x0D
    case "f": return 0x0C
    case "v": return 0x0B
    case "a": return 0x07
    case "e": return 0x1B
    case "x":
      if take("{") {
        let value = try hexadecimalNumber(digits: 1...6)
        guard take("}") else { throw unsupported("this \\x{}") }
        return value
      }
      return try hexadecimalNumber(digits: 1...2)
    case "u": return try hexadecimalNumber(digits: 4...4)
    case "0"..."9", "a"..."z", "A"..."Z":
      position -= 1
      throw unsupported("'\\\(scalar)'")
    default: return scalar.value
    }
  }

  private mutating func hexadecimalNumber(
    digits: ClosedRange<Int>
  ) throws(RegexError) -> UInt32 {
    var value: UInt32 = 0
    var count = 0
    while count < digits.upperBound, let scalar = next, scalar.isASCII,
      let digit = UInt32(String(scalar), radix: 16)
    {
      value = value << 4 | digit
      count += 1
      position += 1
    }
    guard count >= digits.lowerBound, Unicode.Scalar(value) != nil else {
      throw unsupported("this hexadecimal number")
    }
    return value
  }

  /// `\p{L}`, `\p{^L}`, `\P{L}`.
  private mutating func property(isComplement: Bool) throws(RegexError) -> ScalarSetExpression {
    guard take("{") else { throw unsupported("'\\p' without '{'") }
    var isComplement = isComplement
    if take("^") { isComplement.toggle() }
    var name = ""
    while let scalar = next, scalar != "}" {
      if scalar != "_", scalar != " ", scalar != "-" { name.unicodeScalars.append(scalar) }
      position += 1
    }
    guard take("}") else { throw RegexError(reason: "'\\p{' is not closed") }
    guard let set = Self.property(named: name.lowercased()) else {
      throw RegexError(reason: "\\p{\(name)} is not supported")
    }
    return isComplement ? .complement(set) : set
  }

  /// The set of a general category, of the long name of a major one, or of a POSIX bracket.
  static func property(named name: String) -> ScalarSetExpression? {
    switch name {
    case "l", "letter": return .categories(ScalarClass.letters)
    case "m", "mark": return .categories(ScalarClass.marks)
    case "n", "number": return .categories(ScalarClass.numbers)
    case "p", "punctuation", "punct": return .categories(ScalarClass.punctuation)
    case "s", "symbol": return .categories(0b1111 << 18)
    case "z", "separator": return .categories(0b111 << 22)
    case "c", "other": return .categories(0b1_1111 << 25)
    case "lc": return .categories(0b111)
    case "space", "whitespace": return .whitespace
    case "word": return .word
    case "digit": return .categories(1 << 8)
    case "alpha", "alphabetic": return .alphabetic
    case "alnum": return .union([.alphabetic, .categories(1 << 8)])
    case "upper", "uppercase": return .uppercase
    case "lower", "lowercase": return .lowercase
    case "cntrl": return .categories(1 << 25)
    case "blank": return .union([.categories(1 << 22), .ranges([0x09...0x09])])
    case "xdigit": return hexadecimal
    case "ascii": return .ranges([0...0x7F])
    case "any": return .ranges([0...0x10FFFF])
    case "han": return .ranges(hanRanges)
    default:
      guard let index = ScalarClass.names.firstIndex(where: { $0.lowercased() == name }) else {
        return nil
      }
      return .categories(1 << UInt32(index))
    }
  }

  /// Script=Han of Unicode 16.0, Scripts.txt.
  private static let hanRanges: [ClosedRange<UInt32>] = [
    0x2E80...0x2E99, 0x2E9B...0x2EF3, 0x2F00...0x2FD5, 0x3005...0x3005, 0x3007...0x3007,
    0x3021...0x3029, 0x3038...0x303B, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xF900...0xFA6D,
    0xFA70...0xFAD9, 0x16FE2...0x16FE3, 0x16FF0...0x16FF1, 0x20000...0x2A6DF,
    0x2A700...0x2B739, 0x2B740...0x2B81D, 0x2B820...0x2CEA1, 0x2CEB0...0x2EBE0,
    0x2EBF0...0x2EE5D, 0x2F800...0x2FA1D, 0x30000...0x3134A, 0x31350...0x323AF,
  ]

  /// What stands between `[` and `]`; the opening bracket has been read.
  private mutating func characterClass() throws(RegexError) -> ScalarSetExpression {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else {
      throw RegexError(reason: "classes are nested deeper than \(Self.depthLimit)")
    }
    let isComplement = take("^")
    var operands: [ScalarSetExpression] = []
    var members: [ScalarSetExpression] = []
    var isFirst = true
    while let scalar = next, scalar != "]" || isFirst {
      isFirst = false
      if take("&&") {
        operands.append(.union(members))
        members = []
      } else if take("[:") {
        members.append(try posixBracket())
      } else if take("[") {
        members.append(try characterClass())
      } else {
        members.append(try classMember())
      }
    }
    guard take("]") else { throw RegexError(reason: "'[' is not closed") }
    let last = ScalarSetExpression.union(members)
    let set = operands.isEmpty ? last : .intersection(operands + [last])
    return isComplement ? .complement(set) : set
  }

  private mutating func posixBracket() throws(RegexError) -> ScalarSetExpression {
    let isComplement = take("^")
    var name = ""
    while let scalar = next, scalar != ":" {
      name.unicodeScalars.append(scalar)
      position += 1
    }
    // In brackets "punct" includes symbols, after \p it does not.
    let symbols = ScalarSetExpression.categories(ScalarClass.punctuation | 0b1111 << 18)
    guard take(":]"), let set = name == "punct" ? symbols : Self.property(named: name) else {
      throw RegexError(reason: "[:\(name):] is not supported")
    }
    return isComplement ? .complement(set) : set
  }

  /// A character, an escape, or a range of characters.
  private mutating func classMember() throws(RegexError) -> ScalarSetExpression {
    guard let low = try classScalar() else { return try escapedSet() }
    let isRange =
      next == "-" && position + 1 < pattern.count && pattern[position + 1] != "]"
    guard isRange else { return .ranges([low...low]) }
    position += 1
    guard let high = try classScalar(), low <= high else {
      throw unsupported("this range of a class")
    }
    return .ranges([low...high])
  }

  /// One character of a class; `nil`, behind the backslash, when an escape names a set.
  private mutating func classScalar() throws(RegexError) -> UInt32? {
    guard let scalar = next else { throw RegexError(reason: "'[' is not closed") }
    position += 1
    guard scalar == "\\" else { return scalar.value }
    guard let escaped = next else { throw RegexError(reason: "the pattern ends in a backslash") }
    if "sSdDwWhHpP".unicodeScalars.contains(escaped) { return nil }
    if escaped == "b" {
      position += 1
      return 0x08
    }
    position += 1
    return try escapedScalar(escaped)
  }
}

// Reads the sets of a regular expression: escapes, properties and bracketed classes.

extension RegexParser {
  /// What follows a backslash, inside a class or outside.
  mutating func escapedSet() throws(RegexError) -> ScalarSetExpression {
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
  mutating func characterClass() throws(RegexError) -> ScalarSetExpression {
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

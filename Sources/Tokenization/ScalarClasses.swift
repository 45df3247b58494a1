// General categories of Unicode scalars, in one byte each.
//
// Source   The standard library's Unicode data, cut to version 16.0: the regular expressions of
//          `tokenizers` (Oniguruma 6.9.10) know that version, and ids must be equal.
// Cost     Scalars below U+3400, CJK and Hangul by table or range; the rest asks the library.

/// The category of a scalar and two properties, packed in a byte.
enum ScalarClass {
  /// White_Space.
  static let whitespaceBit: UInt8 = 0x20
  /// `\w`: alphabetic, mark, decimal number or connector punctuation.
  static let wordBit: UInt8 = 0x40
  /// The bits of the category's index in `names`.
  static let categoryBits: UInt8 = 0x1F

  /// General categories in the order of their index.
  static let names = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
  ]
  static let letters: UInt32 = 0b1_1111
  static let marks: UInt32 = 0b111 << 5
  static let numbers: UInt32 = 0b111 << 8
  static let punctuation: UInt32 = 0b111_1111 << 11
  private static let otherLetter: UInt8 = 4
  static let unassigned: UInt8 = 29

  private static let table: [UInt8] = (0..<0x3400).map { compute($0) }

  /// The class of a scalar value.
  @inline(__always)
  static func of(_ value: UInt32) -> UInt8 {
    if value < 0x3400 { return table[Int(value)] }
    switch value {
    // Wholly assigned blocks of ideographs and syllables.
    case 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xAC00...0xD7A3, 0x20000...0x2A6DF:
      return otherLetter | wordBit
    default: return compute(value)
    }
  }

  /// The category as a mask with one bit set.
  @inline(__always)
  static func categoryMask(_ value: UInt32) -> UInt32 { 1 << UInt32(of(value) & categoryBits) }

  /// White_Space, any Unicode version.
  static func isWhitespace(_ value: UInt32) -> Bool { of(value) & whitespaceBit != 0 }

  /// `\w` of the regular expressions that find words around added tokens: with the two joiners.
  static func isWord(_ value: UInt32) -> Bool {
    if value == 0x200C || value == 0x200D { return true }
    return of(value) & wordBit != 0
  }

  /// `\w` as `\b` sees it: outside brackets, and there alone, Oniguruma counts ² ³ ¹ ¼ ½ ¾.
  static func isBareWord(_ value: UInt32) -> Bool {
    of(value) & wordBit != 0 || (0xB2...0xBE).contains(value) && of(value) & categoryBits == 10
  }

  private static func compute(_ value: UInt32) -> UInt8 {
    guard let scalar = Unicode.Scalar(value) else { return 27 }
    let properties = scalar.properties
    // Assigned after Unicode 16.0.
    guard let age = properties.age, age.major <= 16 else { return unassigned }
    let category = value == 0x295 ? 1 : index(of: properties.generalCategory)
    let mask: UInt32 = 1 << UInt32(category)
    let isWord =
      properties.isAlphabetic || mask & (marks | 1 << 8 | 1 << 11) != 0
    return category | (properties.isWhitespace ? whitespaceBit : 0) | (isWord ? wordBit : 0)
  }

  private static func index(of category: Unicode.GeneralCategory) -> UInt8 {
    switch category {
    case .uppercaseLetter: 0
    case .lowercaseLetter: 1
    case .titlecaseLetter: 2
    case .modifierLetter: 3
    case .otherLetter: 4
    case .nonspacingMark: 5
    case .spacingMark: 6
    case .enclosingMark: 7
    case .decimalNumber: 8
    case .letterNumber: 9
    case .otherNumber: 10
    case .connectorPunctuation: 11
    case .dashPunctuation: 12
    case .openPunctuation: 13
    case .closePunctuation: 14
    case .initialPunctuation: 15
    case .finalPunctuation: 16
    case .otherPunctuation: 17
    case .mathSymbol: 18
    case .currencySymbol: 19
    case .modifierSymbol: 20
    case .otherSymbol: 21
    case .spaceSeparator: 22
    case .lineSeparator: 23
    case .paragraphSeparator: 24
    case .control: 25
    case .format: 26
    case .surrogate: 27
    case .privateUse: 28
    case .unassigned: 29
    @unknown default: 29
    }
  }
}

extension Unicode.Scalar {
  /// Assigned in this Unicode version or before.
  func isAssigned(inUnicode major: Int) -> Bool {
    guard let age = properties.age else { return false }
    return age.major < major || age.major == major && age.minor == 0
  }
}

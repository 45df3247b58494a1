// Sets of Unicode scalars, as the classes of a regular expression describe them.

/// A set, as it is written.
indirect enum ScalarSetExpression: Sendable {
  case ranges([ClosedRange<UInt32>])
  /// General categories, one bit each in the order of `ScalarClass.names`.
  case categories(UInt32)
  case whitespace
  case word
  case alphabetic, uppercase, lowercase
  case complement(ScalarSetExpression)
  case union([ScalarSetExpression])
  case intersection([ScalarSetExpression])
  /// Also what differs from a member only in case.
  case anyCase(ScalarSetExpression)

  func contains(_ value: UInt32) -> Bool {
    switch self {
    case .ranges(let ranges): ranges.contains { $0.contains(value) }
    case .categories(let mask): mask & ScalarClass.categoryMask(value) != 0
    case .whitespace: ScalarClass.of(value) & ScalarClass.whitespaceBit != 0
    case .word: ScalarClass.of(value) & ScalarClass.wordBit != 0
    case .alphabetic: Self.properties(value)?.isAlphabetic == true
    case .uppercase: Self.properties(value)?.isUppercase == true
    case .lowercase: Self.properties(value)?.isLowercase == true
    case .complement(let set): !set.contains(value)
    case .union(let sets): sets.contains { $0.contains(value) }
    case .intersection(let sets): sets.allSatisfy { $0.contains(value) }
    case .anyCase(let set): caseVariants(value).contains { set.contains($0) }
    }
  }

  /// The properties of a scalar that is assigned in the version that `ScalarClass` keeps to.
  private static func properties(_ value: UInt32) -> Unicode.Scalar.Properties? {
    ScalarClass.of(value) & ScalarClass.categoryBits == ScalarClass.unassigned
      ? nil : Unicode.Scalar(value)?.properties
  }
}

/// A scalar and those that differ from it only in case: "s", "S" and "ſ" are variants.
private func caseVariants(_ value: UInt32) -> [UInt32] {
  var variants = [value]
  func add(_ text: String) {
    let scalars = text.unicodeScalars
    guard let first = scalars.first, scalars.count == 1, !variants.contains(first.value) else {
      return
    }
    variants.append(first.value)
  }
  guard let properties = Unicode.Scalar(value)?.properties else { return variants }
  add(properties.lowercaseMapping)
  add(properties.uppercaseMapping)
  for variant in variants {
    guard let properties = Unicode.Scalar(variant)?.properties else { continue }
    add(properties.lowercaseMapping)
    add(properties.uppercaseMapping)
  }
  return variants
}

/// A set ready for matching: ASCII as bits, the rest by its expression.
struct ScalarSet: Sendable {
  private let low: UInt64
  private let high: UInt64
  private let rest: Rest

  private enum Rest: Sendable {
    case none
    case all
    /// Members have one of these categories, or are white space; or they are all others.
    case classes(categories: UInt32, whitespace: Bool, isComplement: Bool)
    case expression(ScalarSetExpression)
  }

  init(_ expression: ScalarSetExpression) {
    var low: UInt64 = 0
    var high: UInt64 = 0
    for value in UInt32(0)..<64 where expression.contains(value) { low |= 1 << UInt64(value) }
    for value in UInt32(64)..<128 where expression.contains(value) {
      high |= 1 << UInt64(value - 64)
    }
    self.low = low
    self.high = high
    rest = Self.rest(of: expression)
  }

  @inline(__always)
  func contains(_ value: UInt32) -> Bool {
    if value < 64 { return low >> UInt64(value) & 1 != 0 }
    if value < 128 { return high >> UInt64(value - 64) & 1 != 0 }
    return containsBeyondASCII(value)
  }

  private func containsBeyondASCII(_ value: UInt32) -> Bool {
    switch rest {
    case .none: return false
    case .all: return true
    case .classes(let categories, let whitespace, let isComplement):
      let bits = ScalarClass.of(value)
      let isMember =
        categories >> UInt32(bits & ScalarClass.categoryBits) & 1 != 0
        || whitespace && bits & ScalarClass.whitespaceBit != 0
      return isMember != isComplement
    case .expression(let expression): return expression.contains(value)
    }
  }

  /// The members beyond ASCII in the cheapest form.
  private static func rest(of expression: ScalarSetExpression) -> Rest {
    switch expression {
    case .ranges(let ranges) where ranges.allSatisfy { $0.upperBound < 0x80 }: return .none
    case .categories(let mask):
      return .classes(categories: mask, whitespace: false, isComplement: false)
    case .whitespace: return .classes(categories: 0, whitespace: true, isComplement: false)
    case .complement(let set):
      return switch rest(of: set) {
      case .none: .all
      case .all: .none
      case .classes(let categories, let whitespace, let isComplement):
        .classes(categories: categories, whitespace: whitespace, isComplement: !isComplement)
      case .expression: .expression(expression)
      }
    case .union(let sets):
      var all: UInt32 = 0
      var withWhitespace = false
      for set in sets {
        switch rest(of: set) {
        case .none: continue
        case .classes(let categories, let whitespace, false):
          all |= categories
          withWhitespace = withWhitespace || whitespace
        default: return .expression(expression)
        }
      }
      return all == 0 && !withWhitespace
        ? .none : .classes(categories: all, whitespace: withWhitespace, isComplement: false)
    default: return .expression(expression)
    }
  }
}

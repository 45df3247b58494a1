// Scalars of UTF-8 bytes that are known to be valid: every text is checked once, on its way in.

/// The scalar that starts at `index`, and how many bytes it has.
@inline(__always)
func scalar(_ text: Span<UInt8>, at index: Int) -> (value: UInt32, length: Int) {
  let first = text[index]
  if first < 0x80 { return (UInt32(first), 1) }
  let second = UInt32(text[index + 1] & 0x3F)
  if first < 0xE0 { return (UInt32(first & 0x1F) << 6 | second, 2) }
  let third = UInt32(text[index + 2] & 0x3F)
  if first < 0xF0 { return (UInt32(first & 0x0F) << 12 | second << 6 | third, 3) }
  let fourth = UInt32(text[index + 3] & 0x3F)
  return (UInt32(first & 0x07) << 18 | second << 12 | third << 6 | fourth, 4)
}

/// Where the scalar that ends before `index` starts.
@inline(__always)
func scalarStart(_ text: Span<UInt8>, before index: Int) -> Int {
  var index = index - 1
  while index > 0, text[index] & 0xC0 == 0x80 { index -= 1 }
  return index
}

extension [UInt8] {
  /// Appends the UTF-8 of one scalar value; `value` is not a surrogate.
  @inline(__always)
  mutating func append(scalar value: UInt32) {
    switch value {
    case 0..<0x80: append(UInt8(truncatingIfNeeded: value))
    case 0x80..<0x800:
      append(UInt8(truncatingIfNeeded: 0xC0 | value >> 6))
      append(UInt8(truncatingIfNeeded: 0x80 | value & 0x3F))
    case 0x800..<0x10000:
      append(UInt8(truncatingIfNeeded: 0xE0 | value >> 12))
      append(UInt8(truncatingIfNeeded: 0x80 | value >> 6 & 0x3F))
      append(UInt8(truncatingIfNeeded: 0x80 | value & 0x3F))
    default:
      append(UInt8(truncatingIfNeeded: 0xF0 | value >> 18))
      append(UInt8(truncatingIfNeeded: 0x80 | value >> 12 & 0x3F))
      append(UInt8(truncatingIfNeeded: 0x80 | value >> 6 & 0x3F))
      append(UInt8(truncatingIfNeeded: 0x80 | value & 0x3F))
    }
  }

  /// Appends a part of another text.
  mutating func append(_ text: Span<UInt8>, _ range: Range<Int>) {
    reserveCapacity(count + range.count)
    let part = text.extracting(range)
    for i in part.indices { append(part[i]) }
  }

  /// True when `other` starts at `index`.
  func has(_ other: [UInt8], at index: Int) -> Bool {
    guard index >= 0, other.count <= count - index else { return false }
    for i in other.indices where self[index + i] != other[i] { return false }
    return true
  }
}

/// Where the first byte stands that is not part of a well-formed UTF-8 sequence (Unicode 16,
/// table 3-7), or `nil` when the whole text is well formed.
func firstInvalidUTF8(_ text: Span<UInt8>) -> Int? {
  var i = 0
  while i < text.count {
    let length = wellFormedLength(text, at: i)
    guard length > 0 else { return i }
    i += length
  }
  return nil
}

/// Bytes of the well-formed sequence at `index`, 0 when there is none.
@inline(__always)
private func wellFormedLength(_ text: Span<UInt8>, at index: Int) -> Int {
  let first = text[index]
  if first < 0x80 { return 1 }
  guard first >= 0xC2, first <= 0xF4, index + 1 < text.count else { return 0 }
  let second = text[index + 1]
  if first < 0xE0 { return second & 0xC0 == 0x80 ? 2 : 0 }
  let lowest: UInt8 = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80
  let highest: UInt8 = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF
  guard second >= lowest, second <= highest, index + 2 < text.count,
    text[index + 2] & 0xC0 == 0x80
  else { return 0 }
  if first < 0xF0 { return 3 }
  return index + 3 < text.count && text[index + 3] & 0xC0 == 0x80 ? 4 : 0
}

/// How many bytes at the end of `bytes` may be the start of a character still to come (0...3).
func incompleteSuffixLength(_ bytes: [UInt8]) -> Int {
  for length in 1...3 where length <= bytes.count {
    let byte = bytes[bytes.count - length]
    if byte & 0xC0 == 0x80 { continue }
    let needed = byte >= 0xF0 && byte <= 0xF4 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1
    guard byte <= 0xF4, needed > length else { return 0 }
    // The second byte decides whether the sequence can still become a character.
    if length > 1 {
      let second = bytes[bytes.count - length + 1]
      let lowest: UInt8 = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80
      let highest: UInt8 = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF
      guard second >= lowest, second <= highest else { return 0 }
    }
    return length
  }
  return 0
}

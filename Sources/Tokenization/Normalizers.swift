// What a tokenizer file does to text before it cuts it.
//
// Source   https://huggingface.co/docs/tokenizers/api/normalizers. Where that library's tables
//          are of an old Unicode version the version is named: ids must be equal.

/// A normalizer of a tokenizer file.
indirect enum Normalizer: Sendable {
  case sequence([Normalizer])
  case unicode(NormalizationForm)
  case lowercase
  case strip(left: Bool, right: Bool)
  case stripAccents
  case replace(TextPattern, with: [UInt8])
  case prepend([UInt8])
  case nmt
  case byteLevel
  case bert(BertNormalizer)
  case characterMap(CharacterMap)

  /// Normalizes a text in place. `keepsStart` becomes false when its first characters are cut.
  func apply(_ text: inout [UInt8], keepsStart: inout Bool, _ state: inout RegexState) {
    switch self {
    case .sequence(let normalizers):
      for normalizer in normalizers {
        normalizer.apply(&text, keepsStart: &keepsStart, &state)
      }
    case .unicode(let form): form.apply(&text)
    case .lowercase: lowercaseScalars(&text)
    case .strip(let left, let right): strip(&text, left, right, keepsStart: &keepsStart)
    case .stripAccents:
      mapScalars(&text, keepsStart: &keepsStart) { isCombiningMark($0) ? nil : $0 }
    case .replace(let pattern, let replacement):
      text = pattern.replacingMatches(in: text, with: replacement, &state)
    case .prepend(let prefix): if !text.isEmpty { text.insert(contentsOf: prefix, at: 0) }
    case .nmt: mapScalars(&text, keepsStart: &keepsStart, nmtMapping)
    case .byteLevel: text = ByteLevelAlphabet.encode(text)
    case .bert(let normalizer): normalizer.apply(&text, keepsStart: &keepsStart)
    case .characterMap(let map): map.apply(&text)
    }
  }

  private func strip(
    _ text: inout [UInt8], _ left: Bool, _ right: Bool, keepsStart: inout Bool
  ) {
    var range = 0..<text.count
    while right, !range.isEmpty {
      let last = scalarStart(text.span, before: range.upperBound)
      guard ScalarClass.isWhitespace(scalar(text.span, at: last).value) else { break }
      range = range.lowerBound..<last
    }
    while left, !range.isEmpty {
      let first = scalar(text.span, at: range.lowerBound)
      guard ScalarClass.isWhitespace(first.value) else { break }
      range = range.lowerBound + first.length..<range.upperBound
    }
    if range.lowerBound > 0 { keepsStart = false }
    if range.count < text.count { text = Array(text[range]) }
  }
}

/// The normalizer of BERT.
///
/// Source: https://github.com/google-research/bert, tokenization.py, class BasicTokenizer.
struct BertNormalizer: Sendable {
  var cleansText: Bool
  var spacesChinese: Bool
  var stripsAccents: Bool
  var lowercases: Bool

  func apply(_ text: inout [UInt8], keepsStart: inout Bool) {
    if cleansText {
      mapScalars(&text, keepsStart: &keepsStart) { value in
        if value == 0 || value == 0xFFFD || isControl(value) { return nil }
        return ScalarClass.isWhitespace(value) ? 0x20 : value
      }
    }
    if spacesChinese { spaceChinese(&text) }
    if stripsAccents {
      NormalizationForm.nfd.apply(&text)
      mapScalars(&text, keepsStart: &keepsStart) { isNonspacingMark($0) ? nil : $0 }
    }
    if lowercases { lowercaseScalars(&text) }
  }

  private func spaceChinese(_ text: inout [UInt8]) {
    guard text.contains(where: { $0 >= 0xE3 }) else { return }
    var output: [UInt8] = []
    output.reserveCapacity(text.count + text.count / 2)
    var index = 0
    while index < text.count {
      let next = scalar(text.span, at: index)
      let isSpaced = Self.isChinese(next.value)
      if isSpaced { output.append(0x20) }
      output.append(scalar: next.value)
      if isSpaced { output.append(0x20) }
      index += next.length
    }
    text = output
  }

  /// The blocks that BERT names; 2B820...2B91F is missing there by a slip that models learned.
  private static func isChinese(_ value: UInt32) -> Bool {
    switch value {
    case 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xF900...0xFAFF, 0x20000...0x2A6DF,
      0x2A700...0x2B73F, 0x2B740...0x2B81F, 0x2B920...0x2CEAF, 0x2F800...0x2FA1F:
      true
    default: false
    }
  }

  /// Control, format and private use in Unicode 8, but for tab and line ends.
  private func isControl(_ value: UInt32) -> Bool {
    if value < 0x80 { return (value < 0x20 || value == 0x7F) && !(9...10 ~= value || value == 13) }
    switch Unicode.Scalar(value)?.properties.generalCategory {
    case .control, .privateUse: return true
    case .format: return isAssigned(value, inUnicode: 8)
    default: return false
    }
  }
}

/// Assigned in this major version of Unicode, or before.
private func isAssigned(_ value: UInt32, inUnicode major: Int) -> Bool {
  guard let age = Unicode.Scalar(value)?.properties.age else { return false }
  return age.major <= major
}

/// Nonspacing mark of Unicode 8.
private func isNonspacingMark(_ value: UInt32) -> Bool {
  switch value {
  case 0..<0x300: return false
  // Recategorized since.
  case 0x1734, 0x1171E: return true
  case 0x1885, 0x1886, 0xA9BD, 0x111C9: return false
  default:
    return ScalarClass.categoryMask(value) & 1 << 5 != 0 && isAssigned(value, inUnicode: 8)
  }
}

/// Mark of Unicode 9.
private func isCombiningMark(_ value: UInt32) -> Bool {
  switch value {
  case 0..<0x300, 0x111C9: return false
  case 0x1CF2, 0x1CF3: return true
  default:
    return ScalarClass.categoryMask(value) & ScalarClass.marks != 0
      && isAssigned(value, inUnicode: 9)
  }
}

/// Punctuation of Unicode 8 and every ASCII symbol, as BERT cuts it.
func isBertPunctuation(_ value: UInt32) -> Bool {
  switch value {
  case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E, 0x166D, 0x111C9: return true
  case 0..<0x80: return false
  default:
    return ScalarClass.categoryMask(value) & ScalarClass.punctuation != 0
      && isAssigned(value, inUnicode: 8)
  }
}

/// Removes control characters and turns odd blanks into spaces, as nmt_nfkc of SentencePiece.
private func nmtMapping(_ value: UInt32) -> UInt32? {
  switch value {
  case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: nil
  case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD:
    0x20
  default: value
  }
}

/// Replaces each scalar by another, or by nothing; `keepsStart` tells of the first.
private func mapScalars(
  _ text: inout [UInt8], keepsStart: inout Bool, _ mapping: (UInt32) -> UInt32?
) {
  var output: [UInt8] = []
  output.reserveCapacity(text.count)
  var index = 0
  while index < text.count {
    let next = scalar(text.span, at: index)
    if let mapped = mapping(next.value) {
      output.append(scalar: mapped)
    } else if index == 0 {
      keepsStart = false
    }
    index += next.length
  }
  text = output
}

/// Lowercases scalar by scalar: a final "Σ" is "σ" like any other.
private func lowercaseScalars(_ text: inout [UInt8]) {
  var output: [UInt8] = []
  output.reserveCapacity(text.count)
  var index = 0
  while index < text.count {
    let byte = text[index]
    if byte < 0x80 {
      output.append(byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte)
      index += 1
      continue
    }
    let next = scalar(text.span, at: index)
    if let properties = Unicode.Scalar(next.value)?.properties,
      properties.changesWhenLowercased
    {
      output += properties.lowercaseMapping.utf8
    } else {
      output.append(text.span, index..<index + next.length)
    }
    index += next.length
  }
  text = output
}

// Normalization forms C, D, KC and KD over UTF-8.
//
// Source   Unicode Standard Annex 15, https://www.unicode.org/reports/tr15/. The standard library
//          composes and decomposes; the compatibility mappings are a table, because only ICU has
//          them and ICU is larger than all the rest of the tool.
// Cost     Text that is normalized already, as nearly all is, is scanned and not copied.

@_spi(_Unicode) import Swift

/// A normalization form of Unicode.
enum NormalizationForm: Sendable {
  case nfc, nfd, nfkc, nfkd

  /// Normalizes a text in place.
  func apply(_ text: inout [UInt8]) {
    if self == .nfkc || self == .nfkd { mapCompatibility(&text) }
    guard let first = nextChanging(text.span, from: 0) else { return }
    var output: [UInt8] = []
    output.reserveCapacity(text.count + text.count / 8)
    var done = 0
    var changing: Int? = first
    while let index = changing {
      // A combining mark joins the character before it.
      let start = index > done ? max(done, scalarStart(text.span, before: index)) : index
      output.append(text.span, done..<start)
      var end = index
      while end < text.count {
        let next = scalar(text.span, at: end)
        guard !isInert(next.value) else { break }
        end += next.length
      }
      append(text[start..<end], to: &output)
      done = end
      changing = nextChanging(text.span, from: end)
    }
    output.append(text.span, done..<text.count)
    text = output
  }

  private func append(_ part: ArraySlice<UInt8>, to output: inout [UInt8]) {
    let string = String(decoding: part, as: UTF8.self)
    switch self {
    case .nfc, .nfkc: for scalar in string._nfc { output.append(scalar: scalar.value) }
    case .nfd, .nfkd: for scalar in string._nfd { output.append(scalar: scalar.value) }
    }
  }

  private func nextChanging(_ text: Span<UInt8>, from start: Int) -> Int? {
    var index = start
    while index < text.count {
      if text[index] < 0x80 {
        index += 1
        continue
      }
      let next = scalar(text, at: index)
      if !isInert(next.value) { return index }
      index += next.length
    }
    return nil
  }

  /// True for common starters that the form leaves alone and that join nothing before them. It
  /// may be false for others of that kind: those only take the slower way.
  @inline(__always)
  private func isInert(_ value: UInt32) -> Bool {
    switch value {
    case 0..<0x80, 0x3400...0x9FFF, 0x1F300...0x1F9FF: true
    case 0x80..<0x300, 0x400...0x482, 0x5D0...0x5EA, 0x621...0x63A, 0x641...0x64A,
      0x2010...0x2027, 0x3000...0x3029, 0x3041...0x3096, 0x30A1...0x30FA, 0xAC00...0xD7A3,
      0xFF01...0xFFEF:
      self == .nfc || self == .nfkc
    default: false
    }
  }

  private func mapCompatibility(_ text: inout [UInt8]) {
    let mappings = CompatibilityMappings.table
    var output: [UInt8] = []
    var done = 0
    var index = 0
    while index < text.count {
      let next = scalar(text.span, at: index)
      if next.length > 1, let mapping = mappings[next.value] {
        output.append(text.span, done..<index)
        output += mapping
        done = index + next.length
      }
      index += next.length
    }
    guard done > 0 else { return }
    output.append(text.span, done..<text.count)
    text = output
  }
}

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
      var start = index > done ? max(done, scalarStart(text.span, before: index)) : index
      if start < index, Self.isNewer(scalar(text.span, at: start).value) { start = index }
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

  private static let longRun = 64

  private func append(_ part: ArraySlice<UInt8>, to output: inout [UInt8]) {
    var string = String(decoding: part, as: UTF8.self)
    if part.count > Self.longRun || part.contains(0xE0) { string = Self.orderingRuns(of: string) }
    switch self {
    case .nfc, .nfkc: for scalar in string._nfc { output.append(scalar: scalar.value) }
    case .nfd, .nfkd: for scalar in string._nfd { output.append(scalar: scalar.value) }
    }
  }

  /// Orders marks where the standard library does it badly: in quadratic time, which would make a
  /// text of nothing but marks a hang, and not across the three vowel signs that are no marks
  /// themselves, but two marks each once they are decomposed.
  private static func orderingRuns(of string: String) -> String {
    var output = String.UnicodeScalarView()
    var run: [Unicode.Scalar] = []
    var hasSign = false
    func flush() {
      if run.count > longRun || hasSign {
        let marks = run.flatMap { String($0)._nfd }
        let order = marks.indices.sorted {
          (marks[$0].properties.canonicalCombiningClass.rawValue, $0)
            < (marks[$1].properties.canonicalCombiningClass.rawValue, $1)
        }
        for index in order { output.append(marks[index]) }
      } else {
        output.append(contentsOf: run)
      }
      run.removeAll(keepingCapacity: true)
      hasSign = false
    }
    for scalar in string.unicodeScalars {
      let isSign = scalar == "\u{F73}" || scalar == "\u{F75}" || scalar == "\u{F81}"
      if isSign || scalar.properties.canonicalCombiningClass != .notReordered {
        hasSign = hasSign || isSign
        run.append(scalar)
      } else {
        flush()
        output.append(scalar)
      }
    }
    flush()
    return String(output)
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
    default: Self.isNewer(value)
    }
  }

  /// Not in Unicode 9.0, whose data `tokenizers` normalizes with: such a scalar stays as it is,
  /// and marks do not move across it.
  private static func isNewer(_ value: UInt32) -> Bool {
    guard value >= 0x300, let age = Unicode.Scalar(value)?.properties.age else { return false }
    return age.major > 9
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

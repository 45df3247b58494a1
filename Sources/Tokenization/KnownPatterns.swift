// Scanners for the pre-tokenizer patterns of GPT-2, Llama 3 and Qwen 2, which nearly every
// byte-level tokenizer uses: one pass, no backtracking.
//
// Source   GPT-2: https://github.com/openai/gpt-2, encoder.py; Llama 3: tokenizer.py of
//          https://github.com/meta-llama/llama3; Qwen 2: tokenizer.json of its checkpoints
// Result   Each call returns the end of the piece that starts at `start`. Every scalar is in a
//          piece, so that matches and rests need not be told apart.
// Checked  KnownPatternTests: equal to the general engine on random text

/// A pattern with a scanner of its own.
enum KnownPattern: Sendable {
  case gpt2
  /// Llama 3 (three digits a piece) and Qwen 2 (one).
  case llama3(digits: Int)

  static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
  static let llama3Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"#
    + #"\s*[\r\n]+|\s+(?!\S)|\s+"#
  static let qwen2Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"#
    + #"\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// The scanner of a pattern that is written exactly like one of these.
  init?(_ pattern: String) {
    if pattern.utf8.elementsEqual(Self.gpt2Pattern.utf8) {
      self = .gpt2
    } else if pattern.utf8.elementsEqual(Self.llama3Pattern.utf8) {
      self = .llama3(digits: 3)
    } else if pattern.utf8.elementsEqual(Self.qwen2Pattern.utf8) {
      self = .llama3(digits: 1)
    } else {
      return nil
    }
  }

  /// Appends the pieces of `range` to `pieces`.
  func split(_ text: Span<UInt8>, _ range: Range<Int>, into pieces: inout [Range<Int>]) {
    let scanner = PatternScanner(end: range.upperBound)
    var start = range.lowerBound
    while start < range.upperBound {
      let end =
        switch self {
        case .gpt2: scanner.gpt2(text, start)
        case .llama3(let digits): scanner.llama3(text, start, digits: digits)
        }
      pieces.append(start..<end)
      start = end
    }
  }
}

/// What the patterns tell apart.
private enum Kind: UInt8 {
  case letter, number, space, other
}

private struct PatternScanner {
  let end: Int

  /// Kinds of the ASCII characters, as in the Unicode properties L, N and White_Space.
  private static let ascii: [128 of Kind] = {
    var kinds = [128 of Kind](repeating: .other)
    for i in 0..<128 { kinds[i] = PatternScanner.kind(beyondASCII: UInt32(i)) }
    return kinds
  }()

  private static func kind(beyondASCII value: UInt32) -> Kind {
    let bits = ScalarClass.of(value)
    if bits & ScalarClass.whitespaceBit != 0 { return .space }
    let mask: UInt32 = 1 << UInt32(bits & ScalarClass.categoryBits)
    if mask & ScalarClass.letters != 0 { return .letter }
    return mask & ScalarClass.numbers != 0 ? .number : .other
  }

  @inline(__always)
  private func kind(_ text: Span<UInt8>, _ index: Int) -> (kind: Kind, length: Int) {
    let byte = text[index]
    if byte < 0x80 { return (Self.ascii[Int(byte)], 1) }
    let next = scalar(text, at: index)
    return (Self.kind(beyondASCII: next.value), next.length)
  }

  /// The end of the run of one kind from `index` on.
  @inline(__always)
  private func run(_ text: Span<UInt8>, _ index: Int, _ wanted: Kind) -> Int {
    var index = index
    while index < end {
      let next = kind(text, index)
      guard next.kind == wanted else { break }
      index += next.length
    }
    return index
  }

  @inline(__always)
  func gpt2(_ text: Span<UInt8>, _ start: Int) -> Int {
    let first = text[start]
    if first == 0x27 {
      let length = contraction(text, start)
      if length > 0 { return start + length }
    }
    // The optional blank before a run.
    if first == 0x20, start + 1 < end {
      let next = kind(text, start + 1)
      if next.kind != .space { return run(text, start + 1 + next.length, next.kind) }
    }
    let next = kind(text, start)
    if next.kind != .space { return run(text, start + next.length, next.kind) }
    return spaces(text, start)
  }

  @inline(__always)
  func llama3(_ text: Span<UInt8>, _ start: Int, digits: Int) -> Int {
    let first = text[start]
    if first == 0x27 {
      let length = contractionOfAnyCase(text, start)
      if length > 0 { return start + length }
    }
    let next = kind(text, start)
    let after = start + next.length
    switch next.kind {
    case .letter: return run(text, after, .letter)
    case .number:
      var index = after
      var count = 1
      while count < digits, index < end {
        let digit = kind(text, index)
        guard digit.kind == .number else { break }
        index += digit.length
        count += 1
      }
      return index
    case .other:
      if after < end, kind(text, after).kind == .letter { return run(text, after, .letter) }
      return newlines(text, run(text, after, .other))
    case .space:
      if after < end, first != 0x0A, first != 0x0D {
        let following = kind(text, after).kind
        if following == .letter { return run(text, after, .letter) }
        if first == 0x20, following == .other { return newlines(text, run(text, after, .other)) }
      }
      return spacesToLastNewline(text, start)
    }
  }

  private func newlines(_ text: Span<UInt8>, _ index: Int) -> Int {
    var index = index
    while index < end, text[index] == 0x0A || text[index] == 0x0D { index += 1 }
    return index
  }

  /// `\s+(?!\S)|\s+`: the run, without its last blank when something follows.
  private func spaces(_ text: Span<UInt8>, _ start: Int) -> Int {
    let stop = run(text, start, .space)
    if stop == end { return stop }
    let last = scalarStart(text, before: stop)
    return last > start ? last : stop
  }

  /// `\s*[\r\n]+|\s+(?!\S)|\s+`: to the last newline of the run, if it has one.
  private func spacesToLastNewline(_ text: Span<UInt8>, _ start: Int) -> Int {
    let stop = run(text, start, .space)
    var index = stop
    while index > start {
      if text[index - 1] == 0x0A || text[index - 1] == 0x0D { return index }
      index -= 1
    }
    return spaces(text, start)
  }

  /// Bytes of `'s`, `'t`, `'m`, `'d`, `'re`, `'ve` or `'ll`; 0 for none.
  private func contraction(_ text: Span<UInt8>, _ start: Int) -> Int {
    guard start + 1 < end else { return 0 }
    switch text[start + 1] {
    case 0x73, 0x74, 0x6D, 0x64: return 2
    case 0x72, 0x76: return start + 2 < end && text[start + 2] == 0x65 ? 3 : 0
    case 0x6C: return start + 2 < end && text[start + 2] == 0x6C ? 3 : 0
    default: return 0
    }
  }

  private func contractionOfAnyCase(_ text: Span<UInt8>, _ start: Int) -> Int {
    guard start + 1 < end else { return 0 }
    switch text[start + 1] | 0x20 {
    case 0x73, 0x74, 0x6D, 0x64: return 2
    case 0x72, 0x76: return start + 2 < end && text[start + 2] | 0x20 == 0x65 ? 3 : 0
    case 0x6C: return start + 2 < end && text[start + 2] | 0x20 == 0x6C ? 3 : 0
    // "ſ", C5 BF, is an "s" in another case.
    case 0xE5: return start + 2 < end && text[start + 1] == 0xC5 && text[start + 2] == 0xBF ? 3 : 0
    default: return 0
    }
  }
}

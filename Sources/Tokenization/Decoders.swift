// From tokens back to text: the chain of decoders of a tokenizer file, fed one token at a time.
//
// Source   https://huggingface.co/docs/tokenizers/api/decoders
// Result   Whole decoding and streaming are the same code, so their texts are the same. A stage
//          holds back only what a later token can still change.

/// One decoder of a tokenizer file.
enum DecoderStage: Sendable {
  case byteLevel
  case replace(TextPattern, with: [UInt8])
  case byteFallback
  case fuse
  case strip(content: [UInt8], start: Int, stop: Int)
  case metaspace(mark: [UInt8], dropsFirst: Bool)
  case wordPiece(prefix: [UInt8], cleansUp: Bool)
  case bytePair(suffix: [UInt8])
  /// What happens without a decoder: tokens with a blank between.
  case joinedByBlanks
}

/// A chain of decoders and what each of them holds back.
struct DecoderChain: Sendable {
  private var stages: [StageState]

  init(_ stages: [DecoderStage]) {
    var isFused = false
    self.stages = []
    for stage in stages {
      self.stages.append(StageState(stage: stage, isFused: isFused))
      switch stage {
      case .byteLevel, .fuse: isFused = true
      default: break
      }
    }
  }

  /// Feeds a token; appends the text that is certain now.
  mutating func push(_ token: [UInt8], into output: inout [UInt8], _ state: inout RegexState) {
    feed([token], from: 0, into: &output, &state)
  }

  /// Ends the text; appends what was held back.
  mutating func finish(into output: inout [UInt8], _ state: inout RegexState) {
    for index in stages.indices {
      var tokens: [[UInt8]] = []
      stages[index].finish(into: &tokens, &state)
      feed(tokens, from: index + 1, into: &output, &state)
    }
  }

  private mutating func feed(
    _ tokens: [[UInt8]], from first: Int, into output: inout [UInt8], _ state: inout RegexState
  ) {
    var tokens = tokens
    for index in first..<stages.count {
      guard !tokens.isEmpty else { return }
      var next: [[UInt8]] = []
      for token in tokens { stages[index].push(token, into: &next, &state) }
      tokens = next
    }
    for token in tokens { output += token }
  }
}

/// A decoder at work.
private struct StageState: Sendable {
  let stage: DecoderStage
  /// What comes in are parts of one token.
  let isFused: Bool
  private var index = 0
  private var held: [UInt8] = []
  private var holdsToken = false
  /// Characters that `strip` has taken from the start.
  private var stripped = 0

  init(stage: DecoderStage, isFused: Bool) {
    self.stage = stage
    self.isFused = isFused
  }

  mutating func push(_ token: [UInt8], into output: inout [[UInt8]], _ state: inout RegexState) {
    defer { index += 1 }
    switch stage {
    case .byteLevel where !isFused:
      held += ByteLevelAlphabet.decode(token.span) ?? token
      let complete = held.count - incompleteSuffixLength(held)
      if complete > 0 {
        output.append(Array(String(decoding: held[..<complete], as: UTF8.self).utf8))
        held.removeFirst(complete)
      }
    case .byteFallback where !isFused:
      if let byte = Self.fallbackByte(token) {
        held.append(byte)
      } else {
        flushFallback(into: &output)
        output.append(token)
      }
    case .fuse: output.append(token)
    case .strip(let content, let start, let stop) where isFused:
      held += token
      while stripped < start, held.has(content, at: 0) {
        held.removeFirst(content.count)
        stripped += 1
      }
      guard !held.isEmpty else { return }
      stripped = start
      var end = held.count
      while stop > 0, held[..<end].suffix(content.count).elementsEqual(content) {
        end -= content.count
      }
      if end > 0 { output.append(Array(held[..<end])) }
      held.removeFirst(end)
    case .bytePair(let suffix) where !isFused:
      if holdsToken { output.append(Self.replacing(suffix, with: [0x20], in: held)) }
      held = token
      holdsToken = true
    case _ where isFused: held += token
    default: output.append(decode(token, &state))
    }
  }

  mutating func finish(into output: inout [[UInt8]], _ state: inout RegexState) {
    defer { held = [] }
    switch stage {
    case .byteLevel where !isFused:
      if !held.isEmpty { output.append(Array(String(decoding: held, as: UTF8.self).utf8)) }
    case .byteFallback where !isFused: flushFallback(into: &output)
    case .bytePair(let suffix) where !isFused:
      if holdsToken { output.append(Self.replacing(suffix, with: [], in: held)) }
    case .fuse: break
    case .strip(let content, _, let stop) where isFused:
      let kept = held.count - min(held.count, stop * content.count)
      if kept > 0 { output.append(Array(held[..<kept])) }
    case _ where isFused:
      index = 0
      switch stage {
      case .byteLevel:
        let bytes = ByteLevelAlphabet.decode(held.span) ?? held
        output.append(Array(String(decoding: bytes, as: UTF8.self).utf8))
      case .byteFallback:
        if let byte = Self.fallbackByte(held) {
          output.append(byte < 0x80 ? [byte] : [0xEF, 0xBF, 0xBD])
        } else {
          output.append(held)
        }
      case .bytePair(let suffix): output.append(Self.replacing(suffix, with: [], in: held))
      default: output.append(decode(held, &state))
      }
    default: break
    }
  }

  /// The decoders that look at one token, and at whether it is the first.
  private func decode(_ token: [UInt8], _ state: inout RegexState) -> [UInt8] {
    switch stage {
    case .replace(let pattern, let replacement):
      return pattern.replacingMatches(in: token, with: replacement, &state)
    case .strip(let content, let start, let stop):
      var range = 0..<token.count
      var taken = 0
      while taken < start, token[range].starts(with: content) {
        range = range.lowerBound + content.count..<range.upperBound
        taken += 1
      }
      taken = 0
      while taken < stop, token[range].suffix(content.count).elementsEqual(content) {
        range = range.lowerBound..<range.upperBound - content.count
        taken += 1
      }
      return Array(token[range])
    case .metaspace(let mark, let dropsFirst):
      return Self.replacing(mark, with: index == 0 && dropsFirst ? [] : [0x20], in: token)
    case .wordPiece(let prefix, let cleansUp):
      var text = token
      if index > 0 {
        text = token.has(prefix, at: 0) ? Array(token[prefix.count...]) : [0x20] + token
      }
      return cleansUp ? Self.cleanedUp(text) : text
    case .joinedByBlanks: return index > 0 ? [0x20] + token : token
    case .byteLevel, .byteFallback, .fuse, .bytePair: return token
    }
  }

  /// A run of byte tokens is one text, or one U+FFFD for each of them if it is not UTF-8.
  private mutating func flushFallback(into output: inout [[UInt8]]) {
    guard !held.isEmpty else { return }
    if firstInvalidUTF8(held.span) == nil {
      output.append(held)
    } else {
      for _ in held { output.append([0xEF, 0xBF, 0xBD]) }
    }
    held = []
  }

  private static func fallbackByte(_ token: [UInt8]) -> UInt8? { byteOfFallbackToken(token) }

  private static func replacing(
    _ wanted: [UInt8], with replacement: [UInt8], in token: [UInt8]
  ) -> [UInt8] {
    guard !wanted.isEmpty else { return token }
    var output: [UInt8] = []
    output.reserveCapacity(token.count)
    var index = 0
    while index < token.count {
      if token.has(wanted, at: index) {
        output += replacement
        index += wanted.count
      } else {
        output.append(token[index])
        index += 1
      }
    }
    return output
  }

  /// The blanks that WordPiece puts before punctuation and English contractions, taken out.
  private static func cleanedUp(_ text: [UInt8]) -> [UInt8] {
    guard text.contains(0x20) else { return text }
    var text = text
    for (wanted, replacement) in cleanUps {
      text = replacing(wanted, with: replacement, in: text)
    }
    return text
  }

  private static let cleanUps: [([UInt8], [UInt8])] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ].map { (Array($0.utf8), Array($1.utf8)) }
}

/// The byte of a token such as `<0x0A>`.
func byteOfFallbackToken(_ token: [UInt8]) -> UInt8? {
  guard token.count == 6, token.has(Array("<0x".utf8), at: 0), token[5] == 0x3E,
    let high = hexadecimalDigit(token[3]), let low = hexadecimalDigit(token[4])
  else { return nil }
  return high << 4 | low
}

private func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case 0x30...0x39: byte - 0x30
  case 0x41...0x46: byte - 0x37
  case 0x61...0x66: byte - 0x57
  default: nil
  }
}

// How a tokenizer file cuts normalized text into the words that its model sees.
//
// Source   https://huggingface.co/docs/tokenizers/api/pre-tokenizers

/// A pre-tokenizer of a tokenizer file.
indirect enum PreTokenizer: Sendable {
  case sequence([PreTokenizer])
  /// Writes words in the byte-level alphabet; `pattern` cuts them before. The last one of a
  /// tokenizer leaves the bytes as they are (`isMapped` false): its model knows tokens as bytes.
  case byteLevel(addsSpace: Bool, pattern: TextPattern?, isMapped: Bool)
  case split(TextPattern, SplitBehavior, isInverted: Bool)
  case metaspace(replacement: [UInt8], PrependScheme, splits: Bool)
  case whitespace
  case whitespaceSplit
  case digits(areIndividual: Bool)
  case punctuation(SplitBehavior)
  case bert

  /// When `Metaspace` puts its mark before a text.
  enum PrependScheme: String, Sendable { case always, first, never }

  /// Cuts the pieces of a text further.
  func apply(_ words: inout WordList, _ state: inout RegexState) {
    switch self {
    case .sequence(let steps): for step in steps { step.apply(&words, &state) }
    case .byteLevel(let addsSpace, let pattern, let isMapped):
      if addsSpace {
        words.rewrite { piece, _ in
          if piece.first != 0x20 { piece.insert(0x20, at: 0) }
        }
      }
      if let pattern { words.split(pattern, .isolated, isInverted: false, &state) }
      if isMapped { words.rewrite { piece, _ in piece = ByteLevelAlphabet.encode(piece) } }
    case .split(let pattern, let behavior, let isInverted):
      words.split(pattern, behavior, isInverted: isInverted, &state)
    case .metaspace(let mark, let scheme, let splits):
      words.rewrite { piece, isAtStart in
        piece = Self.markingSpaces(piece, with: mark)
        let prepends = scheme == .always || scheme == .first && isAtStart
        if prepends, !piece.has(mark, at: 0) { piece.insert(contentsOf: mark, at: 0) }
      }
      if splits { words.split(.string(mark), .mergedWithNext, isInverted: false, &state) }
    case .whitespace: words.splitWordsAndSymbols()
    case .whitespaceSplit: words.split(.removed, where: ScalarClass.isWhitespace)
    case .digits(let areIndividual):
      words.split(areIndividual ? .isolated : .contiguous) {
        ScalarClass.categoryMask($0) & ScalarClass.numbers != 0
      }
    case .punctuation(let behavior): words.split(behavior, where: isBertPunctuation)
    case .bert:
      words.split(.removed, where: ScalarClass.isWhitespace)
      words.split(.isolated, where: isBertPunctuation)
    }
  }

  private static func markingSpaces(_ piece: [UInt8], with mark: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(piece.count + piece.count / 2)
    for byte in piece { if byte == 0x20 { output += mark } else { output.append(byte) } }
    return output
  }
}

/// A text and the pieces that it has been cut into so far, in order.
struct WordList {
  private(set) var text: [UInt8]
  private(set) var pieces: [Range<Int>]
  /// The first piece starts where the text that was given to the tokenizer starts.
  private(set) var isAtStart: Bool

  /// A text in one piece.
  init(_ text: [UInt8], isAtStart: Bool) {
    self.text = text
    self.pieces = text.isEmpty ? [] : [0..<text.count]
    self.isAtStart = isAtStart
  }

  /// Replaces each piece.
  mutating func rewrite(_ body: (_ piece: inout [UInt8], _ isAtStart: Bool) -> Void) {
    var newText: [UInt8] = []
    newText.reserveCapacity(text.count + text.count / 4)
    for i in pieces.indices {
      var piece = Array(text[pieces[i]])
      body(&piece, isAtStart && i == 0)
      pieces[i] = newText.count..<newText.count + piece.count
      newText += piece
    }
    text = newText
    pieces.removeAll(where: \.isEmpty)
  }

  /// Cuts each piece at the matches of a pattern.
  mutating func split(
    _ pattern: TextPattern, _ behavior: SplitBehavior, isInverted: Bool,
    _ state: inout RegexState
  ) {
    var newPieces: [Range<Int>] = []
    newPieces.reserveCapacity(text.count / 4)
    if case .known(let known) = pattern, behavior == .isolated || behavior == .removed && isInverted
    {
      for piece in pieces { known.split(text.span, piece, into: &newPieces) }
      pieces = newPieces
      return
    }
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    for piece in pieces {
      parts.removeAll(keepingCapacity: true)
      pattern.forEachPart(of: text.span, piece, &state) {
        parts.append(($0, $1 != isInverted))
      }
      behavior.join(parts, into: &newPieces)
    }
    replace(by: newPieces)
  }

  /// Cuts each piece at the scalars that `isMatch` holds for.
  mutating func split(_ behavior: SplitBehavior, where isMatch: (UInt32) -> Bool) {
    var newPieces: [Range<Int>] = []
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    for piece in pieces {
      parts.removeAll(keepingCapacity: true)
      var done = piece.lowerBound
      var index = piece.lowerBound
      while index < piece.upperBound {
        let next = scalar(text.span, at: index)
        if isMatch(next.value) {
          if done < index { parts.append((done..<index, false)) }
          parts.append((index..<index + next.length, true))
          done = index + next.length
        }
        index += next.length
      }
      if done < piece.upperBound { parts.append((done..<piece.upperBound, false)) }
      behavior.join(parts, into: &newPieces)
    }
    replace(by: newPieces)
  }

  /// `\w+|[^\w\s]+`: keeps runs of word characters and runs of symbols.
  mutating func splitWordsAndSymbols() {
    var newPieces: [Range<Int>] = []
    for piece in pieces {
      var start = piece.lowerBound
      var current: Int?
      var index = piece.lowerBound
      while index < piece.upperBound {
        let next = scalar(text.span, at: index)
        let kind: Int? =
          ScalarClass.isWord(next.value) ? 0 : ScalarClass.isWhitespace(next.value) ? nil : 1
        if kind != current {
          if current != nil { newPieces.append(start..<index) }
          start = index
          current = kind
        }
        index += next.length
      }
      if current != nil { newPieces.append(start..<piece.upperBound) }
    }
    replace(by: newPieces)
  }

  private mutating func replace(by newPieces: [Range<Int>]) {
    isAtStart = isAtStart && pieces.first?.lowerBound == newPieces.first?.lowerBound
    pieces = newPieces
  }
}

// Byte-pair encoding: a word's symbols are merged, earliest merge first, until none applies.
//
// Source   Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units",
//          ACL 2016, arXiv:1508.07909, algorithm 1. Ties (one merge at two places) go left first.
// Given    a word as UTF-8, or as raw bytes when the tokenizer is byte-level
// Result   ids appended to the output
// Cost     O(n²) for words up to `shortWord` symbols, O(n log n) with a heap beyond; a word seen
//          before costs one look-up
// Checked  BytePairModelTests: both ways equal a plain rescan, ids equal `tokenizers`

/// The model `BPE` of a tokenizer file.
struct BytePairModel: Sendable {
  /// Words of more symbols are merged with a heap.
  static let shortWord = 40

  /// Tokens by the text that the merger sees: raw bytes for a byte-level tokenizer.
  var vocabulary: Vocabulary
  var merges: MergeTable
  /// Ids of single bytes (byte-level) or of ASCII characters; -1 where there is none.
  var byteIDs: [Int32]
  /// The merger works on raw bytes, not on characters.
  var isByteLevel: Bool
  /// The token for what is not in the vocabulary; without one such characters are left out.
  var unknownID: Int32?
  /// Neighbouring unknown characters become one unknown token.
  var fusesUnknown = false
  /// Ids of `<0x00>`…`<0xFF>`; -1 for a missing one, empty when the file wants no fallback.
  var fallbackIDs: [Int32] = []
  /// A word that is a token is not merged.
  var ignoresMerges = false
  var continuingPrefix: [UInt8] = []
  var endSuffix: [UInt8] = []
  /// Characters that stand before `▁` inside a token: no merge crosses any other boundary before
  /// `▁`, so long text is cut there. `nil` when text must stay whole.
  var beforeMark: Set<UInt32>?

  /// Appends the ids of one word.
  func encode(
    _ text: Span<UInt8>, _ word: Range<Int>, _ state: inout EncoderState,
    into output: inout [Int32]
  ) {
    guard let beforeMark, word.count > WordCache.longestWord else {
      return encodeCached(text, word, &state, into: &output)
    }
    // "▁" is E2 96 81.
    var start = word.lowerBound
    var i = start + 1
    while i + 2 < word.upperBound {
      guard text[i] == 0xE2, text[i + 1] == 0x96, text[i + 2] == 0x81 else {
        i += 1
        continue
      }
      let previous = scalar(text, at: scalarStart(text, before: i)).value
      if !beforeMark.contains(previous), isKnown(text, before: i) {
        encodeCached(text, start..<i, &state, into: &output)
        start = i
      }
      i += 3
    }
    encodeCached(text, start..<word.upperBound, &state, into: &output)
  }

  /// Unknown characters may fuse with their neighbours, so text is not cut there.
  private func isKnown(_ text: Span<UInt8>, before index: Int) -> Bool {
    let last = text[index - 1]
    if last < 0x80 { return byteIDs[Int(last)] >= 0 }
    return vocabulary.id(of: text, scalarStart(text, before: index)..<index) != nil
  }

  private func encodeCached(
    _ text: Span<UInt8>, _ word: Range<Int>, _ state: inout EncoderState,
    into output: inout [Int32]
  ) {
    guard word.count <= WordCache.longestWord else {
      return merge(text, word, &state, into: &output)
    }
    let hash = hash(text, word)
    if state.cache.append(text, word, hash: hash, to: &output) { return }
    let start = output.count
    merge(text, word, &state, into: &output)
    state.cache.insert(text, word, hash: hash, ids: output[start...])
  }

  private func merge(
    _ text: Span<UInt8>, _ word: Range<Int>, _ state: inout EncoderState,
    into output: inout [Int32]
  ) {
    if ignoresMerges, let id = vocabulary.id(of: text, word) { return output.append(id) }
    state.symbols.removeAll(keepingCapacity: true)
    addSymbols(text, word, to: &state.symbols)
    if state.symbols.count <= Self.shortWord {
      mergeShort(&state.symbols, &state.values)
      output.append(contentsOf: state.symbols)
    } else {
      mergeLong(&state, into: &output)
    }
  }
}

// MARK: - First symbols

extension BytePairModel {
  private func addSymbols(_ text: Span<UInt8>, _ word: Range<Int>, to symbols: inout [Int32]) {
    var unknowns = UnknownRun(id: unknownID, isFused: fusesUnknown)
    var i = word.lowerBound
    while i < word.upperBound {
      let length = isByteLevel ? 1 : scalar(text, at: i).length
      let character = i..<i + length
      i = character.upperBound
      let isFirst = character.lowerBound == word.lowerBound
      let isLast = character.upperBound == word.upperBound
      if let id = symbol(text, character, isFirst: isFirst, isLast: isLast) {
        unknowns.flush(into: &symbols)
        symbols.append(id)
      } else if !addFallback(text, character, isFirst, isLast, to: &symbols) {
        unknowns.add(into: &symbols)
      }
    }
    unknowns.flush(into: &symbols)
  }

  @inline(__always)
  private func symbol(
    _ text: Span<UInt8>, _ character: Range<Int>, isFirst: Bool, isLast: Bool
  ) -> Int32? {
    if continuingPrefix.isEmpty, endSuffix.isEmpty {
      if character.count == 1 {
        let id = byteIDs[Int(text[character.lowerBound])]
        return id >= 0 ? id : nil
      }
      return vocabulary.id(of: text, character)
    }
    return vocabulary.id(of: decorated(text, character, isFirst, isLast))
  }

  private func decorated(
    _ text: Span<UInt8>, _ character: Range<Int>, _ isFirst: Bool, _ isLast: Bool
  ) -> [UInt8] {
    var token = isFirst ? [] : continuingPrefix
    token.append(text, character)
    if isLast { token += endSuffix }
    return token
  }

  /// Adds the byte tokens of a character that is not in the vocabulary, if all are there.
  private func addFallback(
    _ text: Span<UInt8>, _ character: Range<Int>, _ isFirst: Bool, _ isLast: Bool,
    to symbols: inout [Int32]
  ) -> Bool {
    guard !fallbackIDs.isEmpty else { return false }
    let bytes = decorated(text, character, isFirst, isLast)
    guard bytes.allSatisfy({ fallbackIDs[Int($0)] >= 0 }) else { return false }
    for byte in bytes { symbols.append(fallbackIDs[Int(byte)]) }
    return true
  }

  /// An unknown token is held back until it is clear whether the next character joins it. Byte
  /// tokens do not end the run: `tokenizers` writes the unknown token after them.
  private struct UnknownRun {
    let id: Int32?
    let isFused: Bool
    var isOpen = false

    mutating func add(into symbols: inout [Int32]) {
      if !isFused { flush(into: &symbols) }
      isOpen = id != nil
    }

    mutating func flush(into symbols: inout [Int32]) {
      if isOpen, let id { symbols.append(id) }
      isOpen = false
    }
  }
}

// MARK: - Merging

extension BytePairModel {
  /// Rescans the values of all pairs for the least; they fit one or two cache lines.
  private func mergeShort(_ symbols: inout [Int32], _ values: inout [UInt64]) {
    guard symbols.count > 1 else { return }
    values.removeAll(keepingCapacity: true)
    for i in 0..<symbols.count - 1 { values.append(merges.value(symbols[i], symbols[i + 1])) }
    while true {
      var best = MergeTable.none
      var place = 0
      for i in values.indices where values[i] < best {
        best = values[i]
        place = i
      }
      guard best != MergeTable.none else { return }
      symbols[place] = Int32(truncatingIfNeeded: best & 0xFFFF_FFFF)
      symbols.remove(at: place + 1)
      values.remove(at: place)
      if place > 0 { values[place - 1] = merges.value(symbols[place - 1], symbols[place]) }
      if place < values.count {
        values[place] = merges.value(symbols[place], symbols[place + 1])
      }
    }
  }

  /// A heap of possible merges over a linked list of symbols. An entry whose pair has changed in
  /// the meantime no longer has the pair's value, and is passed over.
  private func mergeLong(_ state: inout EncoderState, into output: inout [Int32]) {
    let count = state.symbols.count
    var next = (1...count).map { Int32(truncatingIfNeeded: $0) }
    var previous = (0..<count).map { Int32(truncatingIfNeeded: $0 - 1) }
    var isGone = [Bool](repeating: false, count: count)
    var heap = MergeHeap(capacity: count)
    for i in 0..<count - 1 {
      let value = merges.value(state.symbols[i], state.symbols[i + 1])
      if value != MergeTable.none { heap.append(value, at: Int32(truncatingIfNeeded: i)) }
    }
    heap.order()
    while let (value, place) = heap.popLeast() {
      let i = Int(place)
      let right = Int(next[i])
      guard !isGone[i], right < count,
        merges.value(state.symbols[i], state.symbols[right]) == value
      else { continue }
      state.symbols[i] = Int32(truncatingIfNeeded: value & 0xFFFF_FFFF)
      isGone[right] = true
      let after = Int(next[right])
      next[i] = Int32(truncatingIfNeeded: after)
      if after < count {
        previous[after] = place
        heap.push(merges.value(state.symbols[i], state.symbols[after]), at: place)
      }
      if previous[i] >= 0 {
        let before = Int(previous[i])
        heap.push(merges.value(state.symbols[before], state.symbols[i]), at: previous[i])
      }
    }
    var i = 0
    while i < count {
      output.append(state.symbols[i])
      i = Int(next[i])
    }
  }
}

/// Possible merges, the least value first and of equal ones the leftmost.
private struct MergeHeap {
  private var entries: [(value: UInt64, place: Int32)] = []

  init(capacity: Int) { entries.reserveCapacity(capacity) }

  /// Adds an entry without keeping the order; `order` restores it.
  mutating func append(_ value: UInt64, at place: Int32) { entries.append((value, place)) }

  mutating func order() {
    for i in stride(from: entries.count / 2 - 1, through: 0, by: -1) { sink(i) }
  }

  mutating func push(_ value: UInt64, at place: Int32) {
    guard value != MergeTable.none else { return }
    entries.append((value, place))
    var i = entries.count - 1
    while i > 0, Self.isLess(entries[i], entries[(i - 1) / 2]) {
      entries.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  mutating func popLeast() -> (value: UInt64, place: Int32)? {
    guard let least = entries.first, let last = entries.popLast() else { return nil }
    if !entries.isEmpty {
      entries[0] = last
      sink(0)
    }
    return least
  }

  private mutating func sink(_ start: Int) {
    var i = start
    while true {
      var least = i
      let left = 2 * i + 1
      if left < entries.count, Self.isLess(entries[left], entries[least]) { least = left }
      if left + 1 < entries.count, Self.isLess(entries[left + 1], entries[least]) {
        least = left + 1
      }
      guard least != i else { return }
      entries.swapAt(i, least)
      i = least
    }
  }

  @inline(__always)
  private static func isLess(
    _ a: (value: UInt64, place: Int32), _ b: (value: UInt64, place: Int32)
  ) -> Bool { a.value != b.value ? a.value < b.value : a.place < b.place }
}

/// Buffers that encoding reuses from word to word and from call to call.
struct EncoderState: Sendable {
  var cache = WordCache()
  var symbols: [Int32] = []
  var values: [UInt64] = []
  var matcher = RegexState()
}

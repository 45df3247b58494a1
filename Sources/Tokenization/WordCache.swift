// Words that were encoded before, with their ids.
//
// Natural text repeats its words: most pieces of a long text are found here. The cache is small
// and bounded; a full one is emptied, and a slot that stays taken is overwritten.

/// Ids of recent words.
struct WordCache: Sendable {
  /// Longer words are not kept.
  static let longestWord = 64
  private static let slotCountLimit = 1 << 16
  private static let byteLimit = 4 << 20

  private struct Slot {
    var hash: UInt64 = 0
    var textStart: Int32 = 0
    var idStart: Int32 = 0
    var textLength: Int16 = -1
    var idCount: Int16 = 0
  }

  private var slots: [Slot] = .init(repeating: Slot(), count: 1 << 8)
  private var text: [UInt8] = []
  private var ids: [Int32] = []
  private var count = 0

  /// Appends the ids of a word to `output`; false when the word is not known.
  @inline(__always)
  func append(
    _ source: Span<UInt8>, _ word: Range<Int>, hash: UInt64, to output: inout [Int32]
  ) -> Bool {
    let mask = slots.count - 1
    for probe in 0..<4 {
      let slot = slots[(Int(truncatingIfNeeded: hash) &+ probe) & mask]
      guard slot.textLength >= 0 else { return false }
      if slot.hash == hash, Int(slot.textLength) == word.count,
        equal(source, word, text.span, at: Int(slot.textStart))
      {
        let start = Int(slot.idStart)
        for i in start..<start + Int(slot.idCount) { output.append(ids[i]) }
        return true
      }
    }
    return false
  }

  /// Keeps the ids of a word.
  mutating func insert(
    _ source: Span<UInt8>, _ word: Range<Int>, hash: UInt64, ids newIDs: ArraySlice<Int32>
  ) {
    if text.count > Self.byteLimit { self = WordCache() }
    if count * 2 > slots.count, slots.count < Self.slotCountLimit { grow() }
    let slot = Slot(
      hash: hash, textStart: Int32(text.count), idStart: Int32(ids.count),
      textLength: Int16(word.count), idCount: Int16(newIDs.count))
    text.append(source, word)
    ids.append(contentsOf: newIDs)
    place(slot)
  }

  private mutating func place(_ slot: Slot) {
    let mask = slots.count - 1
    let home = Int(truncatingIfNeeded: slot.hash)
    for probe in 0..<4 where slots[(home &+ probe) & mask].textLength < 0 {
      slots[(home &+ probe) & mask] = slot
      count += 1
      return
    }
    slots[home & mask] = slot
  }

  private mutating func grow() {
    let old = slots
    slots = .init(repeating: Slot(), count: old.count * 4)
    count = 0
    for slot in old where slot.textLength >= 0 { place(slot) }
  }
}

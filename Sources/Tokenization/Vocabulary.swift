// Tokens by their bytes and by their id.
//
// Swift's String equality merges canonically equivalent tokens ("é" and "e\u{301}"), so tokens are
// bytes here: one array for all, an open-addressed table over it.

/// A hash of a part of `text`: eight bytes at a time, multiplied and folded.
@inline(__always)
func hash(_ text: Span<UInt8>, _ range: Range<Int>) -> UInt64 {
  let bytes = unsafe text.bytes
  let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15  // 2^64 divided by the golden ratio
  var hash = UInt64(truncatingIfNeeded: range.count) &* multiplier
  var i = range.lowerBound
  while i + 8 <= range.upperBound {
    let word = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: i, as: UInt64.self)
    hash = (hash ^ word) &* multiplier
    hash ^= hash >> 32
    i += 8
  }
  var tail: UInt64 = 0
  while i < range.upperBound {
    tail = tail << 8 | UInt64(text[i])
    i += 1
  }
  hash = (hash ^ tail) &* multiplier
  return hash ^ hash >> 29
}

/// True when two ranges hold the same bytes; they have the same length.
@inline(__always)
func equal(_ a: Span<UInt8>, _ first: Range<Int>, _ b: Span<UInt8>, at start: Int) -> Bool {
  var i = 0
  while i + 8 <= first.count {
    let left = unsafe a.bytes.unsafeLoadUnaligned(
      fromByteOffset: first.lowerBound + i, as: UInt64.self)
    let right = unsafe b.bytes.unsafeLoadUnaligned(fromByteOffset: start + i, as: UInt64.self)
    guard left == right else { return false }
    i += 8
  }
  while i < first.count {
    guard a[first.lowerBound + i] == b[start + i] else { return false }
    i += 1
  }
  return true
}

/// Byte strings with an id each; looked up both ways.
struct Vocabulary: Sendable {
  private var bytes: [UInt8] = []
  /// Where the token of an id lies in `bytes`; start -1 for a hole.
  private var places: [(start: Int32, length: Int32)] = []
  /// Ids by hash, -1 for free; the size is a power of two.
  private var slots: [Int32]
  private(set) var count = 0

  /// One more than the largest id.
  var idLimit: Int { places.count }

  /// An empty vocabulary with room for `capacity` tokens.
  init(capacity: Int) {
    var size = 64
    while size < capacity * 2 { size *= 2 }
    slots = .init(repeating: -1, count: size)
    places.reserveCapacity(capacity)
  }

  /// The id of a part of `text`.
  @inline(__always)
  func id(of text: Span<UInt8>, _ range: Range<Int>) -> Int32? {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash(text, range)) & mask
    while slots[slot] >= 0 {
      let place = places[Int(slots[slot])]
      if Int(place.length) == range.count, equal(text, range, bytes.span, at: Int(place.start)) {
        return slots[slot]
      }
      slot = (slot + 1) & mask
    }
    return nil
  }

  /// The id of a whole byte string.
  func id(of token: [UInt8]) -> Int32? { id(of: token.span, 0..<token.count) }

  /// The token with this id.
  func token(_ id: Int32) -> [UInt8]? {
    guard id >= 0, Int(id) < places.count, places[Int(id)].start >= 0 else { return nil }
    let place = places[Int(id)]
    return Array(bytes[Int(place.start)..<Int(place.start + place.length)])
  }

  /// Adds a token; false, and no change, when it is there or its id is taken. `id` is checked
  /// against a limit by the caller: the table of ids grows to it.
  mutating func insert(_ token: some Collection<UInt8>, id: Int32) -> Bool {
    let start = bytes.count
    bytes.append(contentsOf: token)
    let range = start..<bytes.count
    let isTaken = Int(id) < places.count && places[Int(id)].start >= 0
    guard !isTaken, range.upperBound <= Int32.max, self.id(of: bytes.span, range) == nil else {
      bytes.removeSubrange(range)
      return false
    }
    while places.count <= Int(id) { places.append((-1, 0)) }
    places[Int(id)] = (Int32(start), Int32(range.count))
    count += 1
    if count * 2 > slots.count { grow() } else { place(id, range) }
    return true
  }

  private mutating func place(_ id: Int32, _ range: Range<Int>) {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash(bytes.span, range)) & mask
    while slots[slot] >= 0 { slot = (slot + 1) & mask }
    slots[slot] = id
  }

  private mutating func grow() {
    slots = .init(repeating: -1, count: slots.count * 2)
    for id in places.indices where places[id].start >= 0 {
      let start = Int(places[id].start)
      place(Int32(id), start..<start + Int(places[id].length))
    }
  }
}

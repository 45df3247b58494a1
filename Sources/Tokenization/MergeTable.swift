// The merges of byte-pair encoding: which two neighbours become which token, and how early.

/// Pairs of token ids with their rank and the token they make.
struct MergeTable: Sendable {
  /// The value of a pair that does not merge: later than every rank.
  static let none = UInt64.max

  /// Keys and values in turn: `left << 32 | right`, then `rank << 32 | merged`.
  private var slots: [UInt64]
  private var shift: UInt64
  private(set) var count = 0

  /// An empty table with room for `capacity` merges.
  init(capacity: Int) {
    var bits: UInt64 = 4
    while 1 << bits < capacity * 2 { bits += 1 }
    shift = 64 - bits
    slots = .init(repeating: .max, count: 2 << bits)
  }

  /// The rank and the merged token of two neighbours as `rank << 32 | token`, or `none`.
  @inline(__always)
  func value(_ left: Int32, _ right: Int32) -> UInt64 {
    let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    let mask = slots.count / 2 - 1
    var slot = Int(truncatingIfNeeded: Self.mix(key) >> shift)
    while true {
      let found = slots[2 * slot]
      if found == key { return slots[2 * slot + 1] }
      if found == .max { return Self.none }
      slot = (slot + 1) & mask
    }
  }

  /// Sets the merge of a pair. A pair that stands twice has its later rank, as in `tokenizers`.
  mutating func insert(_ left: Int32, _ right: Int32, rank: Int32, merged: Int32) {
    if (count + 1) * 2 > slots.count / 2 { grow() }
    let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    insert(key, UInt64(UInt32(bitPattern: rank)) << 32 | UInt64(UInt32(bitPattern: merged)))
  }

  private mutating func insert(_ key: UInt64, _ value: UInt64) {
    let mask = slots.count / 2 - 1
    var slot = Int(truncatingIfNeeded: Self.mix(key) >> shift)
    while slots[2 * slot] != .max, slots[2 * slot] != key { slot = (slot + 1) & mask }
    if slots[2 * slot] == .max { count += 1 }
    slots[2 * slot] = key
    slots[2 * slot + 1] = value
  }

  private mutating func grow() {
    let old = slots
    shift -= 1
    count = 0
    slots = .init(repeating: .max, count: old.count * 2)
    for i in stride(from: 0, to: old.count, by: 2) where old[i] != .max {
      insert(old[i], old[i + 1])
    }
  }

  @inline(__always)
  private static func mix(_ key: UInt64) -> UInt64 {
    let folded = key ^ key >> 29
    return (folded &* 0xBF58_476D_1CE4_E5B9) &* 0x9E37_79B9_7F4A_7C15
  }
}

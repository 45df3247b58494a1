// Lists of small signed numbers in few bits: Golomb–Rice codes with one parameter a list.
//
// Source   Rice, "Some Practical Universal Noiseless Coding Techniques", JPL 79-22, 1979
// Layout   bits fill bytes from the least significant on. A number v is u = 2v, or −2v − 1 when negative; then
//          u >> k ones, a zero, and the lowest k bits of u, lowest first. 24 ones mean: u itself follows, 20 bits. The
//          parameter 15 stands for a list of zeros, which takes no bits.

/// Writes bits, least significant first.
struct BitWriter {
  private(set) var bytes: [UInt8] = []
  private var word: UInt64 = 0
  private var filled: UInt64 = 0

  mutating func write(_ value: UInt64, bits: Int) {
    word |= value << filled
    filled += UInt64(bits)
    while filled >= 8 {
      bytes.append(UInt8(truncatingIfNeeded: word))
      word >>= 8
      filled -= 8
    }
  }

  /// Ends the last byte with zeros.
  mutating func align() { if filled > 0 { write(0, bits: 8 - Int(filled)) } }

  /// A number as `raw_escape` of the kernel reads it.
  mutating func writeEscape(_ value: Int32) {
    var rest = UInt32(bitPattern: (value << 1) ^ (value >> 31))
    repeat {
      write(UInt64(rest & 7) | (rest > 7 ? 8 : 0), bits: 4)
      rest >>= 3
    } while rest > 0
  }
}

/// A list's parameters.
enum RiceList {
  static let longestUnary = 24
  static let escapeBits = 20
  /// The numbers that a list can hold.
  static let range = -(1 << 19)..<(1 << 19)

  static func zigzag(_ value: Int) -> UInt64 {
    UInt64(value >= 0 ? 2 * value : -2 * value - 1)
  }

  static func bits(_ value: UInt64, parameter k: Int) -> Int {
    let ones = Int(value >> UInt64(k))
    return ones < longestUnary ? ones + 1 + k : longestUnary + escapeBits
  }

  /// The parameter of a list of zeros.
  static let zeros = 15

  /// The parameter that takes the fewest bits.
  static func bestParameter(_ values: [Int], zerosTakeBits: Bool) -> Int {
    if !zerosTakeBits, values.allSatisfy({ $0 == 0 }) { return zeros }
    let numbers = values.map(zigzag)
    return (0..<zeros).min { a, b in
      numbers.reduce(0) { $0 + bits($1, parameter: a) }
        < numbers.reduce(0) { $0 + bits($1, parameter: b) }
    } ?? 0
  }

  static func write(_ values: [Int], parameter k: Int, to writer: inout BitWriter) {
    guard k != zeros else { return }
    for value in values {
      let number = zigzag(value)
      let ones = Int(number >> UInt64(k))
      guard ones < longestUnary else {
        writer.write((1 << UInt64(longestUnary)) - 1, bits: longestUnary)
        writer.write(number, bits: escapeBits)
        continue
      }
      writer.write((1 << UInt64(ones)) - 1, bits: ones + 1)
      if k > 0 { writer.write(number & ((1 << UInt64(k)) - 1), bits: k) }
    }
  }

  /// Reads `count` numbers from bit `position` on; nil when the bytes end before.
  static func read(
    _ bytes: RawSpan, position: inout Int, count: Int, parameter k: Int
  ) -> [Int]? {
    guard k != zeros else { return [Int](repeating: 0, count: count) }
    let end = 8 * bytes.byteCount
    guard count <= end - position else { return nil }
    func bit(_ index: Int) -> Int {
      Int(unsafe bytes.unsafeLoad(fromByteOffset: index >> 3, as: UInt8.self) >> (index & 7)) & 1
    }
    var values: [Int] = []
    values.reserveCapacity(count)
    for _ in 0..<count {
      var ones = 0
      while ones < longestUnary {
        guard position < end else { return nil }
        position += 1
        guard bit(position - 1) == 1 else { break }
        ones += 1
      }
      let tail = ones < longestUnary ? k : escapeBits
      guard tail <= end - position else { return nil }
      var low = 0
      for i in 0..<tail { low |= bit(position + i) << i }
      position += tail
      let number = ones < longestUnary ? ones << k | low : low
      values.append(number & 1 == 0 ? number / 2 : -(number + 1) / 2)
    }
    return values
  }
}

// The distributions of codes: Student's t with an even number of degrees of freedom, cut at half-integers.
//
// Source   Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.4 (even degrees of freedom)
// Why t    its distribution function for even degrees is a polynomial in square roots: the same bits on every
//          machine, which a table of the normal distribution's would not be. 64 degrees are near enough to normal.
// Class t  stands for a standard deviation of 2^((t - 64) / 8) codes. From class 96 on, codes are wider than
//          16: then the table is that of class 88 + t mod 8, and the lowest t / 8 - 11 bits are stored plainly.
// Checked  EntropyCodedTests: frequencies against the density, integrated; reader of the document

import Glibc

/// Tables of one family.
struct SpreadTables {
  /// Classes are 0...127.
  static let classes = 128
  /// Classes with a table of their own.
  static let tables = 96
  /// Symbols −63…63 are codes, the last is an escape.
  static let symbols = 128
  static let largest = 63
  /// log2 of the sum of a table's frequencies.
  static let bits = 12

  /// 2^(j/8).
  static let octave: [Double] = [
    1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096, 1.4142135623730951,
    1.5422108254079407, 1.681792830507429, 1.8340080864093424,
  ]

  /// 2^(k/8), exactly as the constants multiply.
  static func power(eighths k: Int) -> Double {
    let exponent = (k - (k & 7)) / 8
    return Double(sign: .plus, exponent: exponent, significand: octave[k & 7])
  }

  /// Half the degrees of freedom, 2...32.
  let half: Int

  /// Bits of a code of this class that are stored plainly.
  static func lowBits(_ spread: Int) -> Int { max(0, spread / 8 - 11) }
  /// The table of this class.
  static func table(_ spread: Int) -> Int { spread < tables ? spread : 88 + spread % 8 }

  /// Frequencies of the symbols −63…63 and of the escape; their sum is 4096. The cells of `odd` ones, the trellis's Q1,
  /// lie around k − 1/2.
  func frequencies(table: Int, odd: Bool = false) -> [Int] {
    let degrees = Double(2 * half)
    // The scale that gives the class's standard deviation.
    let scale = Self.power(eighths: table - 64) * ((degrees - 2) / degrees).squareRoot()
    var result = [Int](repeating: 0, count: Self.symbols)
    var before = 0
    for code in 0...(odd ? Self.largest - 1 : Self.largest) {
      let x = (Double(code) + (odd ? 1 : 0.5)) / scale
      let square = x * x
      let cosine = degrees / (degrees + square)
      var term = 1.0
      var sum = 1.0
      for k in 1..<half {
        term = term * cosine * (Double(2 * k - 1) / Double(2 * k))
        sum = sum + term
      }
      // P(|code| ≤ code), as a share of 2047.
      let inside = x / (degrees + square).squareRoot() * sum
      let now = max(before, min(2047, Int((2047 * inside + 0.5).rounded(.down))))
      if odd {
        result[Self.largest + code + 1] = now - before
        result[Self.largest - code] = now - before
      } else if code == 0 {
        result[Self.largest] = 2 * now + 1
      } else {
        result[Self.largest + code] = now - before
        result[Self.largest - code] = now - before
      }
      before = now
    }
    result[Self.symbols - 1] = 4096 - (2 * before + (odd ? 0 : 1))
    return result
  }

  /// A decoder's table, as the kernel's header describes it.
  static func decoding(_ frequencies: [Int]) -> [UInt32] {
    var entries: [UInt32] = []
    entries.reserveCapacity(1 << bits)
    for (index, frequency) in frequencies.enumerated() {
      let symbol = index == symbols - 1 ? -128 : index - largest
      for slot in 0..<frequency {
        entries.append(
          UInt32(UInt8(bitPattern: Int8(symbol))) << 24 | UInt32(slot) << 12 | UInt32(frequency))
      }
    }
    return entries
  }

  /// An encoder's table.
  static func encoding(_ frequencies: [Int]) -> [UInt32] {
    var first = 0
    return frequencies.map { frequency in
      defer { first += frequency }
      return UInt32(first) << 16 | UInt32(frequency)
    }
  }

  /// The symbol of a code, and whether it is an escape because the table has no room for it.
  static func symbol(_ code: Int32, lowBits: Int) -> Int? {
    guard lowBits > 0 else { return abs(Int(code)) <= largest ? Int(code) + largest : nil }
    let high = (Int(code) + (1 << (lowBits - 1))) >> lowBits
    return abs(high) <= largest ? high + largest : nil
  }

  /// The largest |code| with a cost of its own.
  static let largestCost = 255

  /// Bits of a code of each size 0...255 in each class, `[classes, 256]`, for each family of the encoder.
  static let costs = SpreadClasses.families.map { SpreadTables(half: $0).ownCosts(trellis: false) }
  /// The same for codes of a trellis: even ones have the tables of Q0, odd ones those of Q1.
  static let trellisCosts = SpreadClasses.families.map {
    SpreadTables(half: $0).ownCosts(trellis: true)
  }

  private func ownCosts(trellis: Bool) -> [Float] {
    let own = (0..<(trellis ? 2 : 1)).map { quantizer in
      (0..<Self.tables).map { table in
        frequencies(table: table, odd: quantizer == 1).map { frequency in
          frequency == 0 ? Float.infinity : Float(12 - log2(Double(frequency)))
        }
      }
    }
    var result: [Float] = []
    result.reserveCapacity(Self.classes * (Self.largestCost + 1))
    for spread in 0..<Self.classes {
      let bits = Self.lowBits(spread)
      for size in 0...Self.largestCost {
        let code = trellis ? Trellis.index(size) : size
        let quantizer = trellis && bits == 0 ? size & 1 : 0
        let costs = own[quantizer][Self.table(spread)]
        var cost = Float.infinity
        if let symbol = Self.symbol(Int32(code), lowBits: bits) { cost = costs[symbol] }
        if cost == .infinity {
          let number = RiceList.zigzag(code)
          let groups = (number.bitWidth - number.leadingZeroBitCount + 2) / 3
          cost = costs[Self.symbols - 1] + Float(4 * max(1, groups)) - Float(bits)
        }
        result.append(cost + Float(bits))
      }
    }
    return result
  }
}

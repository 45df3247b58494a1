// A slow decoder of entropy-coded streams, made from docs/bundle-format.md alone: one bit, one symbol at a time.

import Encodings
import Tensors

struct EntropyCodedReader {
  let bytes: [UInt8]
  private var bit = 16 * 8
  private static let powers: [Double] = [
    1, 1.0905077326652577, 1.189207115002721, 1.2968395546510096, 1.4142135623730951,
    1.5422108254079407, 1.681792830507429, 1.8340080864093424,
  ]

  init(_ tensor: Tensor) { bytes = tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } } }

  private static func power(_ k: Int) -> Double {
    let floor = k >= 0 ? k / 8 : (k - 7) / 8
    var value = powers[k - 8 * floor]
    for _ in 0..<abs(floor) { value = floor > 0 ? value * 2 : value / 2 }
    return value
  }

  private func number(_ offset: Int, _ count: Int) -> Int {
    (0..<count).reduce(0) { $0 + Int(bytes[offset + $1]) << (8 * $1) }
  }

  private mutating func bits(_ count: Int) -> Int {
    var value = 0
    for i in 0..<count {
      value += Int(bytes[bit / 8] >> (bit % 8) & 1) << i
      bit += 1
    }
    return value
  }

  private static func signed(_ u: Int) -> Int { u % 2 == 0 ? u / 2 : -(u + 1) / 2 }

  private mutating func list(_ index: Int, _ count: Int) -> [Int] {
    let k = Int(bytes[11 + index]) % 16, shift = Int(bytes[11 + index]) / 16
    return (0..<count).map { _ in
      guard k != 15 else { return 0 }
      var ones = 0
      while ones < 24, bits(1) == 1 { ones += 1 }
      return Self.signed(ones == 24 ? bits(20) : ones << k + bits(k)) * (1 << shift)
    }
  }

  private static func frequencies(_ t: Int, _ h: Int, odd: Bool) -> [Int] {
    let nu = Double(2 * h)
    let s = power(t - 64) * ((nu - 2) / nu).squareRoot()
    var a: [Int] = []
    for i in 0...(odd ? 62 : 63) {
      let x = (Double(i) + (odd ? 1 : 0.5)) / s
      let q = x * x
      let g = nu / (nu + q)
      var term = 1.0, sum = 1.0
      for j in 1..<h {
        term = (term * g) * (Double(2 * j - 1) / Double(2 * j))
        sum += term
      }
      let value = Int((2047 * ((x / (nu + q).squareRoot()) * sum) + 0.5).rounded(.down))
      a.append(max(min(2047, value), a.last ?? 0))
    }
    if odd {
      let half = [a[0]] + (1...62).map { a[$0] - a[$0 - 1] }
      return [0] + half.reversed() + half + [4096 - 2 * a[62]]
    }
    let side = (1...63).map { a[$0] - a[$0 - 1] }
    return side.reversed() + [2 * a[0] + 1] + side + [4096 - 2 * a[63] - 1]
  }

  /// The weights, row by row.
  mutating func weights(outputs: Int, inputs: Int) -> [Float] {
    let trellis = bytes[0] == 2
    let h = Int(bytes[1])
    let constant = Int(Int16(truncatingIfNeeded: number(2, 2)))
    let base = Double(Float(bitPattern: UInt32(number(4, 4))))
    let blockRows = number(8, 3)
    let e = list(0, inputs), m = list(1, inputs)
    let f = list(2, outputs), s = list(3, outputs), n = list(4, outputs)
    var index = (bit + 7) / 8
    var tables: [Int: [Int]] = [:]
    var result: [Float] = []
    let blocks = inputs == 0 ? 0 : (outputs + blockRows - 1) / blockRows
    var start = index + 8 * blocks
    for block in 0..<blocks {
      let words = number(index, 4), raw = number(index + 4, 4)
      index += 8
      var states = (0..<8).map { number(start + 4 * $0, 4) }
      var word = start + 32
      bit = 8 * (start + 32 + 2 * words)
      var columnStates = [Int](repeating: 0, count: inputs)
      for r in block * blockRows..<min((block + 1) * blockRows, outputs) {
        if (r - block * blockRows) % 128 == 0 {
          columnStates = [Int](repeating: 0, count: inputs)
        }
        for c in 0..<inputs {
          let t = min(max(constant - e[c] + m[c] - f[r] + n[r], 0), 127)
          let table = t < 96 ? t : 88 + t % 8
          let low = t < 96 ? 0 : t / 8 - 11
          let state = columnStates[c]
          let isOdd = trellis && state / 2 % 2 == 1
          let key = isOdd && low == 0 ? table + 1000 : table
          let frequencies =
            tables[key] ?? Self.frequencies(table, h, odd: isOdd && low == 0)
          tables[key] = frequencies
          let x = states[c % 8]
          var symbol = 0, first = 0
          while first + frequencies[symbol] <= x % 4096 {
            first += frequencies[symbol]
            symbol += 1
          }
          var next = frequencies[symbol] * (x / 4096) + x % 4096 - first
          if next < 65536 {
            next = 65536 * next + number(word, 2)
            word += 2
          }
          states[c % 8] = next
          var code = symbol - 63
          if symbol == 127 {
            var u = 0, group = 8, shift = 0
            while group >= 8 {
              group = bits(4)
              u += (group % 8) << shift
              shift += 3
            }
            code = Self.signed(u)
          } else if low > 0 {
            code = code * (1 << low) + bits(low) - 1 << (low - 1)
          }
          if trellis {
            columnStates[c] = state / 2 + 4 * ((abs(code) + state % 2 + state / 4) % 2)
            code = 2 * code - (isOdd ? 1 : 0)
          }
          let step = Float(base * Self.power(e[c]))
          let scale = Float(Self.power(f[r]) * (1 + Double(s[r]) / 128))
          result.append((Float(code) * step) * scale)
        }
      }
      start += 32 + 2 * words + raw
    }
    return result
  }
}

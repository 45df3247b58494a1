import CKernels
import Encodings
import Foundation
import TestSupport
import Testing

@testable import Tensors

/// Codes by what they look like.
private func normalCodes(
  _ outputs: Int, _ inputs: Int, deviation: Double, rowSpread: Double = 0, seed: String = "ec"
) -> [Int32] {
  var stream = RandomStream(test: seed)
  let rows = (0..<outputs).map { _ in exp(rowSpread * stream.normal()) }
  return (0..<outputs * inputs).map { index in
    Int32((deviation * rows[index / inputs] * stream.normal()).rounded())
  }
}

/// Each column's codes moved onto a path of the trellis: to the nearest of those that its state allows, twice as large.
private func onTrellis(_ inputs: Int, _ codes: [Double]) -> [Int32] {
  var states = [Int](repeating: 0, count: inputs)
  return codes.indices.map { index in
    let (row, column) = index.quotientAndRemainder(dividingBy: max(1, inputs))
    if row % 128 == 0 { states[column] = 0 }
    let odd = states[column] & 2 == 2 ? 1 : 0
    let k = Int((codes[index] + Double(odd) / 2).rounded())
    states[column] =
      states[column] >> 1 + 4 * ((abs(k) + states[column] & 1 + states[column] >> 2) % 2)
    return Int32(2 * k - odd)
  }
}

private func normalTrellis(
  _ outputs: Int, _ inputs: Int, deviation: Double, seed: String = "ec"
) -> [Int32] {
  var stream = RandomStream(test: seed)
  return onTrellis(inputs, (0..<outputs * inputs).map { _ in deviation * stream.normal() })
}

private func matrix(
  _ outputs: Int, _ inputs: Int, _ codes: [Int32], base: Float = 0.125, isTrellis: Bool = false
) -> IntegerCodes {
  var stream = RandomStream(test: "steps")
  return IntegerCodes(
    outputs: outputs, inputs: inputs, codes: codes, base: base,
    exponents: (0..<inputs).map { _ in Int((3 * stream.normal()).rounded()) },
    rowExponents: (0..<outputs).map { _ in Int((5 * stream.normal()).rounded()) },
    scales: (0..<outputs).map { _ in Int((3 * stream.normal()).rounded()) }, isTrellis: isTrellis)
}

/// The decoded weights, divided back into codes, are the codes.
private func roundTrips(_ matrix: IntegerCodes, _ encoded: EncodedMatrix) -> Bool {
  let decoded = encoded.matrix.decoded()
  let steps = matrix.steps
  for row in 0..<matrix.outputs {
    let scale = Float(
      IntegerCodes.power(eighths: matrix.rowExponents[row])
        * (1 + Double(matrix.scales[row]) / 128))
    for column in 0..<matrix.inputs {
      let index = row * matrix.inputs + column
      if decoded.values[index] != Float(matrix.codes[index]) * steps[column] * scale {
        return false
      }
    }
  }
  return true
}

@Suite struct EntropyCodedTests {
  static let shapes = [
    [1, 1], [1, 7], [1, 300], [300, 1], [3, 8], [17, 23], [256, 256], [1030, 257],
  ]

  @Test(arguments: shapes, [0, 0.05, 0.4, 1.5, 6, 40, 300, 1e5, 2e8])
  func codesComeBack(_ shape: [Int], _ deviation: Double) throws {
    guard shape[0] * shape[1] < 1000 || deviation < 1e4 else { return }
    let codes = normalCodes(shape[0], shape[1], deviation: deviation)
    try comesBack(matrix(shape[0], shape[1], codes), shape)
    let path = normalTrellis(shape[0], shape[1], deviation: deviation)
    try comesBack(matrix(shape[0], shape[1], path, isTrellis: true), shape)
  }

  private func comesBack(_ matrix: IntegerCodes, _ shape: [Int]) throws {
    let encoded = EntropyCoded.encode(matrix)
    #expect(roundTrips(matrix, encoded))
    if shape[0] * shape[1] < 100_000 {
      var reader = EntropyCodedReader(encoded.parts[0])
      let weights = reader.weights(outputs: shape[0], inputs: shape[1])
      #expect(weights == encoded.matrix.decoded().values)
    }
    try EntropyCoded.check(outputs: shape[0], inputs: shape[1], parts: encoded.parts)
    #expect(EncodingRegistry.encoding(named: encoded.encoding.name) != nil)
  }

  /// Rows of one size, edges of Int32, whole numbers of the wrong shape.
  /// Products on codes, few tokens and many, with codes beyond a byte, are those of the decoded matrix in Double.
  @Test(arguments: [false, true], [1, 3, 4, 9]) func products(isTrellis: Bool, tokens: Int) {
    let outputs = 150, inputs = 83
    var codes =
      isTrellis
      ? normalTrellis(outputs, inputs, deviation: 9)
      : normalCodes(outputs, inputs, deviation: 9)
    if !isTrellis {
      codes[5] = 1000
      codes[inputs * 149 + 82] = -70_000
    }
    let encoded = EntropyCoded.encode(matrix(outputs, inputs, codes, isTrellis: isTrellis))
    var stream = RandomStream(test: "products of codes")
    let x = stream.matrix(rows: tokens, columns: inputs)
    let found = encoded.matrix.apply(to: x), weight = encoded.matrix.decoded()
    for token in 0..<tokens {
      for row in 0..<outputs {
        var sum = 0.0, size = 0.0
        for column in 0..<inputs {
          let term =
            Double(x.values[token * inputs + column])
            * Double(weight.values[row * inputs + column])
          sum += term
          size += abs(term)
        }
        #expect(abs(Double(found.values[token * outputs + row]) - sum) <= 1e-6 * size)
      }
    }
  }

  /// The two decoders take the same codes from any bytes: escapes, raw bits, and ends of the words.
  @Test(arguments: [(1, 900), (8, 40), (37, 700), (512, 100), (1000, 3000)])
  func decodersAgree(columns n: Int, words: Int) {
    var stream = RandomStream(test: "decoders \(n)")
    let bytes = (0..<2 * words + 8).map { _ in UInt8(stream.integer(below: 256)) }
    // Three tables: narrow, wide, and one where an escape is frequent; the last with low bits.
    var tables: [UInt32] = []
    for count in [3, 101, 4] {
      let share = 4096 / count
      for slot in 0..<4096 {
        let symbol = min(slot / share, count - 1)
        let first = symbol * share
        let frequency = symbol == count - 1 ? 4096 - first : share
        let value = count == 4 && symbol == 0 ? -128 : symbol - count / 2
        tables.append(
          UInt32(frequency) | UInt32(slot - first) << 12
            | UInt32(UInt8(bitPattern: Int8(value))) << 24)
      }
    }
    let map: [UInt32] = [0, 4096, 8192, 4096 + 3]
    let columns = (0..<n).map { _ in UInt16(stream.integer(below: n == 512 ? 2 : 4)) }
    var results: [[Int32]] = []
    for (decode, together) in [
      (kernel_rans_decode_rows, 3), (kernel_rans_decode_rows, 1),
      (kernel_rans_decode_rows_plain, 3),
    ] {
      var codes = [Int8](repeating: 0, count: 3 * n)
      var places = [UInt32](repeating: 0, count: 3 * n),
        values = [Int32](repeating: 0, count: 3 * n)
      var result: [Int32] = []
      bytes.withUnsafeBufferPointer { bytes in
        guard let start = bytes.baseAddress else { return }
        // Three readers, whose words end at different places.
        var readers = (0..<3).map { index in
          kernel_rans_reader(
            state: (1 << 16, 1 << 20, 77_777, 1 << 31, 99_999, 1 << 17, 123_456, 1 << 28),
            words: start, word: 0, word_count: words - 5 * index, raw: start + 1, raw_bit: 3,
            raw_count: bytes.count - 1, overrun: 0)
        }
        for _ in 0..<4 {
          var counts = [Int](repeating: 0, count: 3)
          readers.withUnsafeMutableBufferPointer { readers in
            map.withUnsafeBufferPointer { map in
              columns.withUnsafeBufferPointer { columns in
                codes.withUnsafeMutableBufferPointer { codes in
                  places.withUnsafeMutableBufferPointer { places in
                    values.withUnsafeMutableBufferPointer { values in
                      let rows = (0..<3).map { index in
                        kernel_rans_row(
                          reader: readers.baseAddress! + index, map: map.baseAddress!,
                          columns: columns.baseAddress!, out: codes.baseAddress! + index * n,
                          places: places.baseAddress! + index * n,
                          values: values.baseAddress! + index * n)
                      }
                      for first in stride(from: 0, to: 3, by: together) {
                        var own = [Int](repeating: 0, count: together)
                        decode(Array(rows[first..<first + together]), together, tables, 63, &own, n)
                        for (index, count) in own.enumerated() { counts[first + index] = count }
                      }
                    }
                  }
                }
              }
            }
          }
          for index in 0..<3 {
            let reader = readers[index]
            let listed = index * n..<index * n + counts[index]
            result += codes[index * n..<(index + 1) * n].map { Int32($0) }
            result += places[listed].map { Int32($0) } + values[listed]
            result += [Int32(reader.word), Int32(reader.raw_bit), Int32(reader.overrun)]
            result += withUnsafeBytes(of: reader.state) {
              $0.bindMemory(to: Int32.self).map { $0 }
            }
          }
        }
      }
      results.append(result)
    }
    #expect(results[0] == results[2] && results[1] == results[2])
  }

  @Test func unusualCodes() throws {
    let cases: [(Int, Int, (Int) -> Int32)] = [
      (64, 64, { _ in 7 }), (64, 64, { _ in -100_000 }),
      (20, 30, { $0 % 2 == 0 ? .max : .min + 1 }),
      (50, 40, { Int32($0 % 40 == 3 ? 1000 : 0) }), (40, 50, { Int32($0 / 50 == 7 ? -1000 : 1) }),
      (0, 5, { _ in 0 }), (5, 0, { _ in 0 }), (0, 0, { _ in 0 }),
    ]
    for (outputs, inputs, code) in cases {
      let codes = (0..<outputs * inputs).map(code)
      let path = onTrellis(inputs, codes.map { (Double($0) * 0.499).rounded() })
      for matrix in [
        matrix(outputs, inputs, codes), matrix(outputs, inputs, path, isTrellis: true),
      ] {
        let encoded = EntropyCoded.encode(matrix)
        #expect(roundTrips(matrix, encoded), "\(outputs) x \(inputs) \(matrix.isTrellis)")
        try EntropyCoded.check(outputs: outputs, inputs: inputs, parts: encoded.parts)
      }
    }
  }

  /// Bits of codes of a known distribution: −Σ log2 p, p the normal density integrated over each code.
  private static func information(_ codes: [Int32], deviation: Double) -> Double {
    var bits: [Int32: Double] = [:]
    var sum = 0.0
    for code in codes {
      if let known = bits[code] {
        sum += known
        continue
      }
      let low = (Double(code.magnitude) - 0.5) / deviation / 2.0.squareRoot()
      let high = (Double(code.magnitude) + 0.5) / deviation / 2.0.squareRoot()
      let own = -log2(low < 0 ? (erf(high) - erf(low)) / 2 : (erfc(low) - erfc(high)) / 2)
      bits[code] = own
      sum += own
    }
    return sum
  }

  /// The same for codes of a trellis, each the nearest that its state allows: two steps wide.
  private static func trellisInformation(_ codes: [Int32], deviation: Double) -> Double {
    var bits: [Int32: Double] = [:]
    return codes.reduce(0) { sum, code in
      let size = Int32(code.magnitude)
      if let known = bits[size] { return sum + known }
      let low = (Double(size) - 1) / 2 / deviation / 2.0.squareRoot()
      let high = (Double(size) + 1) / 2 / deviation / 2.0.squareRoot()
      let own = -log2(low < 0 ? (erf(high) - erf(low)) / 2 : (erfc(low) - erfc(high)) / 2)
      bits[size] = own
      return sum + own
    }
  }

  @Test(arguments: [[256, 256], [512, 384], [4096, 256]], [0.75, 1, 2, 4, 8, 60])
  func sizesOfTrellisesAreWithinAPercent(_ shape: [Int], _ deviation: Double) {
    let codes = normalTrellis(shape[0], shape[1], deviation: deviation)
    let plain = IntegerCodes(
      outputs: shape[0], inputs: shape[1], codes: codes, base: 1,
      exponents: [Int](repeating: 0, count: shape[1]),
      rowExponents: [Int](repeating: 0, count: shape[0]),
      scales: [Int](repeating: 0, count: shape[0]), isTrellis: true)
    let size = Double(8 * EntropyCoded.encode(plain).parts[0].byteCount)
    let least = Self.trellisInformation(codes, deviation: deviation)
    print("trellis", shape, deviation, size / least)
    // Of the smallest, the lists are more than half a percent.
    #expect(size < (shape[0] > 256 ? 1.006 : 1.011) * least, "\(size / least)")
    #expect(size > 0.998 * least)
  }

  /// The whole stream, head, lists and index included, over the information of the codes.
  @Test(arguments: [[256, 256], [512, 384], [4096, 256]], [0.75, 1, 2, 4, 8, 60])
  func sizesAreWithinAPercent(_ shape: [Int], _ deviation: Double) {
    let codes = normalCodes(shape[0], shape[1], deviation: deviation)
    let plain = IntegerCodes(
      outputs: shape[0], inputs: shape[1], codes: codes, base: 1,
      exponents: [Int](repeating: 0, count: shape[1]),
      rowExponents: [Int](repeating: 0, count: shape[0]),
      scales: [Int](repeating: 0, count: shape[0]))
    let size = Double(8 * EntropyCoded.encode(plain).parts[0].byteCount)
    let least = Self.information(codes, deviation: deviation)
    print(shape, deviation, size / least)
    #expect(size < 1.01 * least, "\(size / least)")
    // And no less than the information, up to what the sample fits the code's model by chance.
    #expect(size > 0.998 * least)
  }

  /// Rows and columns of unlike spread: less than the entropy of each column, counted.
  @Test func rowsOfUnlikeSpread() {
    let outputs = 1024, inputs = 256
    let codes = normalCodes(outputs, inputs, deviation: 2, rowSpread: 0.5)
    let size = Double(8 * EntropyCoded.encode(matrix(outputs, inputs, codes)).parts[0].byteCount)
    var entropy = 0.0
    for column in 0..<inputs {
      var counts: [Int32: Int] = [:]
      for row in 0..<outputs { counts[codes[row * inputs + column], default: 0] += 1 }
      for count in counts.values {
        entropy -= Double(count) * log2(Double(count) / Double(outputs))
      }
    }
    print("unlike", size / entropy)
    #expect(size < entropy)
  }

  @Test(arguments: [false, true])
  func threadsDoNotMatter(_ isTrellis: Bool) throws {
    let codes =
      isTrellis
      ? normalTrellis(2000, 300, deviation: 2) : normalCodes(2000, 300, deviation: 2)
    func bytes(_ threads: Int) -> [UInt8] {
      withThreads(threads) {
        EntropyCoded.encode(matrix(2000, 300, codes, isTrellis: isTrellis)).parts[0].withBytes {
          $0.withUnsafeBytes { [UInt8]($0) }
        }
      }
    }
    #expect(bytes(1) == bytes(2))
  }

  /// Damaged streams decode to something finite or have no head; `check` never accepts other codes.
  @Test func damage() throws {
    let shapes = [(40, 50, 2.0), (9, 11, 300.0), (300, 3, 0.01)]
    var stream = RandomStream(test: "damage")
    var accepted = 0, rejected = 0
    for round in 0..<6000 {
      let (outputs, inputs, deviation) = shapes[round % shapes.count]
      let isTrellis = round % 2 == 1, seed = "damage \(round % 30)"
      let codes =
        isTrellis
        ? normalTrellis(outputs, inputs, deviation: deviation, seed: seed)
        : normalCodes(outputs, inputs, deviation: deviation, seed: seed)
      let encoded = EntropyCoded.encode(matrix(outputs, inputs, codes, isTrellis: isTrellis))
      var bytes = encoded.parts[0].withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
      for _ in 0...stream.integer(below: 3) {
        // The head and the index are a small part, and the one that lies.
        let limit = stream.integer(below: 2) == 0 ? min(24, bytes.count) : bytes.count
        let place = stream.integer(below: limit)
        switch stream.integer(below: 5) {
        case 0: bytes[place] ^= 1 << UInt8(stream.integer(below: 8))
        case 1: bytes[place] = UInt8(stream.integer(below: 256))
        case 2: bytes.removeLast(min(bytes.count, 1 + stream.integer(below: 40)))
        case 3: for i in place..<min(bytes.count, place + 4) { bytes[i] = 0xFF }
        default: bytes.insert(UInt8(stream.integer(below: 256)), at: place)
        }
        if bytes.isEmpty { bytes = [1] }
      }
      let tensor = Tensor(.uint8, shape: [bytes.count], copying: bytes)
      let encoding = EntropyCoded(streamBytes: bytes.count)
      let shape =
        stream.integer(below: 8) == 0
        ? (outputs: 1 << stream.integer(below: 31), inputs: 1 << stream.integer(below: 31))
        : (outputs: outputs, inputs: inputs)
      do throws(EntropyCodedError) {
        try EntropyCoded.check(outputs: shape.outputs, inputs: shape.inputs, parts: [tensor])
        accepted += 1
      } catch {
        #expect(!error.description.contains("\n"))
        rejected += 1
      }
      guard shape.outputs * shape.inputs < 1 << 20 else { continue }
      let decoded = encoding.matrix(outputs: shape.outputs, inputs: shape.inputs, parts: [tensor])
        .decoded()
      #expect(decoded.values.allSatisfy { $0.isFinite })
    }
    print("accepted", accepted, "rejected", rejected)
    #expect(rejected > accepted)
  }
}

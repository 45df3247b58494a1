import Encodings
import Foundation
import Tensors
import TestSupport
import Testing

/// FP8 and NF4: against their definitions in Double.
@Suite struct LevelGroupsTests {
  static let encodings = LevelGroups.names

  /// E4M3 by its definition: sign, exponent of bias 7, three bits of fraction, no infinity, NaN where all bits are one.
  static func e4m3(_ code: Int) -> Double {
    let sign = code >= 128 ? -1.0 : 1.0
    let exponent = code / 8 % 16, fraction = Double(code % 8)
    if exponent == 15, fraction == 7 { return .nan }
    return exponent == 0
      ? sign * fraction / 8 * pow(2, -6)
      : sign * (1 + fraction / 8) * pow(2, Double(exponent) - 7)
  }

  @Test func everyCodeOfFP8() throws {
    let table = try #require(LevelGroups.named("fp8-channel")).table
    #expect(table.count == 256)
    for code in 0..<256 {
      let expected = Self.e4m3(code)
      #expect(expected.isNaN ? table[code].isNaN : Double(table[code]) == expected, "\(code)")
    }
    #expect(table[0x7E] == 448 && table[0xFE] == -448 && table[0x01] == 0x1p-9)
  }

  /// QLoRA, section 3: quantiles of the normal distribution, equally far apart in probability, 8 above 0 and 7 below, the
  /// outermost at the mean of 1 − 1/30 / 2 and 1 − 1/32 / 2, divided by the largest. The constants are those of its
  /// appendix E.
  @Test func theLevelsOfNF4() throws {
    let table = try #require(LevelGroups.named("nf4-g64")).table
    let published: [Float] = [
      -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
      -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
      0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
      0.7229568362236023, 1.0,
    ]
    #expect(table == published)
    func quantile(_ share: Double) -> Double {
      var low = 0.0, high = 10.0
      for _ in 0..<200 {
        let middle = (low + high) / 2
        if 0.5 * erfc(-middle / 2.0.squareRoot()) < share { low = middle } else { high = middle }
      }
      return low
    }
    let end = 0.9677083
    let above = (1...8).map { quantile(0.5 + (end - 0.5) * Double($0) / 8) }
    let below = (1...7).map { -quantile(0.5 + (end - 0.5) * Double($0) / 7) }
    let levels = (below + [0] + above).sorted().map { $0 / quantile(end) }
    for (found, expected) in zip(table, levels) { #expect(abs(Double(found) - expected) < 1e-5) }
  }

  /// The code of each value has the nearest of all levels; rows around groups, bytes and lanes; scales of both signs and 0.
  @Test(arguments: encodings) func roundingFindsTheNearest(_ name: String) throws {
    let encoding = try #require(LevelGroups.named(name))
    #expect(encoding.name == name)
    var stream = RandomStream(test: name)
    let table = encoding.table
    for count in [0, 1, 7, 8, 33, 700] {
      let scales = (0..<count).map { $0 % 17 == 5 ? 0 : Float(stream.normal()) }
      let inverses = scales.map { $0 == 0 ? 0 : 1 / $0 }
      // Sizes over all binades of E4M3, on both sides of its largest.
      let values = scales.map {
        $0 * encoding.top * Float(stream.normal() * exp2(-Double(stream.integer(below: 20))))
      }
      var points = [Float](repeating: .nan, count: count),
        codes = [UInt8](repeating: 0, count: count)
      var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
      encoding.roundColumn(
        values.span, scales: scales.span, inverses: inverses.span, quantized: &pointSpan,
        codes: &codeSpan)
      for i in 0..<count {
        let wanted = scales[i] == 0 ? 0 : Double(values[i]) / Double(scales[i])
        let found = Double(table[Int(codes[i])])
        let nearest = table.filter { !$0.isNaN }.map { abs(Double($0) - wanted) }.min() ?? 0
        #expect(abs(found - wanted) <= nearest + 1e-6 * abs(wanted), "\(wanted) became \(found)")
        #expect(points[i] == scales[i] * table[Int(codes[i])])
      }
    }
  }

  /// Every level stays itself, and a tie of E4M3 goes to the even code.
  @Test func levelsAndTies() throws {
    for name in ["fp8-g16", "nf4-g16"] {
      let encoding = try #require(LevelGroups.named(name))
      let table = encoding.table.filter { !$0.isNaN }
      var values = table
      var expected = table
      if encoding.levels == .fp8 {
        for code in 0..<126 {
          values.append((encoding.table[code] + encoding.table[code + 1]) / 2)
          expected.append(encoding.table[code % 2 == 0 ? code : code + 1])
        }
        values += [449, 1e30, -1e30]
        expected += [448, 448, -448]
      }
      let ones = [Float](repeating: 1, count: values.count)
      var points = ones, codes = [UInt8](repeating: 0, count: values.count)
      var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
      encoding.roundColumn(
        values.span, scales: ones.span, inverses: ones.span, quantized: &pointSpan, codes: &codeSpan
      )
      #expect(points == expected)
    }
  }

  static let lengths = [0, 1, 2, 15, 16, 17, 64, 65, 257, 300]

  /// Layout in words; decoded values against scale · level; any range of rows.
  @Test(arguments: encodings) func layoutAndDecoding(_ name: String) throws {
    let encoding = try #require(LevelGroups.named(name))
    var stream = RandomStream(test: name)
    let table = encoding.table, outputs = 3
    for inputs in Self.lengths {
      let size = encoding.grouping == .channel ? max(1, inputs) : encoding.groupSize(inputs: inputs)
      let groups = (inputs + size - 1) / size
      let codes = (0..<outputs * inputs).map { _ in
        UInt8(stream.integer(below: table.count) & ~(encoding.levels == .fp8 ? 1 : 0))
      }
      let scales = (0..<outputs * groups).map { _ in Float(Float16(stream.normal())) }
      let encoded = encoding.encode(outputs: outputs, inputs: inputs, codes: codes, scales: scales)
      let isByte = encoding.levels == .fp8
      let rowBytes = isByte ? inputs : (inputs + 1) / 2
      #expect(
        encoding.parts(outputs: outputs, inputs: inputs) == [
          EncodedPart(suffix: ":codes", dtype: .uint8, shape: [outputs, rowBytes]),
          EncodedPart(
            suffix: ":scales", dtype: isByte ? .float32 : .float16, shape: [outputs, groups]),
        ])
      #expect(encoded.matrix.storedBits == 8 * (outputs * (rowBytes + groups * (isByte ? 4 : 2))))
      let bytes = encoded.parts[0].withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
      let decoded = encoded.matrix.decoded()
      for row in 0..<outputs {
        for column in 0..<inputs {
          let byte = bytes[row * rowBytes + (isByte ? column : column / 2)]
          let code = isByte ? byte : column % 2 == 0 ? byte & 15 : byte >> 4
          #expect(code == codes[row * inputs + column])
          let scale = scales[row * groups + column / size]
          #expect(decoded.values[row * inputs + column] == scale * table[Int(code)])
        }
      }
      #expect(encoded.matrix.gather([2, 0]).values == decoded.row(2) + decoded.row(0))
    }
  }

  @Test func names() {
    for name in ["fp8", "fp8-", "fp8-g48", "fp8-g64-sym", "nf4-g064", "nf5-g64", "int4", "FP8-g64"]
    {
      #expect(LevelGroups.named(name) == nil, "\(name)")
    }
    #expect(Set(LevelGroups.names).count == 12)
    for name in LevelGroups.names { #expect(EncodingRegistry.encoding(named: name)?.name == name) }
  }
}

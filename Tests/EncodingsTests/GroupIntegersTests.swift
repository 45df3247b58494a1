import Tensors
import TestSupport
import Testing

@testable import Encodings

@Suite struct GroupIntegersTests {
  static let groupings: [GroupIntegers.Grouping] =
    GroupIntegers.groupSizes.map { .columns($0) } + [.channel]

  static let all: [GroupIntegers] = (2...8).flatMap { bits in
    groupings.flatMap { grouping in
      [false, true].map { GroupIntegers(bits: bits, grouping: grouping, isSymmetric: $0) }
    }
  }

  /// Row lengths around bytes, eights and groups.
  static let lengths = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 127, 129, 257, 300]

  /// Bit `bit` of code `index` of a packed row.
  private static func code(_ packed: [UInt8], bits: Int, index: Int) -> UInt8 {
    (0..<bits).reduce(0) { code, bit in
      let position = index * bits + bit
      return code | (packed[position / 8] >> (position % 8) & 1) << bit
    }
  }

  private static func bytes(_ tensor: Tensor) -> [UInt8] {
    tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
  }

  @Test(arguments: all) func packingAndDecoding(_ encoding: GroupIntegers) throws {
    var stream = RandomStream(test: encoding.name)
    for inputs in Self.lengths {
      let outputs = 3
      let size = encoding.grouping == .channel ? max(1, inputs) : encoding.groupSize(inputs: inputs)
      let groups = (inputs + size - 1) / size
      let codes = (0..<outputs * inputs).map { _ in
        UInt8(stream.integer(below: 1 << encoding.bits))
      }
      let scales = (0..<outputs * groups).map { _ in Float16(stream.normal()).bitPattern }
      let zeros = (0..<outputs * groups).map { _ in UInt8(stream.integer(below: 1 << encoding.bits))
      }
      let encoded = encoding.encode(
        outputs: outputs, inputs: inputs, codes: codes, scales: scales, zeros: zeros)
      // The layout, in words: rows of whole bytes; a half a group; zeros unless symmetric.
      let rowBytes = (inputs * encoding.bits + 7) / 8
      let zeroBytes = (groups * encoding.bits + 7) / 8
      var layout = [
        EncodedPart(suffix: ":codes", dtype: .uint8, shape: [outputs, rowBytes]),
        EncodedPart(suffix: ":scales", dtype: .float16, shape: [outputs, groups]),
      ]
      if !encoding.isSymmetric {
        layout.append(EncodedPart(suffix: ":zeros", dtype: .uint8, shape: [outputs, zeroBytes]))
      }
      #expect(encoding.parts(outputs: outputs, inputs: inputs) == layout)
      let bytes = outputs * (rowBytes + 2 * groups + (encoding.isSymmetric ? 0 : zeroBytes))
      #expect(encoding.byteCount(outputs: outputs, inputs: inputs) == bytes)
      #expect(encoded.matrix.storedBits == 8 * bytes)
      // Every bit of the packed codes.
      let packed = Self.bytes(encoded.parts[0])
      for row in 0..<outputs {
        let own = Array(packed[row * rowBytes..<(row + 1) * rowBytes])
        let found = (0..<inputs).map { Self.code(own, bits: encoding.bits, index: $0) }
        try #require(found == Array(codes[row * inputs..<(row + 1) * inputs]))
        for position in inputs * encoding.bits..<rowBytes * 8 {
          #expect(own[position / 8] >> (position % 8) & 1 == 0, "the rest of a row is zero")
        }
      }
      // Decoding, all at once and row by row.
      let expected = (0..<outputs * inputs).map { index -> Float in
        let group = index / inputs * groups + index % inputs / size
        let zero = encoding.isSymmetric ? Float(1 << (encoding.bits - 1)) : Float(zeros[group])
        return Float(Float16(bitPattern: scales[group])) * (Float(codes[index]) - zero)
      }
      #expect(encoded.matrix.decoded().values == expected)
      for row in 0..<outputs {
        #expect(
          encoded.matrix.gather([Int32(row)]).values
            == Array(expected[row * inputs..<(row + 1) * inputs]))
      }
    }
  }

  @Test(arguments: all) func zeroStaysZero(_ encoding: GroupIntegers) {
    for zero in [0, encoding.middle, encoding.top]
    where !encoding.isSymmetric || zero == encoding.middle {
      let encoded = encoding.encode(
        outputs: 2, inputs: 20, codes: [UInt8](repeating: UInt8(zero), count: 40),
        scales: [UInt16](
          repeating: Float16(-3.7).bitPattern, count: 2 * encoding.groups(inputs: 20)),
        zeros: [UInt8](repeating: UInt8(zero), count: 2 * encoding.groups(inputs: 20)))
      #expect(encoded.matrix.decoded().values.allSatisfy { $0 == 0 })
    }
  }

  @Test(arguments: all) func namesAreReadBack(_ encoding: GroupIntegers) throws {
    #expect(GroupIntegers.named(encoding.name) == encoding)
    let found = try #require(EncodingRegistry.encoding(named: encoding.name))
    #expect(found.name == encoding.name && found is GroupIntegers)
  }

  @Test(arguments: [
    "int9-g32", "int1-g32", "int4-g33", "int4-g8", "int4", "int4-", "int4-g", "int4-g032",
    "int4-g+32",
    "INT4-g32", "int4-G32", "int4-g32-sym-sym", "int4-g32-", "int4-g32-asym", "int4-channels",
    "int04-g32",
    "int4-g32 ", " int4-g32", "int-g32", "int+4-g32", "uint4-g32", "4-g32", "", "-", "int4-g32-SYM",
    "int4-sym", "int٤-g32", "F32", "fp32", "f8", "i64",
  ])
  func otherNamesAreRefused(_ name: String) {
    #expect(EncodingRegistry.encoding(named: name) == nil)
  }

  @Test func examplesOfNames() {
    #expect(GroupIntegers(bits: 4, grouping: .columns(32), isSymmetric: false).name == "int4-g32")
    #expect(
      GroupIntegers(bits: 8, grouping: .channel, isSymmetric: true).name == "int8-channel-sym")
  }

  @Test func bitsPerWeight() {
    let encoding = GroupIntegers(bits: 4, grouping: .columns(32), isSymmetric: false)
    // 4 bits, and 16 + 4 for each 32 of them.
    #expect(encoding.bitsPerWeight(outputs: 10, inputs: 64) == 4 + 20.0 / 32)
    let symmetric = GroupIntegers(bits: 3, grouping: .channel, isSymmetric: true)
    #expect(symmetric.bitsPerWeight(outputs: 7, inputs: 160) == 3 + 16.0 / 160)
  }
}

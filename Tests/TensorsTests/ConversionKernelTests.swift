import CKernels
import Tensors
import TestSupport
import Testing

@Suite struct ConversionKernelTests {
  @Test func everyHalfWidensToItsValue() {
    let patterns = Array(UInt16.min...UInt16.max)
    let found = widen(patterns, as: .float16)
    let wrong = patterns.indices.first { index in
      let expected = Float(Float16(bitPattern: patterns[index]))
      return expected.isNaN
        ? !found[index].isNaN || found[index].sign != expected.sign
        : found[index].bitPattern != expected.bitPattern
    }
    #expect(wrong == nil)
  }

  @Test func everyBfloat16WidensToItsValue() {
    let patterns = Array(UInt16.min...UInt16.max)
    let found = widen(patterns, as: .bfloat16)
    let wrong = patterns.indices.first { found[$0].bitPattern != UInt32(patterns[$0]) << 16 }
    #expect(wrong == nil)
  }

  @Test(arguments: [DType.float16, .bfloat16]) func everyPatternSurvives(_ dtype: DType) {
    let patterns = Array(UInt16.min...UInt16.max)
    let values = widen(patterns, as: dtype)
    let back = narrow(values.span, to: dtype)
    let wrong = patterns.indices.first { index in
      values[index].isNaN
        ? !widen([back[index]], as: dtype)[0].isNaN || back[index] >> 15 != patterns[index] >> 15
        : back[index] != patterns[index]
    }
    #expect(wrong == nil)
  }

  /// Values, the midpoints between them and their neighbours, and random patterns of all kinds.
  static let hardFloats: [Float] = {
    var values: [Float] = []
    for dtype in [DType.float16, .bfloat16] {
      let grid = widen(
        Array(0...(dtype == .float16 ? 0x7C00 : 0x7F80) as ClosedRange<UInt16>), as: dtype)
      for (low, high) in zip(grid, grid.dropFirst()) {
        let middle = high.isFinite ? low + (high - low) / 2 : low + (low - low.nextDown) / 2
        for value in [low, low.nextUp, middle.nextDown, middle, middle.nextUp] {
          values += [value, -value]
        }
      }
    }
    var stream = RandomStream(test: "hard floats")
    values += (0..<200_000).map { _ in Float(bitPattern: UInt32(truncatingIfNeeded: stream.next()))
    }
    values += [65504, 65519.996, 65520, 65536, .greatestFiniteMagnitude, .infinity, -.infinity]
    return values
  }()

  @Test func floatsRoundToHalvesAsInSwift() {
    let values = Self.hardFloats
    let found = narrow(values.span, to: .float16)
    let wrong = values.indices.first { index in
      let expected = Float16(values[index])
      return expected.isNaN
        ? !Float16(bitPattern: found[index]).isNaN : found[index] != expected.bitPattern
    }
    #expect(wrong == nil, "\(wrong.map { (values[$0], found[$0]) } as Any)")
  }

  /// The nearer of the two neighbours, by their distances in Double; of two equally near, the even one.
  static func nearestBfloat16(_ value: Float) -> UInt16 {
    let down = UInt16(value.bitPattern >> 16)
    guard value.bitPattern & 0xFFFF != 0 else { return down }
    let low = Double(Float(bitPattern: UInt32(down) << 16))
    let next = Float(bitPattern: UInt32(down + 1) << 16)
    let high = next.isFinite ? Double(next) : (value < 0 ? -0x1p128 : 0x1p128)
    let toLow = abs(Double(value) - low), toHigh = abs(high - Double(value))
    if toLow == toHigh { return down & 1 == 0 ? down : down + 1 }
    return toLow < toHigh ? down : down + 1
  }

  @Test func floatsRoundToBfloat16ByDistance() {
    let values = Self.hardFloats
    let found = narrow(values.span, to: .bfloat16)
    let wrong = values.indices.first { index in
      values[index].isNaN
        ? !widen([found[index]], as: .bfloat16)[0].isNaN
        : found[index] != Self.nearestBfloat16(values[index])
    }
    #expect(wrong == nil, "\(wrong.map { (values[$0], found[$0]) } as Any)")
  }

  /// Lengths, starts between elements (as in a mapped file), and nothing written outside.
  @Test(arguments: kernelLengths) func lengthsAndStarts(_ count: Int) throws {
    var stream = RandomStream(test: "conversions")
    let floats = stream.floats(count, deviation: 100)
    let doubles = floats.map { Double($0) * 1.000_000_1 }
    let halves = narrow(floats.span, to: .float16)
    for shift in [0, 1, 2, 5] {
      let stored = UnsafeMutableRawPointer.allocate(byteCount: count * 8 + 16, alignment: 64)
      defer { stored.deallocate() }
      let start = stored + shift
      let target = UnsafeMutableRawBufferPointer(start: start, count: count * 8)
      halves.withUnsafeBytes { target.copyMemory(from: $0) }
      let patterns = start.assumingMemoryBound(to: UInt16.self)
      #expect(
        try written(count, offset: shift, canary: -1) { kernel_f16_to_f32(patterns, $0, count) }
          == halves.map { Float(Float16(bitPattern: $0)) })
      #expect(
        try written(count, offset: shift, canary: -1) { kernel_bf16_to_f32(patterns, $0, count) }
          .map(\.bitPattern) == halves.map { UInt32($0) << 16 })
      doubles.withUnsafeBytes { target.copyMemory(from: $0) }
      let wide = start.assumingMemoryBound(to: Double.self)
      #expect(
        try written(count, offset: shift, canary: -1) { kernel_f64_to_f32(wide, $0, count) }
          == doubles.map { Float($0) })
      floats.withUnsafeBytes { target.copyMemory(from: $0) }
      let narrowed = start.assumingMemoryBound(to: Float.self)
      #expect(
        try written(count, offset: shift, canary: 7) { kernel_f32_to_f16(narrowed, $0, count) }
          == floats.map { Float16($0).bitPattern })
      #expect(
        try written(count, offset: shift, canary: 7) { kernel_f32_to_bf16(narrowed, $0, count) }
          == floats.map { Self.nearestBfloat16($0) })
    }
  }

  @Test(arguments: kernelLengths) func notFiniteValuesAreCounted(_ count: Int) {
    let kinds: [Float] = [
      1, .infinity, -0.0, .nan, .greatestFiniteMagnitude, -.infinity, .leastNonzeroMagnitude,
      .signalingNaN, -.greatestFiniteMagnitude,
    ]
    let values = (0..<count).map { kinds[$0 * 5 % kinds.count] }
    #expect(countNotFinite(values.span) == values.count { !$0.isFinite })
  }
}

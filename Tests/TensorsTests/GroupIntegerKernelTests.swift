import CKernels
import Foundation
import TestSupport
import Tensors
import Testing

@Suite struct GroupIntegerKernelTests {
  /// Two pages, of which the second cannot be read: bytes that end at the first one's end.
  private static func atPageEnd<Result>(
    _ bytes: [UInt8], _ body: (UnsafePointer<UInt8>) throws -> Result
  ) throws -> Result {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let pages = try #require(
      mmap(nil, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    try #require(pages != MAP_FAILED)
    defer { munmap(pages, 2 * page) }
    let start = (pages + page - bytes.count).assumingMemoryBound(to: UInt8.self)
    for (index, byte) in bytes.enumerated() { start[index] = byte }
    try #require(mprotect(pages + page, page, PROT_NONE) == 0)
    return try body(start)
  }

  @Test(arguments: 1...8) func unpackingIsBitByBit(_ bits: Int) throws {
    var stream = RandomStream(test: "unpack")
    for count in kernelLengths {
      let bytes = (0..<(count * bits + 7) / 8).map { _ in UInt8(truncatingIfNeeded: stream.next()) }
      let expected = (0..<count).map { index in
        (0..<bits).reduce(0 as UInt8) { code, bit in
          let position = index * bits + bit
          return code | (bytes[position / 8] >> (position % 8) & 1) << bit
        }
      }
      let found = try Self.atPageEnd(bytes) { source in
        try written(count, offset: count % 3, canary: 0xAA) {
          kernel_unpack_codes(source, bits, $0, count)
        }
      }
      #expect(found == expected, "\(count) codes")
    }
  }

  @Test(arguments: kernelLengths) func decodingIsOneSubtractionAndOneProduct(_ count: Int) throws {
    let codes = (0..<count).map { UInt8($0 * 11 % 256) }
    let found = try written(count, offset: 1, canary: -1) {
      kernel_decode_group(codes, -0.0123, 117, $0, count)
    }
    #expect(found == codes.map { -0.0123 * (Float($0) - 117) })
  }

  /// clamp(round(x / scale + zero), 0, top), halves to even.
  static func code(_ x: Float, _ grid: UniformGrid) -> Float {
    min(max((x * grid.inverse + grid.zero).rounded(.toNearestOrEven), 0), grid.top)
  }

  static let grids = [
    UniformGrid(scale: 1, zero: 8, top: 15), UniformGrid(scale: 0.25, zero: 0, top: 3),
    UniformGrid(scale: -0.5, zero: 128, top: 255), UniformGrid(scale: 0, zero: 7, top: 15),
    UniformGrid(scale: 0x1p-24, zero: 3, top: 7),
  ]

  /// Numbers on, between and beyond the grid's points; every tie is among them.
  static func values(_ count: Int, _ grid: UniformGrid) -> [Float] {
    var stream = RandomStream(test: "grid values")
    let step = grid.scale == 0 ? 1 : grid.scale
    return (0..<count).map { index in
      switch index % 4 {
      case 0: step * (Float(index / 4) - grid.zero + 0.5)
      case 1: step * (Float(index / 4) - grid.zero)
      case 2: Float(stream.normal()) * step * grid.top
      default: [0, -0.0, 1e30, -1e30, 1e-30, .greatestFiniteMagnitude][index / 4 % 6]
      }
    }
  }

  @Test(arguments: kernelLengths) func roundingAColumn(_ count: Int) throws {
    for grid in Self.grids {
      let x = Self.values(count, grid)
      var points = [Float](repeating: -1, count: count)
      var codes = [UInt8](repeating: 99, count: count)
      var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
      roundColumn(
        x.span, scales: [Float](repeating: grid.scale, count: count).span,
        inverses: [Float](repeating: grid.inverse, count: count).span,
        zeros: [Float](repeating: grid.zero, count: count).span, top: grid.top,
        quantized: &pointSpan, codes: &codeSpan)
      #expect(codes == x.map { UInt8(Self.code($0, grid)) })
      #expect(points == x.map { grid.scale * (Self.code($0, grid) - grid.zero) })
    }
  }

  @Test func tiesGoToEvenCodes() {
    let x: [Float] = [-0.5, 0.5, 1.5, 2.5, 3.5, 254.5, 255.5]
    let ones = [Float](repeating: 1, count: x.count), zeros = [Float](repeating: 0, count: x.count)
    var points = zeros
    var codes = [UInt8](repeating: 0, count: x.count)
    var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
    roundColumn(
      x.span, scales: ones.span, inverses: ones.span, zeros: zeros.span, top: 255,
      quantized: &pointSpan, codes: &codeSpan)
    #expect(codes == [0, 0, 2, 2, 4, 254, 255])
  }

  /// Eight lanes, each summed in order: the same bits as the definition.
  @Test(arguments: kernelLengths) func gridErrors(_ count: Int) {
    var stream = RandomStream(test: "weights")
    for grid in Self.grids {
      let x = Self.values(count, grid).map { min(max($0, -1e10), 1e10) }
      let weights = stream.floats(count).map { abs($0) }
      let terms = x.indices.map { index -> Float in
        let error = x[index] - grid.scale * (Self.code(x[index], grid) - grid.zero)
        return weights[index] * (error * error)
      }
      let found = grid.error(of: x.span, weights: weights.span)
      let sum = terms.reduce(0) { $0 + Double($1) }
      #expect(abs(Double(found) - sum) <= Double(count / 8 + 4) * roundoff * sum)
      let lanes = (0..<8).map { lane in
        stride(from: lane, to: count, by: 8).reduce(0 as Float) { $0 + terms[$1] }
      }
      #expect(
        found == ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6]))
          + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])))
    }
  }
}

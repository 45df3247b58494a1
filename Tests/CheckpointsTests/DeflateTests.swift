import TestSupport
import Tensors
import Testing

@testable import Checkpoints

@Suite struct DeflateTests {
  @Test func streamsAreReadBack() {
    var stream = RandomStream(test: "deflate")
    for count in [0, 1, 2, 100, 70_000] {
      let noise = (0..<count).map { _ in UInt8(truncatingIfNeeded: stream.next()) }
      for bytes in [noise, [UInt8](repeating: 7, count: count)] {
        let deflated = Deflate.deflate(bytes)
        #expect(Deflate.inflate(deflated, byteCount: count) == bytes)
        #expect(Deflate.inflate(deflated, byteCount: count + 1) == nil)
        if count > 0 { #expect(Deflate.inflate(deflated, byteCount: count - 1) == nil) }
        #expect(Deflate.inflate(Array(deflated.dropLast()), byteCount: count) == nil)
      }
    }
  }

  @Test func damagedStreams() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 / 3) }
    let deflated = Deflate.deflate(bytes)
    for position in deflated.indices {
      for bit in 0..<8 {
        var damaged = deflated
        damaged[position] ^= 1 << bit
        let inflated = Deflate.inflate(damaged, byteCount: 1000)
        #expect(inflated == nil || inflated == bytes, "byte \(position)")
      }
    }
    #expect(Deflate.inflate([], byteCount: 0) == nil)
    #expect(Deflate.inflate([], byteCount: 1) == nil)
    #expect(Deflate.inflate(deflated, byteCount: -1) == nil)
  }

  /// No stream can grow so much: refused before any memory is taken.
  @Test func claimsThatNoStreamCanKeep() {
    let deflated = Deflate.deflate([UInt8](repeating: 0, count: 10_000))
    for claim in [1 << 30, 1 << 50, Int.max] {
      #expect(Deflate.inflate(deflated, byteCount: claim) == nil)
    }
  }
}

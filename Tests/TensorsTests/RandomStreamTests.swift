import Tensors
import Testing

@Suite struct RandomStreamTests {
  /// The first outputs of SplitMix64 from state 0 (Vigna's splitmix64.c); the seed cancels the name's hash.
  @Test func numbersAreSplitMix64() {
    // seed * golden = hash of the empty name, so that the state starts at 0.
    let golden: UInt64 = 0x9E37_79B9_7F4A_7C15
    var inverse: UInt64 = 1
    for _ in 0..<6 { inverse = inverse &* (2 &- golden &* inverse) }
    var stream = RandomStream(seed: 0xCBF2_9CE4_8422_2325 &* inverse, name: "")
    #expect(stream.next() == 0xE220_A839_7B1D_CDAF)
    #expect(stream.next() == 0x6E78_9E6A_A1B9_65F4)
    #expect(stream.next() == 0x06C4_5D18_8009_454F)
  }

  @Test func streamsDifferByNameAndSeed() {
    var a = RandomStream(seed: 1, name: "a"), again = a
    var b = RandomStream(seed: 1, name: "b"), c = RandomStream(seed: 2, name: "a")
    let first = a.next()
    #expect(first == again.next())
    #expect(first != b.next())
    #expect(first != c.next())
  }

  @Test func permutationsHoldEveryIndex() {
    var stream = RandomStream(seed: 3, name: "permutation")
    for count in [0, 1, 2, 100] { #expect(stream.permutation(count).sorted() == Array(0..<count)) }
    #expect(stream.permutation(100) != Array(0..<100))
    #expect((0..<1000).allSatisfy { _ in (0..<7).contains(stream.integer(below: 7)) })
    #expect((0..<1000).allSatisfy { _ in (0..<1).contains(stream.unit()) })
  }
}

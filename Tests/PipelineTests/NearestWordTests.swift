import Testing

@testable import Pipeline

@Suite struct NearestWordTests {
  /// The recursive definition of the restricted Damerau-Levenshtein distance.
  private func oracle(_ a: ArraySlice<Character>, _ b: ArraySlice<Character>) -> Int {
    guard let x = a.last, let y = b.last else { return a.count + b.count }
    let (a1, b1) = (a.dropLast(), b.dropLast())
    var best = min(oracle(a1, b) + 1, oracle(a, b1) + 1, oracle(a1, b1) + (x == y ? 0 : 1))
    if a.count > 1, b.count > 1, a1.last == y, b1.last == x {
      best = min(best, oracle(a1.dropLast(), b1.dropLast()) + 1)
    }
    return best
  }

  @Test func equalsTheDefinition() {
    let words = ["", "a", "ab", "ba", "abc", "acb", "ca", "gate", "gaet", "grid", "gird", "tag"]
    for a in words {
      for b in words {
        #expect(editDistance(a, b) == oracle(Array(a)[...], Array(b)[...]), "\(a) \(b)")
      }
    }
  }

  @Test(
    "the word that was meant",
    arguments: [
      ("calibraton", "calibration"), ("block_size", "block-size"), ("ouptut", "output"),
      ("GATE", "gate"), ("x", nil), ("completely-different", nil), ("", nil),
    ] as [(String, String?)])
  func nearest(_ word: String, _ expected: String?) {
    let known = ["model", "output", "calibration", "validation", "gate", "block-size"]
    #expect(nearestWord(to: word, among: known) == expected)
  }

  @Test func longWordsAreNotCompared() {
    #expect(nearestWord(to: String(repeating: "a", count: 1_000_000), among: ["gate"]) == nil)
  }
}

import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Drift

@Suite struct WordErrorsTests {
  /// The definition, without a table: the cheapest of what the last words can be.
  private func distance(_ a: ArraySlice<String>, _ b: ArraySlice<String>) -> Int {
    guard let x = a.last, let y = b.last else { return a.count + b.count }
    return min(
      distance(a.dropLast(), b.dropLast()) + (x == y ? 0 : 1), distance(a.dropLast(), b) + 1,
      distance(a, b.dropLast()) + 1)
  }

  @Test func distancesEqualTheDefinition() {
    var random = RandomStream(test: "word errors")
    for _ in 0..<300 {
      func words() -> [String] {
        (0..<random.integer(below: 7)).map { _ in ["a", "b", "c"][random.integer(below: 3)] }
      }
      let own = words(), right = words()
      #expect(WordErrors.distance(own, right) == distance(own[...], right[...]), "\(own) \(right)")
    }
  }

  @Test(arguments: [
    ("The cat.", ["the", "cat"]),
    ("  DON'T\tstop — it’s 3.5%!", ["dont", "stop", "its", "3", "5"]),
    ("naïve Straße, 東京。大阪", ["naïve", "straße", "東京", "大阪"]), ("…", []), ("", []),
    ("twenty-one\nx", ["twenty", "one", "x"]),
  ])
  func wordsAreNormalized(_ text: String, _ words: [String]) {
    #expect(WordErrors.words(of: text) == words)
  }

  @Test func ratesCountEditsOverRightWords() {
    let errors = WordErrors("a x c d", against: "A, b, c")
    #expect(errors == WordErrors(edits: 2, words: 3) && errors.rate == 2.0 / 3)
    #expect(WordErrors("", against: "").rate == 0)
    // What is written into silence counts.
    #expect(WordErrors("thank you", against: "").rate == 2)
  }

  /// Rates are of all recordings together; the rise is in pairs.
  @Test func figuresOfRecordings() throws {
    func score(_ own: (Int, Int), _ other: (Int, Int), _ tokens: [(Double, Bool)]) -> RecordingScore
    {
      var score = RecordingScore()
      score.toTranscript = WordErrors(edits: own.0, words: own.1)
      score.referenceToTranscript = WordErrors(edits: other.0, words: other.1)
      score.toReference = WordErrors(edits: 1, words: 4)
      score.tokens = tokens.map { .init(divergence: $0.0, agrees: $0.1) }
      return score
    }
    let drift = SpeechDrift([
      score((1, 2), (0, 2), [(0.5, true)]),
      score((1, 6), (2, 6), [(0.1, true), (0.2, false), (0.3, true)]),
    ])
    #expect(drift.recordings == 2 && drift.tokens == 4)
    #expect(drift.wordErrorRate?.rate == 0.25 && drift.referenceWordErrorRate == 0.25)
    #expect(drift.increase == 0 && drift.toReference?.rate == 0.25)
    #expect(drift.toReference?.interval == 0.25...0.25)
    // Draws of one recording alone are at the ends: rates of 1/2 and 1/6, rises of 1/2 and -1/6.
    #expect(drift.wordErrorRate?.interval == 1.0 / 6...0.5)
    #expect(drift.increaseInterval == 1.0 / 6 - 2.0 / 6...0.5)
    #expect(abs(try #require(drift.divergence?.mean) - 0.275) < 1e-12)
    #expect(drift.divergence?.max == 0.5 && drift.top1 == 0.75)
    #expect(SpeechDrift(json: drift.json) == drift)
    var alone = RecordingScore()
    alone.toTranscript = WordErrors(edits: 1, words: 2)
    let measured = SpeechDrift([alone])
    #expect(measured.tokens == nil && measured.toReference == nil && measured.divergence == nil)
    #expect(measured.wordErrorRate?.rate == 0.5 && measured.increase == nil)
    #expect(SpeechDrift(json: measured.json) == measured)
  }
}

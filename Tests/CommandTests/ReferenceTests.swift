import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Published numbers of the real models, reproduced through the program.
@Suite(.enabled(if: TestData.shared != nil, Comment(rawValue: TestData.sharedHint)))
struct ReferenceTests {
  let shared = TestData.shared ?? ""

  static let cases: [(model: String, text: String, score: String)] = [
    ("lm-6m", "books-test.txt", "all"), ("lm-6m", "books-test.txt", "half"),
    ("lm-29m", "books-test.txt", "all"), ("lm-6m", "wikitext2-valid.txt", "half"),
  ]

  @Test(arguments: cases)
  func perplexityEqualsTransformers(model: String, text: String, score: String) throws {
    let reference = try JSONValue(
      parsing: [UInt8](try Samples.bytes(shared + "/reference/lm.json")))
    let expected = try #require(reference["perplexity"]?[model]?[text]?[score]?.number)
    let result = try Command.run(
      "eval", shared + "/models/" + model, "--text", shared + "/data/" + text, "--score", score,
      "--json")
    #expect(result.status == 0, "\(result.error)")
    let found = try #require(try JSONValue(parsing: result.output)["perplexity"]?.number)
    #expect(abs(found / expected - 1) < 1e-4)
  }
}

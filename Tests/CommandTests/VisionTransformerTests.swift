import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Vision transformers through the program: from pictures to a bundle.
@Suite struct VisionTransformerTests {
  static let folder = TestData.fixtures + "/vision/"

  @Test(arguments: ["vit", "clip", "vit-pytorch.pt"]) func fromPicturesToABundle(
    _ name: String
  ) throws {
    let work = try TemporaryFolder()
    let model = Self.folder + name, array = work.file("p.npy"), bundle = work.file("b.condensed")
    func run(_ arguments: String...) throws -> String {
      let result = try Command.run(arguments)
      #expect(result.status == 0, "\(arguments): \(result.error)")
      return result.output
    }
    // A state dict has no preparation of its own.
    let preparation = name.hasSuffix(".pt") ? Self.folder + "vit" : model
    _ = try run(
      "prepare-images", TestData.fixtures + "/pictures", "--preparation", preparation, "-o", array)
    _ = try run(
      "quantize", model, work.file("q"), "--encoding", "int8-g16", "--method", "gptq",
      "--calibration", array, "--samples", "7", "--quiet")
    _ = try run("pack", work.file("q"), bundle, "--quiet")
    _ = try run("verify", bundle)
    let drift = try JSONValue(
      parsing: Array(
        try run("eval", bundle, "--reference", model, "--images", array, "--json").utf8))
    #expect(drift["samples"]?.integer == 7)
    let error = try #require(drift["output_error"]?.number)
    #expect(error > 0 && error < 1e-3)
  }
}

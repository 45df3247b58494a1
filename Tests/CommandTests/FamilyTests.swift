import Foundation
import TestSupport
import Testing

/// Every kind of model goes the whole way: quantized with calibration, packed, verified, measured.
@Suite struct FamilyTests {
  static func fixture(_ name: String) -> String { TestData.fixtures + "/families/" + name }

  private func json(_ result: Command.Result) throws -> [String: Any] {
    #expect(result.status == 0, "\(result.error)")
    return try #require(
      try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
  }

  @Test(arguments: ["roberta-max", "xlm-roberta-dense", "distilbert-mean"])
  func textEncoders(_ name: String) throws {
    let folder = try TemporaryFolder()
    let source = Self.fixture(name), text = folder.file("text"), bundle = folder.file("b.condensed")
    try Samples.excerpt(of: Samples.calibration, bytes: 6000, to: text)
    let quantized = try json(
      try Command.run(
        "quantize", source, folder.file("q"), "--encoding", "int8-g32", "--method", "gptq",
        "--calibration", text, "--json"))
    #expect((quantized["layers"] as? [Any])?.count == 12)
    let packed = try Command.run("pack", folder.file("q"), bundle, "--quiet")
    #expect(packed.status == 0, "\(packed.error)")
    let verified = try Command.run("verify", bundle)
    #expect(verified.status == 0, "\(verified.error)")
    let drift = try json(
      try Command.run("eval", bundle, "--reference", source, "--text", text, "--json"))
    let cosine = try #require((drift["cosine"] as? [String: Any])?["mean"] as? Double)
    #expect(cosine > 0.999 && cosine < 1)
    let overlap = try #require((drift["neighbours"] as? [String: Any])?["mean"] as? Double)
    #expect(overlap > 0.7 && overlap <= 1)
    // The floats again: what the bundle keeps beside the codes is the source's.
    let whole = folder.file("whole.condensed")
    let plain = try Command.run("pack", source, whole, "--quiet")
    #expect(plain.status == 0, "\(plain.error)")
    let same = try json(
      try Command.run("eval", whole, "--reference", source, "--text", text, "--json"))
    #expect((same["neighbours"] as? [String: Any])?["mean"] as? Double == 1)
  }

  /// Layers and channels of an encoder whose configuration has names of its own for them.
  @Test func distilBertIsCut() throws {
    let folder = try TemporaryFolder(), text = folder.file("text")
    try Samples.excerpt(of: Samples.calibration, bytes: 6000, to: text)
    let cut = try Command.run(
      "prune", Self.fixture("distilbert-mean"), folder.file("cut"), "--layers", "0.5", "--ffn",
      "0.5", "--calibration", text, "--quiet")
    #expect(cut.status == 0, "\(cut.error)")
    let configuration = try #require(
      try JSONSerialization.jsonObject(with: Samples.bytes(folder.file("cut") + "/config.json"))
        as? [String: Any])
    #expect(configuration["n_layers"] as? Int == 1 && configuration["hidden_dim"] as? Int == 20)
  }
}

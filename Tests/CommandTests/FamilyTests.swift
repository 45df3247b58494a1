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

  /// A decoder's fixture with a tokenizer of single characters, and a text for it.
  private func decoder(_ name: String, in folder: TemporaryFolder) throws -> String {
    let path = folder.file(name)
    try Samples.copy(Self.fixture(name), to: path)
    let characters =
      ["?"] + "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,;-".map(String.init)
    let vocabulary = characters.enumerated().map { "\"\($1)\": \($0)" }.joined(separator: ", ")
    let tokenizer =
      #"{"model": {"type": "BPE", "unk_token": "?", "merges": [], "vocab": {"# + vocabulary + "}}}"
    try tokenizer.write(toFile: path + "/tokenizer.json", atomically: true, encoding: .utf8)
    try Samples.excerpt(of: Samples.calibration, bytes: 12_000, to: folder.file("text"))
    return path
  }

  @Test(arguments: ["gpt2", "gemma2", "gemma3", "phi3", "mixtral", "qwen2-moe", "qwen3-moe"])
  func decoders(_ name: String) throws {
    let folder = try TemporaryFolder()
    let source = try decoder(name, in: folder), text = folder.file("text")
    let bundle = folder.file("b.condensed"), context = ["--context", "32"]
    let quantized = try json(
      try Command.run(
        [
          "quantize", source, folder.file("q"), "--encoding", "int8-g16", "--method", "gptq",
          "--calibration", text, "--tokens", "2048", "--json",
        ] + context))
    let layers = try #require(quantized["layers"] as? [[String: Any]])
    #expect(layers.allSatisfy { $0["relative_output_error"] as? Double ?? 1 < 0.01 })
    let experts = layers.filter { ($0["tensor"] as? String)?.contains("experts.") == true }
    #expect(experts.allSatisfy { $0["tokens"] as? Int ?? 0 >= 64 })
    #expect(experts.isEmpty != (name.contains("moe") || name == "mixtral"))
    if name == "mixtral" {
      // Two of four experts for every token of a layer.
      let first = experts.filter { ($0["tensor"] as? String)?.contains("layers.0.") == true }
      let gates = first.filter { ($0["tensor"] as? String)?.hasSuffix("w1.weight") == true }
      #expect(gates.reduce(0) { $0 + ($1["tokens"] as? Int ?? 0) } == 2 * 2048)
    }
    let packed = try Command.run("pack", folder.file("q"), bundle, "--quiet")
    #expect(packed.status == 0, "\(packed.error)")
    let verified = try Command.run("verify", bundle)
    #expect(verified.status == 0, "\(verified.error)")
    let drift = try json(
      try Command.run(
        ["eval", bundle, "--reference", source, "--text", text, "--json"] + context))
    let kl = try #require((drift["kl"] as? [String: Any])?["mean"] as? Double)
    #expect(kl > 0 && kl < 0.01)
    let pruned = try Command.run(
      [
        "prune", source, folder.file("p"), "--method", "wanda", "--sparsity", "0.5",
        "--calibration", text, "--tokens", "2048", "--quiet",
      ] + context)
    #expect(pruned.status == 0, "\(pruned.error)")
    let written = try Command.run(
      "generate", bundle, "--prompt", "The end", "--tokens", "12", "--quiet")
    #expect(written.status == 0, "\(written.error)")
  }

  /// GPT-2's floats come back as other programs store them, through an encoding too.
  @Test func gpt2KeepsItsOrder() throws {
    let folder = try TemporaryFolder()
    let source = try decoder("gpt2", in: folder)
    for (from, to, options) in [
      (source, "plain", ["--decode"]), (folder.file("q"), "decoded", ["--decode"]),
    ] {
      if to == "decoded" {
        let coded = try Command.run(
          "quantize", source, from, "--encoding", "int8-g16", "--method", "rtn", "--quiet")
        #expect(coded.status == 0, "\(coded.error)")
      }
      let packed = try Command.run(
        ["pack", from, folder.file(to), "--format", "safetensors", "--quiet"] + options)
      #expect(packed.status == 0, "\(packed.error)")
    }
    let same = try Command.run("diff", source, folder.file("plain"))
    #expect(same.status == 0, "\(same.output) \(same.error)")
    let near = try json(
      try Command.run(
        "eval", folder.file("decoded"), "--reference", source, "--text", folder.file("text"),
        "--context", "32", "--json"))
    let kl = try #require((near["kl"] as? [String: Any])?["mean"] as? Double)
    #expect(kl > 0 && kl < 0.01)
    // Trained floats have the stored order too: the folder is read back before it gets its name.
    let trained = try Command.run(
      "distill", source, folder.file("trained"), "--text", folder.file("text"), "--targets", "text",
      "--batch", "2", "--context", "32", "--tokens", "2048", "--quiet")
    #expect(trained.status == 0, "\(trained.error)")
  }

  /// Experts that calibration hardly reaches are fallbacks, and a window longer than the positions is an error.
  @Test func limitsAreSaid() throws {
    let folder = try TemporaryFolder()
    let source = try decoder("mixtral", in: folder), text = folder.file("text")
    let starved = try Command.run(
      "quantize", source, folder.file("q"), "--encoding", "int8-g16", "--method", "gptq",
      "--calibration", text, "--tokens", "64", "--context", "32")
    #expect(starved.status == 1 && starved.error.contains("fallbacks"), "\(starved.error)")
    let gpt2 = try decoder("gpt2", in: folder)
    let long = try Command.run("eval", gpt2, "--text", text, "--context", "65")
    #expect(long.status == 65 && long.error.contains("64 positions"), "\(long.error)")
  }
}

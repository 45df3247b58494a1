import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Networks over pictures through the program, from another program's file to labels.
@Suite struct ImageTests {
  static let folder = TestData.fixtures + "/images/"
  static let pictures = folder + "pictures.npy", labels = folder + "labels.npy"
  static let model = folder + "residual-a.th"
  let work: TemporaryFolder

  init() throws { work = try TemporaryFolder() }

  private func json(_ arguments: String...) throws -> JSONValue {
    let result = try Command.run(arguments)
    #expect(result.status == 0, "\(arguments): \(result.error)")
    return try JSONValue(parsing: result.output)
  }

  @Test func aNetworkIsMeasuredAndRecognized() throws {
    let drift = try json(
      "eval", Self.model, "--images", Self.pictures, "--labels", Self.labels, "--reference",
      Self.model, "--json")
    #expect(drift["samples"]?.integer == 8 && drift["accuracy"]?.number == 0.875)
    #expect(drift["label_agreement"]?.number == 1 && drift["kl"]?["max"]?.number == 0)
    #expect(drift["output_error"]?.number == 0)
    #expect(try json("inspect", Self.model, "--json")["architecture"]?.string == "resnet-cifar")
  }

  /// The chain: quantize, pack, verify, measure; what is written keeps the tensor's own shapes.
  @Test(arguments: ["gptq", "awq", "smoothquant", "qronos"])
  func methodsWorkOnWindows(_ method: String) throws {
    let output = work.file("q"), bundle = work.file("q.condensed")
    var arguments = [
      "quantize", Self.model, output, "--method", method, "--calibration", Self.pictures,
      "--samples", "6", "--json", "--quiet",
    ]
    arguments += ["--encoding", method == "smoothquant" ? "w8a8" : "int8-g32"]
    let result = try Command.run(arguments)
    #expect(result.status == 0, "\(result.error)")
    let done = try JSONValue(parsing: result.output)
    #expect(done["calibration"]?["samples_used"]?.integer == 6)
    #expect(done["layers"]?.array?.count == 8)
    #expect(try Command.run("pack", output, bundle).status == 0)
    #expect(try Command.run("verify", bundle).status == 0)
    let drift = try json(
      "eval", bundle, "--images", Self.pictures, "--labels", Self.labels, "--reference",
      Self.model, "--json")
    #expect(try #require(drift["output_error"]?.number) < 0.01)
    #expect(try #require(drift["output_error"]?.number) > 0)
    let shapes = try json("inspect", bundle, "--json")["tensors"]?.array ?? []
    let first = try #require(shapes.first { $0["name"]?.string == "conv1.weight" })
    #expect(first["shape"]?.array?.compactMap(\.integer) == [4, 3, 3, 3])
    // Dense again, in the order of the original.
    let dense = work.file("dense.safetensors")
    #expect(try Command.run("convert", output, dense, "--quiet").status == 0)
    let difference = try json("diff", output, dense, "--json")
    #expect(difference["different"]?.array?.isEmpty == true)
  }

  @Test func pruningTakesWindowsAsRows() throws {
    let output = work.file("p")
    let result = try Command.run([
      "prune", Self.model, output, "--method", "sparsegpt", "--sparsity", "0.5", "--calibration",
      Self.pictures, "--quiet",
    ])
    #expect(result.status == 0, "\(result.error)")
    let drift = try json(
      "eval", output, "--images", Self.pictures, "--reference", Self.model, "--json")
    #expect(try #require(drift["output_error"]?.number) < 1)
  }

  @Test func whatDoesNotFitIsRefused() throws {
    func refuses(_ arguments: [String], _ status: Int32, _ part: String) throws {
      let result = try Command.run(arguments)
      #expect(result.status == status, "\(arguments): \(result.error)")
      #expect(result.error.contains(part), "\(result.error)")
    }
    try refuses(["eval", Self.model, "--images", Self.labels], 65, "32 x 32 x 3")
    try refuses(
      ["eval", Self.model, "--images", Self.pictures, "--labels", Self.pictures], 65,
      "the configuration says [8]")
    try refuses(["eval", Self.model, "--labels", Self.labels], 64, "--images")
    try refuses(["eval", Self.model, "--text", Samples.calibration], 65, "calibration")
    try refuses(["eval", Samples.quickstart, "--images", Self.pictures], 65, "UTF-8")
    try refuses(["eval", Self.model, "--images", work.file("nothing.npy")], 66, "nothing.npy")
    try refuses(["generate", Self.model, "--prompt", "x"], 65, "tokenizer")
    try refuses(
      [
        "quantize", Self.model, work.file("q"), "--encoding", "int4-g32", "--method", "gptq",
        "--calibration", "self",
      ], 65, "writes its own samples")
  }

  /// The published networks reach the accuracy that PyTorch reaches with them, sample for sample.
  @Test(
    .enabled(if: TestData.shared != nil, "\(TestData.sharedHint)"),
    arguments: [
      ("resnet20-12fca82f.th", 0.8103333333333333), ("resnet56-4bfd9763.th", 0.8293333333333334),
    ])
  func publishedNetworksReachTheirAccuracy(_ name: String, _ accuracy: Double) throws {
    let shared = try #require(TestData.shared)
    let drift = try json(
      "eval", shared + "/models/resnet-cifar10/" + name, "--images",
      shared + "/data/cifar10-test-images.npy", "--labels",
      shared + "/data/cifar10-test-labels.npy",
      "--json")
    #expect(drift["accuracy"]?.number == accuracy)
  }
}

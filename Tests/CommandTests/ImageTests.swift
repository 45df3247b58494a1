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

  /// A smaller network learns from a log what the whole one says of each view; recipes take the same stages.
  @Test func filtersGoAndALogBringsThemBack() throws {
    let small = work.file("small"), log = work.file("log.h5"), output = work.file("out")
    let cut = try json(
      "prune", Self.model, small, "--filters", "0.5", "--importance", "order", "--no-repair",
      "--json", "--quiet")
    let parameters = cut["filters"]?["parameters"]?.array?.compactMap(\.integer) ?? []
    #expect(parameters.count == 2 && parameters[1] < parameters[0])
    let logged = try json(
      "teacher-log", Self.model, log, "--images", Self.pictures, "--augment", "flip,shift=2",
      "--views", "6", "--json", "--quiet")
    #expect(logged["rows"]?.integer == 48)
    #expect(try json("inspect", log, "--json")["format"]?.string == "teacher log of samples")
    let arguments = [
      "distill", small, output, "--logs", log, "--images", Self.pictures, "--labels", Self.labels,
      "--epochs", "20", "--learning-rate", "0.003", "--batch", "2", "--validation-windows", "2",
      "--validations", "3", "--quiet",
      "--json",
    ]
    let result = try Command.run(arguments)
    #expect(result.status == 0, "\(result.error)")
    let training = try #require(try JSONValue(parsing: result.output)["training"])
    #expect(training["tokens"]?.integer == 120)
    #expect(training["best"]?["accuracy"]?.number != nil)
    func error(_ model: String) throws -> Double {
      try #require(
        try json("eval", model, "--images", Self.pictures, "--reference", Self.model, "--json")[
          "output_error"]?.number)
    }
    #expect(try error(output) < error(small))
    #expect(try Command.run("pack", output, work.file("b.condensed")).status == 0)
    #expect(try Command.run("verify", work.file("b.condensed")).status == 0)
    // One thread gives the same bytes.
    let again = try Command.run(
      arguments.map { $0 == output ? work.file("again") : $0 } + ["--threads", "1"])
    #expect(again.status == 0, "\(again.error)")
    #expect(
      try Data(contentsOf: URL(filePath: output + "/model.safetensors"))
        == Data(contentsOf: URL(filePath: work.file("again") + "/model.safetensors")))
    // The same through a recipe, planned to the byte.
    let recipe = work.file("r.yaml")
    try """
    condense: 1
    model: \(Self.model)
    output: \(work.file("recipe"))
    calibration:
      images: [\(Self.pictures)]
    validation:
      images: [\(Self.pictures)]
      labels: \(Self.labels)
    stages:
      - prune:
          filters: 0.5
          importance: order
          repair: false
      - distill:
          logs: [\(log)]
          images: [\(Self.pictures)]
          epochs: 20
          learning-rate: 0.003
          batch: 2
          validation-windows: 2
          validations: 3
      - quantize:
          method: gptq
          encoding: int8-g32
      - pack: {}
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    let run = try Command.run("run", recipe, "--quiet", "--cache", work.file("cache"))
    #expect(run.status == 0, "\(run.error)")
  }

  /// What plan says of a file without a configuration of its own is what comes, to the byte.
  @Test(arguments: ["residual-a.th", "keras-graph.h5"]) func plansAreExact(_ name: String) throws {
    let recipe = work.file("exact.yaml"), output = work.file("exact")
    try """
    condense: 1
    model: \(Self.folder)\(name)
    output: \(output)
    stages:
      - quantize: {method: rtn, encoding: int8-g32}
      - quantize: {name: again, method: rtn, encoding: int4-g32}
      - pack: {}
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    let planned = try json("plan", recipe, "--json")["stages"]?.array?.last?["bytes"]?.integer
    let run = try Command.run("run", recipe, "--quiet", "--cache", work.file("exact cache"))
    #expect(run.status == 0, "\(run.error)")
    let bundle = try Data(contentsOf: URL(filePath: output + "/\(name).condensed"))
    #expect(planned == bundle.count)
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
      ["prune", Self.model, work.file("p"), "--filters", "1.5", "--no-repair"], 64, "filters: 1.5")
    try refuses(
      ["prune", Self.model, work.file("p"), "--heads", "0.5", "--calibration", Self.pictures], 65,
      "--filters")
    try refuses(
      ["teacher-log", Self.model, work.file("l.h5"), "--images", Self.pictures, "--views", "3"], 64,
      "--augment")
    try refuses(
      [
        "distill", Self.model, work.file("d"), "--images", Self.pictures, "--augment", "turn",
        "--teacher", Self.model,
      ], 64, "--augment is 'turn'")
    try refuses(
      ["distill", Self.model, work.file("d"), "--images", Self.pictures], 64, "needs labels")
    try refuses(
      [
        "distill", Self.model, work.file("d"), "--images", Self.pictures, "--labels", Self.labels,
        "--label-weight", "1", "--teacher", Self.model, "--augment", "mix",
      ], 64, "no label")
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

import Calibration
import Checkpoints
import Encodings
import JSONDocuments
import Networks
import Quantization
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// A model in an equivalent form computes what it did, before anything is quantized.
@Suite struct TransformTests {
  static let decoders = ["llama", "llama-tied", "llama-head-dim", "mistral", "qwen2", "qwen3"]
  static let encoders = ["bert-mean", "bert-cls"]

  static func checkpoint(_ name: String) throws -> CheckpointFolder {
    try CheckpointFolder(path: TestData.fixtures + "/families/" + name)
  }

  /// Logits of a decoder, embeddings of an encoder.
  static func outputs(_ checkpoint: any Checkpoint) throws -> Matrix {
    let network = try #require(
      try FamilyRegistry.network(of: checkpoint) as? any TokenNetwork)
    let batch = TokenBatch([
      (0..<24).map { Int32(($0 * 7 + 3) % network.vocabularySize) },
      (0..<9).map { Int32(($0 * 5 + 1) % network.vocabularySize) },
    ])
    let hidden = network.hidden(batch)
    if let model = network as? any LanguageModel { return model.logits(hidden) }
    return try #require(network as? any TextEncoder).pool(hidden, batch)
  }

  static func set(_ checkpoint: any Checkpoint) throws -> CalibrationSet {
    let network = try #require(
      try FamilyRegistry.network(of: checkpoint) as? any TokenNetwork)
    var stream = RandomStream(seed: 3, name: "transform tests")
    return CalibrationSet(
      sequences: (0..<8).map { _ in
        (0..<16).map { _ in Int32(stream.integer(below: network.vocabularySize)) }
      }, tokensAsked: 128)
  }

  static func expectEqual(_ found: Matrix, _ expected: Matrix) {
    var worst: Float = 0, largest: Float = 0
    for (a, b) in zip(found.values, expected.values) {
      worst = max(worst, abs(a - b))
      largest = max(largest, abs(b))
    }
    #expect(worst < 1e-4 * max(1, largest), "\(worst) of \(largest)")
  }

  /// The transformed checkpoint of a request, and the names of the tensors that differ from the source's.
  static func transform(
    _ source: CheckpointFolder, _ request: QuantizeRequest
  ) throws -> (result: any Checkpoint, changed: Set<String>) {
    let stage = QuantizeRun(input: source, request: request)
    let assignment = try stage.assignment()
    let result = try ModelTransform(input: source, request: request) { _, _ in }.run(
      assignment, set: request.calibration == nil ? nil : try set(source))
    let planned = try stage.planned()
    var changed: Set<String> = []
    #expect(planned.tensorNames == result.tensorNames)
    #expect(planned.configuration == result.configuration)
    for name in result.tensorNames {
      let tensor = try #require(result.tensor(name)), type = try #require(planned.tensorType(name))
      // Weights that will be encoded have a type of their own until then.
      if case .encode = assignment[name]?.target {} else { #expect(tensor.dtype == type.dtype) }
      #expect(tensor.shape == type.shape)
      if source.tensor(name)?.floats() != tensor.floats() { changed.insert(name) }
    }
    return (result, changed)
  }

  static func request(
    _ method: QuantizationMethod, _ rules: [String], calibrated: Bool = true
  ) throws -> QuantizeRequest {
    QuantizeRequest(
      method: method, rules: try rules.map { try EncodingRule($0) },
      calibration: calibrated
        ? CalibrationRequest(text: [], tokens: 128, context: 16, seed: 0) : nil)
  }

  @Test(
    arguments: decoders + encoders, [QuantizationMethod.awq, QuantizationMethod.smoothquant]
  ) func scalesLeaveTheModelAsItIs(_ name: String, _ method: QuantizationMethod) throws {
    let source = try Self.checkpoint(name)
    let (result, changed) = try Self.transform(
      source, Self.request(method, [method == .awq ? "int3-channel" : "w8a8"]))
    Self.expectEqual(try Self.outputs(result), try Self.outputs(source))
    // Every group that can be is scaled, and nothing else is touched.
    let isEncoder = Self.encoders.contains(name)
    #expect(changed.contains { $0.contains(isEncoder ? "self.value.weight" : "input_layernorm") })
    #expect(changed.contains { $0.contains(isEncoder ? "output.dense" : "down_proj") })
    #expect(!changed.contains { $0.contains("embed") || $0.contains("lm_head") })
  }

  /// A group of which nothing is encoded stays, but for its norm's type.
  @Test func whatIsCopiedIsNotScaled() throws {
    let source = try Self.checkpoint("llama")
    let (_, changed) = try Self.transform(
      source, Self.request(.awq, ["*.down_proj=int3-channel", "*.up_proj=copy"]))
    #expect(!changed.isEmpty)
    #expect(changed.allSatisfy { $0.contains("up_proj") || $0.contains("down_proj") })
  }

  @Test(arguments: decoders, [Rotation.all, Rotation.heads])
  func rotationsLeaveTheModelAsItIs(_ name: String, _ rotation: Rotation) throws {
    let source = try Self.checkpoint(name)
    var request = try Self.request(.rtn, ["int4-channel"], calibrated: false)
    request.rotation = rotation
    request.rotationSeed = 5
    let (result, changed) = try Self.transform(source, request)
    Self.expectEqual(try Self.outputs(result), try Self.outputs(source))
    #expect(changed.contains { $0.contains("v_proj.weight") })
    #expect(changed.contains { $0.contains("q_proj") } == (rotation == .all))
    #expect(changed.contains { $0.contains("embed_tokens") } == (rotation == .all))
    let wasTied = try #require(try FamilyRegistry.network(of: source) as? any LanguageModel).isTied
    let model = try #require(try FamilyRegistry.network(of: result) as? any LanguageModel)
    #expect(model.isTied == (wasTied && rotation == .heads))
    request.rotationSeed = 6
    let (other, _) = try Self.transform(source, request)
    let weight = "model.layers.0.self_attn.v_proj.weight"
    #expect(other.tensor(weight)?.floats() != result.tensor(weight)?.floats())
  }

  @Test(arguments: encoders) func encodersRotateTheirHeadsAlone(_ name: String) throws {
    let source = try Self.checkpoint(name)
    var request = try Self.request(.rtn, ["int4-channel"], calibrated: false)
    request.rotation = .heads
    let (result, changed) = try Self.transform(source, request)
    Self.expectEqual(try Self.outputs(result), try Self.outputs(source))
    #expect(
      changed.allSatisfy {
        $0.contains("self.value") || $0.hasSuffix("attention.output.dense.weight")
      })
    request.rotation = .all
    #expect(throws: CheckpointError.self) { try Self.transform(source, request) }
  }

  /// Rotations and scales, one after the other.
  @Test func scalesAfterRotations() throws {
    let source = try Self.checkpoint("llama-tied")
    var request = try Self.request(.awq, ["int3-channel"])
    request.rotation = .all
    let (result, _) = try Self.transform(source, request)
    Self.expectEqual(try Self.outputs(result), try Self.outputs(source))
  }

  /// The folder that the stage writes has the planned size and computes nearly the same, whatever type it was in.
  @Test(arguments: ["llama-tied", "llama-bf16", "qwen2"]) func theFolderIsComplete(_ name: String)
    throws
  {
    let folder = try TemporaryFolder()
    let source = try Self.checkpoint(name)
    var request = try Self.request(.rtn, ["int8-channel"], calibrated: false)
    request.rotation = .all
    let stage = QuantizeRun(input: source, request: request)
    let plan = FolderPlan(
      source: try stage.planned(), assignment: try stage.assignment(), request: request)
    let result = try stage.run(output: folder.file("out"))
    let weights = try FilePath.read(folder.file("out") + "/" + CheckpointFolder.weightsName)
    #expect(weights.count == plan.layout.byteCount)
    let wasTied = try #require(try FamilyRegistry.network(of: source) as? any LanguageModel).isTied
    #expect((result.untiedBytes != nil) == wasTied)
    let found = try Self.outputs(try CheckpointFolder(path: folder.file("out")))
    let expected = try Self.outputs(source)
    let difference = zip(found.values, expected.values).reduce(0.0) {
      $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1))
    }
    let energy = expected.values.reduce(0.0) { $0 + Double($1 * $1) }
    #expect(difference < 1e-3 * energy, "\(difference) of \(energy)")
  }
}

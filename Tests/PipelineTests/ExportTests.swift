import Bundles
import Checkpoints
import CondenseInference
import Encodings
import JSONDocuments
import Networks
import Quantization
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// Every output is read back and compared with its source.
@Suite struct ExportTests {
  static func family(_ name: String) -> String { TestData.fixtures + "/families/" + name }

  static func logits(_ checkpoint: any Checkpoint) throws -> [Float] {
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any LanguageModel)
    let ids = (0..<24).map { Int32(($0 * 7 + 3) % model.vocabularySize) }
    return model.logits(model.hidden(TokenBatch([ids]))).values
  }

  private func export(
    _ source: any Checkpoint, _ format: any ExportFormat.Type, to path: String,
    _ options: ExportOptions = ExportOptions()
  ) throws -> ExportReport {
    try format.write(source, to: path, options: options, lineage: .null)
  }

  /// Weights and activations of eight bits keep both in compressed-tensors; GGUF has no place for the second.
  @Test func roundedActivationsAreExported() throws {
    let folder = try TemporaryFolder()
    let source = try CheckpointFolder(path: Self.family("llama"))
    var rules = [try EncodingRule("w8a8")]
    rules.append(try EncodingRule("*.down_proj=int4-channel"))
    _ = try QuantizeRun(
      input: source, request: QuantizeRequest(method: .rtn, rules: rules, calibration: nil)
    ).run(output: folder.file("q"))
    let quantized = try CheckpointFolder(path: folder.file("q"))
    _ = try export(quantized, CompressedTensorsExport.self, to: folder.file("ct"))
    let json = try CheckpointFolder.json(at: folder.file("ct") + "/config.json")
    let groups = try #require(json["quantization_config"]?["config_groups"]?.object?.members)
    let inputs = groups.map { $0.value["input_activations"] ?? .null }
    #expect(inputs.count == 2 && inputs.count { $0.isNull } == 1)
    #expect(
      inputs.contains { $0["strategy"]?.string == "token" && $0["dynamic"]?.bool == true })
    let back = try CompressedTensorsCheckpoint(try CheckpointFolder(path: folder.file("ct")))
    #expect(Set(back.manifest.entries.map(\.encoding.name)) == ["w8a8", "int4-channel"])
    #expect(try Self.logits(back) == Self.logits(quantized))
    #expect(throws: ExportError.self) {
      try export(quantized, GGUFExport.self, to: folder.file("m.gguf"))
    }
  }

  /// Every decoder that GGUF can hold gives the same logits from it, bit for bit.
  @Test(
    arguments: [
      "llama", "llama-tied", "llama-head-dim", "llama-rope-llama3", "llama-rope-llama3-v4",
      "llama-rope-linear", "llama-rope-yarn", "llama-sharded", "smollm", "mistral", "qwen2",
      "qwen3",
    ]
  ) func ggufRunsTheSame(_ name: String) throws {
    let folder = try TemporaryFolder()
    let source = try CheckpointFolder(path: Self.family(name))
    let report = try export(source, GGUFExport.self, to: folder.file("m.gguf"))
    let file = try GGUFCheckpoint(path: folder.file("m.gguf"))
    let diff = try CheckpointDiff(file, source)
    #expect(diff.onlyFirst.isEmpty && diff.differences.isEmpty)
    switch name {
    case "llama-rope-yarn":
      // GGUF has no place for every parameter of YaRN that this fixture sets.
      #expect(file.configuration["rope_scaling"]?["rope_type"]?.string == "yarn")
    case "mistral":
      // llama.cpp's architecture has no sliding window; the export says so.
      #expect(report.notes.contains { $0.contains("sliding window") })
    default:
      #expect(try Self.logits(file) == Self.logits(source))
    }
    // And back to safetensors.
    _ = try export(file, SafetensorsExport.self, to: folder.file("back"))
    let back = try CheckpointFolder(path: folder.file("back"))
    #expect(try CheckpointDiff(back, source).differences.isEmpty)
  }

  /// Every type of number, names with slashes, scalars and empty tensors survive HDF5 and NumPy.
  @Test(arguments: ["h5", "npz"]) func hdf5AndNumPyKeepEveryBit(_ suffix: String) throws {
    let folder = try TemporaryFolder()
    let format: any ExportFormat.Type = suffix == "h5" ? HDF5Export.self : NumPyExport.self
    for name in ["llama-bf16", "llama-f16", "llama-sharded", "bert-mean"] {
      let source = try CheckpointFolder(path: Self.family(name))
      let path = folder.file(name + "." + suffix)
      _ = try export(source, format, to: path)
      let file = try AnyCheckpoint.open(path)
      let diff = try CheckpointDiff(source, file)
      #expect(diff.isEmpty && diff.storedOtherwise == 0)
      _ = try export(file, SafetensorsExport.self, to: folder.file(name))
      let back = try CheckpointFolder(path: folder.file(name))
      let again = try CheckpointDiff(source, back)
      #expect(again.isEmpty && again.storedOtherwise == 0)
      guard suffix == "h5" else { continue }
      #expect(back.configuration.compactText == source.configuration.compactText)
      for side in source.sideFileNames
      where side != "config.json" && !side.hasSuffix(".safetensors") {
        #expect(try back.sideFile(side) == source.sideFile(side), "\(side)")
      }
    }
  }

  @Test func ggufRefusesWhatItCannotHold() throws {
    let folder = try TemporaryFolder()
    for name in ["bert-mean", "llama-rope-dynamic"] {
      let source = try CheckpointFolder(path: Self.family(name))
      #expect(throws: (any Error).self) {
        try export(source, GGUFExport.self, to: folder.file("x.gguf"))
      }
      #expect(FilePath.kind(of: folder.file("x.gguf")) == nil)
    }
  }

  @Test func splitFilesAreOneModel() throws {
    let folder = try TemporaryFolder()
    let source = try CheckpointFolder(path: Self.family("llama"))
    let gguf = try export(
      source, GGUFExport.self, to: folder.file("m.gguf"), ExportOptions(shardBytes: 20_000))
    #expect(
      gguf.files.count > 2 && gguf.files[0].hasSuffix("m-00001-of-0000\(gguf.files.count).gguf"))
    #expect(try CheckpointDiff(try GGUFCheckpoint(path: gguf.files[0]), source).isEmpty)
    let dense = try export(
      source, SafetensorsExport.self, to: folder.file("m"), ExportOptions(shardBytes: 20_000))
    let shards = dense.files.filter { $0.hasSuffix(".safetensors") }
    #expect(shards.count > 2)
    for shard in shards {
      let file = try SafetensorsFile(path: shard)
      let bytes = file.tensorNames.reduce(0) { $0 + (file.tensor($1)?.byteCount ?? 0) }
      #expect(bytes <= 20_000 || file.tensorNames.count == 1)
    }
    #expect(try CheckpointDiff(try CheckpointFolder(path: folder.file("m")), source).isEmpty)
  }

  @Test(arguments: [DType.float16, .bfloat16, .float32])
  func floatsAreConverted(_ dtype: DType) throws {
    let folder = try TemporaryFolder()
    let source = try CheckpointFolder(path: Self.family("llama"))
    _ = try export(
      source, SafetensorsExport.self, to: folder.file("m"), ExportOptions(dtype: dtype))
    let written = try CheckpointFolder(path: folder.file("m"))
    for name in source.tensorNames {
      let own = try #require(written.tensor(name)), other = try #require(source.tensor(name))
      #expect(own.dtype == dtype && own.floats() == other.converted(to: dtype).floats())
    }
    _ = try export(source, GGUFExport.self, to: folder.file("m.gguf"), ExportOptions(dtype: dtype))
    let file = try GGUFCheckpoint(path: folder.file("m.gguf"))
    #expect(file.tensor("model.norm.weight")?.dtype == .float32)
    #expect(file.tensor("model.layers.0.mlp.up_proj.weight")?.dtype == dtype)
  }

  /// Group integers keep every value in GGUF's blocks where those can hold them.
  @Test(
    arguments: ["int4-g32-sym", "int4-g32", "int3-g64", "int8-g32-sym", "int5-g128", "int7-g32"]
  ) func groupIntegersBecomeBlocks(_ name: String) throws {
    let encoding = try #require(GroupIntegers.named(name))
    var stream = RandomStream(test: name)
    let weight = Matrix(
      rows: 5, columns: 128, values: (0..<640).map { _ in Float(stream.normal()) })
    let encoded = try RTN().quantize(weight, moment: nil, encoding: encoding).encoded
    let blocks = try #require(GGUFTranscoding.blocks(of: encoded))
    #expect(blocks.matrix.decoded().values == encoded.matrix.decoded().values)
  }

  /// Codes, scales and zero points are the same numbers in compressed-tensors' order.
  @Test(
    arguments: [
      "int4-g16", "int4-channel-sym", "int3-g16", "int2-g32-sym", "int5-channel", "int7-g16",
      "int8-channel-sym", "int8-g16", "int6-g16-sym",
    ]
  ) func compressedTensorsKeepEveryCode(_ name: String) throws {
    let folder = try TemporaryFolder()
    let source = try CheckpointFolder(path: Self.family("llama-head-dim"))
    var request = QuantizeRequest(
      method: .rtn, rules: [try EncodingRule(name)], calibration: nil)
    request.search = .minmax
    _ = try QuantizeRun(input: source, request: request).run(output: folder.file("q"))
    let quantized = try CheckpointFolder(path: folder.file("q"))
    let report = try export(
      quantized, CompressedTensorsExport.self, to: folder.file("ct"),
      ExportOptions(dtype: .float32, decodes: true))
    let back = try AnyCheckpoint.open(folder.file("ct"))
    #expect(back.formatName == "compressed-tensors folder")
    let diff = try CheckpointDiff(quantized, back)
    #expect(diff.isEmpty)
    // Matrices whose groups do not divide their columns are floats there, and the report says so.
    #expect(diff.storedOtherwise == report.notes.filter { $0.hasPrefix("decoded") }.count)
    #expect(back.manifest.entries.count > 4)
    #expect(try Self.logits(back) == Self.logits(quantized))
  }

  /// transformers' folders of before safetensors; the fixture's tensors are torch's own file.
  @Test func aFolderOfPyTorchWeights() throws {
    let folder = try TemporaryFolder()
    try FilePath.makeFolder(folder.file("m"))
    try OutputFile.write("{\"model_type\": \"unknown\"}", to: folder.file("m/config.json"))
    try OutputFile.write("text", to: folder.file("m/README.md"))
    try OutputFile.write(
      try FilePath.read(TestData.fixtures + "/pytorch/views.pt"),
      to: folder.file("m/pytorch_model.bin"))
    let checkpoint = try AnyCheckpoint.open(folder.file("m"))
    #expect(checkpoint.configuration["model_type"]?.string == "unknown")
    #expect(checkpoint.sideFileNames == ["README.md", "config.json"])
    let alone = try AnyCheckpoint.open(folder.file("m/pytorch_model.bin"))
    #expect(!alone.tensorNames.isEmpty && checkpoint.tensorNames == alone.tensorNames)
    _ = try export(checkpoint, SafetensorsExport.self, to: folder.file("out"))
    #expect(try CheckpointDiff(checkpoint, try AnyCheckpoint.open(folder.file("out"))).isEmpty)
    #expect(try contentHash(of: checkpoint) == contentHash(of: checkpoint))
  }

  @Test func notAllGroupIntegersFit() {
    for name in ["int8-g32", "int4-g16"] {
      #expect(
        GGUFTranscoding.type(for: GroupIntegers.named(name)!, inputs: 128) == nil, "\(name)")
    }
    #expect(GGUFTranscoding.type(for: GroupIntegers.named("int4-channel")!, inputs: 100) == nil)
  }

  @Test func diffSaysWhatDiffers() throws {
    let folder = try TemporaryFolder()
    let source = try CheckpointFolder(path: Self.family("llama"))
    let other = try CheckpointFolder(path: Self.family("llama-tied"))
    let diff = try CheckpointDiff(source, other)
    #expect(diff.onlyFirst == ["lm_head.weight"] && diff.onlySecond.isEmpty && !diff.isEmpty)
    _ = try export(
      source, SafetensorsExport.self, to: folder.file("m"), ExportOptions(dtype: .float16))
    let rounded = try CheckpointDiff(source, try CheckpointFolder(path: folder.file("m")))
    let worst = try #require(rounded.differences.max { $0.largest < $1.largest })
    #expect(worst.relative < 1e-6 && worst.relative > 0 && worst.different > 0)
    #expect(rounded.onlyFirst.isEmpty && rounded.onlySecond.isEmpty)
  }
}

import Checkpoints
import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@Suite struct PyTorchTests {
  static let fixtures = TestData.fixtures + "/pytorch/"

  private static func open(_ name: String) throws -> TensorFile {
    try #require(try PyTorchFormat.open(fixtures + name) as? TensorFile)
  }

  /// Bit for bit what torch gives: all types, views of one storage, transposed and broadcast ones.
  @Test(arguments: [
    "views.pt", "views-legacy.pt", "views-protocol1.pt", "views-protocol3.pt", "views-protocol4.pt",
    "views-protocol5.pt", "views-deflated.pt",
  ]) func views(_ name: String) throws {
    let found = try Self.open(name)
    #expect(differences(found, try safetensors(Self.fixtures + "views.safetensors")) == [])
    #expect(found.tensorNames.prefix(3) == ["float64", "float32", "float16"])
    #expect(found.skipped == [])
  }

  @Test func laterTypesAndByteOrder() throws {
    #expect(
      differences(
        try Self.open("later-types.pt"), try safetensors(Self.fixtures + "later-types.safetensors"))
        == [])
    #expect(
      differences(
        try Self.open("floats-big-endian.pt"), try safetensors(Self.fixtures + "floats.safetensors")
      )
        == [])
  }

  /// A state dict inside a training checkpoint: without wrapper and `module.`; the rest is listed.
  @Test(arguments: ["training.pt", "training-legacy.pt"])
  func trainingCheckpoints(_ name: String) throws {
    let found = try Self.open(name)
    #expect(differences(found, try safetensors(Self.fixtures + "small.safetensors")) == [])
    #expect(
      found.skipped == [
        "epoch", "optimizer", "best", "arch", "note", "classes", "done", "none", "sizes", "tags",
        "counts.seen", "big", "type", "device",
      ])
  }

  /// Two state dicts keep their names apart.
  @Test func severalModels() throws {
    let small = try safetensors(Self.fixtures + "small.safetensors")
    var expected: [String: Tensor] = [:]
    for (name, tensor) in small {
      expected["model." + name] = tensor
      expected["ema." + name] = tensor
    }
    #expect(differences(try Self.open("two-models.pt"), expected) == [])
  }

  @Test func parameters() throws {
    let found = try Self.open("parameters.pt")
    #expect(found.tensorNames == ["plain", "noted"])
    #expect(found.tensor("noted")?.floats() == [1, 1])
  }

  /// The names of attributes are those of the state dict; its code is not looked at.
  @Test func scriptArchives() throws {
    let found = try Self.open("script.pt")
    #expect(differences(found, try safetensors(Self.fixtures + "small.safetensors")) == [])
    #expect(found.formatName == "TorchScript archive")
    #expect(found.configuration["architecture"]?.string == "TorchScript Small")
  }

  @Test func refusals() {
    let module = openingError(PyTorchFormat.self, Self.fixtures + "whole-module.pt")
    #expect(module?.problem == .foreignGlobal("__main__.Small"))
    #expect(module?.description.contains("state_dict()") == true)
    #expect(
      openingError(PyTorchFormat.self, Self.fixtures + "complex.pt")?.problem
        == .unknownType("torch.ComplexFloatStorage"))
    #expect(
      openingError(PyTorchFormat.self, Self.fixtures + "float8.pt")?.problem
        == .unknownType("torch.float8_e4m3fn"))
  }

  /// Stored tensors are views of the mapped file, not copies.
  @Test func storedTensorsAreMapped() throws {
    let found = try Self.open("views.pt")
    let first = try #require(found.tensor("whole")), second = try #require(found.tensor("whole"))
    let addresses = [first, second].map { tensor in
      tensor.withBytes { $0.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) } }
    }
    #expect(addresses[0] == addresses[1])
  }

  @Test func recognition() throws {
    for name in ["views.pt", "views-legacy.pt", "script.pt", "views-deflated.pt"] {
      let start = Array(try FilePath.read(Self.fixtures + name).prefix(4096))
      let found = CheckpointFormats.all.filter { $0.recognizes(start, path: Self.fixtures + name) }
      #expect(found.map { $0.formatName } == ["PyTorch checkpoint"], "\(name)")
    }
  }

  /// Names, counts and sums as torch 2.13 prints them.
  @Test(
    .enabled(if: TestData.shared != nil, "\(TestData.sharedHint)"),
    arguments: [
      ("vit-mnist/vit_mnist_gpu.pt", 74, 339.1180947638613, "cls_token"),
      ("resnet-cifar10/resnet20-12fca82f.th", 97, 139.7826495598208, "layer1.0.conv1.weight"),
      ("resnet-cifar10/resnet56-4bfd9763.th", 277, 1427.879011697099, "linear.bias"),
      (
        "silero-vad/silero_vad.jit", 32, -1278.5611273991237,
        "_model.encoder.0.reparam_conv.weight"
      ),
    ])
  func realFiles(_ file: String, count: Int, sum: Double, name: String) throws {
    let path = try #require(TestData.shared) + "/models/" + file
    let found = try PyTorchFormat.open(path)
    #expect(found.tensorNames.count == count && found.tensor(name) != nil)
    let total = found.tensorNames.reduce(0.0) { total, name in
      total + (found.tensor(name)?.floats().reduce(0.0) { $0 + Double($1) } ?? 0)
    }
    #expect(abs(total - sum) < 1e-6 * abs(sum))
  }
}

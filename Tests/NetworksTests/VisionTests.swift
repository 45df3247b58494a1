import Checkpoints
import Networks
import Tensors
import TestSupport
import Testing

/// What transformers computes on tiny vision transformers; see Tests/Fixtures/vision.
@Suite struct VisionTests {
  static let folder = TestData.fixtures + "/vision/"
  static let names = [
    "vit", "vit-old-names", "clip", "siglip", "siglip-vision", "vit-pytorch",
  ]

  private func open(_ name: String) throws -> (any SampleNetwork, expected: SafetensorsFile) {
    let isFile = name == "vit-pytorch"
    let checkpoint: any Checkpoint =
      isFile
      ? try PyTorchFormat.open(Self.folder + name + ".pt")
      : try CheckpointFolder(path: Self.folder + name)
    let network = try #require(
      try FamilyRegistry.network(of: checkpoint) as? any SampleNetwork)
    return (
      network,
      try SafetensorsFile(
        path: Self.folder + (isFile ? name + ".safetensors" : name + "/expected.safetensors"))
    )
  }

  @Test(arguments: names) func outputsEqualTransformers(_ name: String) throws {
    let (network, file) = try open(name)
    let pixels = try #require(file.tensor("pixels")),
      expected = try #require(file.tensor("outputs"))
    #expect([network.input.dimensions] == [Array(pixels.shape.dropFirst())])
    #expect(network.outputCount == expected.columns)
    #expect(network.isClassifier == name.hasPrefix("vit"))
    let found = network.outputs(
      network.batch(Matrix(rows: 3 * 144, columns: 3, values: pixels.floats())))
    #expect(found.rows == 3 && found.columns == expected.columns)
    let worst = zip(found.values, expected.floats()).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 2e-4, "\(worst)")
  }

  /// Bytes are normalized as the checkpoint says.
  @Test func normalizationOfTheCheckpoint() throws {
    let (network, _) = try open("vit")
    #expect(
      network.normalization
        == SampleNormalization(mean: [0.4, 0.5, 0.6], deviation: [0.2, 0.3, 0.25]))
  }
}

import Checkpoints
import Foundation
import Networks
import TestSupport
import Testing

@testable import CondenseInference
@testable import Tensors

/// Labels as an application gets them, beside the logits that PyTorch computed; see Tests/Fixtures/images.
@Suite struct ClassifierTests {
  private static let folder = TestData.fixtures + "/images/"

  @Test(arguments: ["residual-a", "residual-b"]) func labelsAndProbabilities(_ name: String) throws
  {
    let model = try Model(path: Self.folder + name + ".th")
    let network = try model.sampleNetwork()
    let file = try SafetensorsFile(path: Self.folder + name + ".safetensors")
    let logits = try #require(file.tensor("logits"))
    let images = try #require(file.tensor("images"))
    let bytes = FileManager.default.temporaryDirectory.path + "/condense-\(UUID().uuidString).npy"
    defer { try? FileManager.default.removeItem(atPath: bytes) }
    let values = images.floats(), sampleLength = network.input.values
    try NumPyFile.write(
      shape: [logits.rows] + network.input.dimensions, to: bytes
    ) { sample in
      let mean: [Float] = [0.485, 0.456, 0.406], deviation: [Float] = [0.229, 0.224, 0.225]
      return (0..<sampleLength).map { index in
        (values[sample * sampleLength + index] / 255 - mean[index % 3]) / deviation[index % 3]
      }
    }
    let samples = try SampleArray(path: bytes, shape: network.input)
    let guesses = try model.classify(samples, count: 3)
    #expect(guesses.count == logits.rows)
    let expected = logits.floats()
    for (row, found) in guesses.enumerated() {
      let own = expected[row * logits.columns..<(row + 1) * logits.columns].map { Double($0) }
      let sum = own.reduce(0) { $0 + exp($1) }
      let order = own.indices.sorted { own[$0] > own[$1] }
      #expect(found.map(\.label) == Array(order.prefix(3)))
      for guess in found { #expect(abs(guess.probability - exp(own[guess.label]) / sum) < 1e-4) }
    }
  }

  /// A model that tells no labels says so.
  @Test func aLanguageModelTellsNoLabels() throws {
    let model = try Model(path: TestData.root + "checkpoints/quickstart")
    #expect(throws: CheckpointError.self) { try model.sampleNetwork() }
  }
}

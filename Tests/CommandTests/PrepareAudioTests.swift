import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct PrepareAudioTests {
  static let sounds = TestData.fixtures + "/speech/"

  @Test func anArrayOfFeatures() throws {
    let folder = try TemporaryFolder(), output = folder.file("a.npy")
    let result = try Command.run(
      "prepare-audio", Self.sounds + "mono16.wav", Self.sounds, "-o", output, "--quiet")
    #expect(result.status == 0, "\(result.error)")
    let array = try NumPyArrayFormat.open(output)
    let tensor = try #require(array.tensor(array.tensorNames[0]))
    #expect(tensor.shape == [5, 3000, 80])
    let expected = try #require(
      try SafetensorsFile(path: Self.sounds + "expected.safetensors").tensor("mel80")
    ).floats()
    #expect(zip(tensor.floats(), expected).allSatisfy { abs($0 - $1) < 1e-4 })
  }

  /// A file without a single sample is refused, and leaves nothing.
  @Test func noSound() throws {
    let folder = try TemporaryFolder(), output = folder.file("a.npy"), path = folder.file("e.wav")
    var bytes = try Data(Samples.bytes(Self.sounds + "mono16.wav").prefix(44))
    bytes.replaceSubrange(40..<44, with: [0, 0, 0, 0])
    try bytes.write(to: URL(filePath: path))
    let result = try Command.run("prepare-audio", path, "-o", output)
    #expect(result.status == 65 && result.error.contains("no samples"), "\(result.error)")
    #expect(!Samples.exists(output))
  }
}

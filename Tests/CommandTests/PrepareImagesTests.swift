import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct PrepareImagesTests {
  static let pictures = TestData.fixtures + "/pictures/"

  /// The array holds what transformers' processor makes of the picture, and every picture has its row.
  @Test func anArrayOfPictures() throws {
    let folder = try TemporaryFolder(), output = folder.file("a.npy")
    let result = try Command.run(
      "prepare-images", Self.pictures + "rgb.png", Self.pictures, "--preparation",
      Self.pictures + "clip.json", "-o", output, "--json")
    #expect(result.status == 0, "\(result.error)")
    let report = try #require(
      try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
    #expect(report["shape"] as? [Int] == [8, 16, 16, 3])
    let array = try NumPyArrayFormat.open(output)
    let values = try #require(array.tensor(array.tensorNames[0])).floats()
    let expected = try #require(
      try SafetensorsFile(path: Self.pictures + "preparation.safetensors").tensor("clip")
    ).floats()
    #expect(zip(values, expected).allSatisfy { abs($0 - $1) < 1e-5 })
    // By name: rgb.png is the last but none of the folder's PNG files.
    let files = try #require(report["files"] as? [String])
    #expect(
      files.dropFirst().map { $0.split(separator: "/").last } == [
        "alpha.png", "gray.jpg", "gray.png", "palette.png", "plain.jpg", "rgb.jpg", "rgb.png",
      ])
  }

  @Test func wrongInput() throws {
    let folder = try TemporaryFolder(), output = folder.file("a.npy")
    func status(_ arguments: String...) throws -> (Int32, String) {
      let result = try Command.run(["prepare-images"] + arguments + ["-o", output])
      #expect(!Samples.exists(output))
      return (result.status, result.error)
    }
    let preparation = Self.pictures + "clip.json"
    let none = try status(Self.pictures + "README.md", "--preparation", preparation)
    #expect(none.0 == 65 && none.1.contains("PNG"), "\(none.1)")
    let missing = try status(folder.file("x.png"), "--preparation", preparation)
    #expect(missing.0 == 66, "\(missing.1)")
    let model = try status(Self.pictures + "rgb.png", "--preparation", Samples.quickstart)
    #expect(model.0 == 65 && model.1.contains("preprocessor_config.json"), "\(model.1)")
  }
}

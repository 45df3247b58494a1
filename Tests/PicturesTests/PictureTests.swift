import Checkpoints
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Pictures

/// Against Pillow and the image processors of transformers; see Tests/Fixtures/pictures.
@Suite struct PictureTests {
  static let folder = TestData.fixtures + "/pictures/"
  static let files = [
    "rgb.png", "gray.png", "palette.png", "alpha.png", "rgb.jpg", "plain.jpg", "gray.jpg",
  ]

  private func bytes(_ tensor: Tensor) -> [UInt8] { tensor.floats().map { UInt8($0) } }

  @Test(arguments: files) func pixelsEqualPillow(_ name: String) throws {
    let expected = try #require(
      try SafetensorsFile(path: Self.folder + "pixels.safetensors").tensor(name))
    let picture = try Picture(path: Self.folder + name)
    #expect([picture.height, picture.width, 3] == expected.shape)
    // Two builds of one JPEG library may round a color by one.
    let limit = name.hasSuffix("jpg") ? 1 : 0
    let differences = zip(picture.pixels, bytes(expected)).map { abs(Int($0) - Int($1)) }
    #expect(differences.max() ?? 255 <= limit)
  }

  @Test(arguments: Resampling.allCases, [[12, 9], [50, 40], [31, 10], [64, 23]])
  func sizesEqualPillow(_ filter: Resampling, _ size: [Int]) throws {
    let picture = try Picture(path: Self.folder + "rgb.png")
    let resized = picture.resized(width: size[0], height: size[1], filter)
    let expected = try #require(
      try SafetensorsFile(path: Self.folder + "pixels.safetensors")
        .tensor("\(filter.rawValue) \(size[0]) \(size[1])"))
    #expect([resized.height, resized.width, 3] == expected.shape)
    #expect(resized.pixels == bytes(expected))
  }

  @Test(arguments: ["vit", "clip", "wide"]) func preparationEqualsTransformers(
    _ name: String
  ) throws {
    let path = Self.folder + name + ".json"
    let preparation = try PicturePreparation(try CheckpointFolder.json(at: path), path: path)
    let found = preparation.values(of: try Picture(path: Self.folder + "rgb.png"))
    let expected = try #require(
      try SafetensorsFile(path: Self.folder + "preparation.safetensors").tensor(name))
    #expect([found.height, found.width, 3] == expected.shape)
    let worst = zip(found.values, expected.floats()).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 1e-5)
  }

  /// Every cut and many damaged bytes: an error or a picture, never a trap, and nothing of a size that is only claimed.
  @Test(arguments: files) func hostileBytes(_ name: String) throws {
    let whole = try FilePath.read(Self.folder + name)
    let picture = try Picture(decoding: whole, path: name)
    for length in stride(from: 0, to: whole.count, by: max(1, whole.count / 150)) {
      // A cut behind the last pixel may go unseen.
      if let found = try? Picture(decoding: Array(whole[..<length]), path: name) {
        #expect(found == picture && length > whole.count - 32)
      }
    }
    var stream = RandomStream(test: name)
    for _ in 0..<200 {
      var damaged = whole
      for _ in 0..<3 {
        damaged[stream.integer(below: damaged.count)] = UInt8(stream.integer(below: 256))
      }
      _ = try? Picture(decoding: damaged, path: name)
    }
    #expect(throws: CheckpointError.self) {
      try Picture(decoding: Array("GIF89a, which is another format".utf8), path: "g")
    }
    if name.hasSuffix("png") {
      var huge = whole
      for index in 16..<24 { huge[index] = 0x7F }
      #expect(throws: CheckpointError.self) { try Picture(decoding: huge, path: name) }
    }
  }

  static let wrong: [(String, String)] = [
    (#"{"size": {"height": 0, "width": 4}}"#, "size"),
    (#"{"size": 4, "resample": 9}"#, "resample"),
    (#"{"size": 4, "do_center_crop": true}"#, "crop_size"),
    (#"{"size": 4, "image_mean": [0, 0]}"#, "image_mean"),
    (#"{"size": 4, "image_mean": [0, 0, 0], "image_std": [1, 0, 1]}"#, "image_std"),
    (#"{"size": 4, "do_resize": 1}"#, "do_resize"),
  ]

  @Test(arguments: wrong) func wrongConfigurations(_ text: String, _ key: String) throws {
    let json = try JSONValue(parsing: Array(text.utf8))
    let error = #expect(throws: CheckpointError.self) { try PicturePreparation(json, path: "p") }
    #expect("\(try #require(error))".contains(key))
  }
}

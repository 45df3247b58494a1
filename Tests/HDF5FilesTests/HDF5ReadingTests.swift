import Checkpoints
import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import HDF5Files

@Suite struct HDF5ReadingTests {
  static let fixtures = TestData.fixtures + "/hdf5/"

  private static func open(_ name: String) throws -> TensorFile {
    let path = fixtures + name
    let format: any CheckpointFormat.Type =
      name.hasSuffix(".keras") ? KerasFormat.self : HDF5Format.self
    return try #require(try format.open(path) as? TensorFile)
  }

  /// Bit for bit what h5py reads: all types, byte orders, layouts and filters, old and new file format.
  @Test(arguments: ["tree.h5", "tree-1.10.h5"]) func trees(_ name: String) throws {
    let found = try Self.open(name)
    #expect(differences(found, try safetensors(Self.fixtures + "tree.safetensors")) == [])
    #expect(
      found.skipped.sorted() == [
        "compound (compounds of 8 bytes)", "deep/er/circle (a link back)",
        "long texts (texts of 8 bytes)", "soft (a link)", "texts (texts of 2 bytes)",
      ])
  }

  /// Datasets in one piece are views of the mapped file: at each use the same bytes.
  @Test func contiguousDatasetsAreMapped() throws {
    let found = try Self.open("tree.h5")
    let addresses = try (0..<2).map { _ in
      try #require(found.tensor("little/f4")).withBytes {
        $0.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) }
      }
    }
    #expect(addresses[0] == addresses[1])
  }

  @Test(arguments: [
    ("external-link.h5", "linked", "a link into another file"),
    ("external-storage.h5", "w", "a dataset whose elements lie in another file"),
    ("virtual.h5", "w", "a dataset made of other files' datasets"),
    ("unknown-filter.h5", "w", "filter 32000 (lzf)"),
  ]) func refusals(_ name: String, _ tensor: String, _ what: String) {
    let error = openingError(HDF5Format.self, Self.fixtures + name)
    #expect(error?.problem == .unsupported(what) && error?.tensor == tensor)
  }

  /// Terabytes in 1,400 bytes: refused by what they would take, with the limit.
  @Test(arguments: [("huge-chunk.h5", 1 << 42), ("huge-deflated.h5", 1 << 38)])
  func hugeDimensions(_ name: String, _ bytes: Int) throws {
    let size = try #require(FilePath.byteCount(of: Self.fixtures + name))
    #expect(
      openingError(HDF5Format.self, Self.fixtures + name)?.problem
        == .tooLarge(what: "its elements take", bytes: bytes, limit: size + 64 << 20))
  }

  /// Keras 1 and 2: the order of the lists, whose names may be spread over several attributes.
  @Test func legacyKeras() throws {
    let expected = try safetensors(Self.fixtures + "keras-weights.safetensors")
    let order = ["layer_2", "layer_10", "layer_1"].flatMap { layer in
      ["kernel", "bias"].map { "\(layer)/\(layer)/\($0):0" }
    }
    let weights = try Self.open("keras-weights.h5")
    #expect(differences(weights, expected) == [])
    #expect(weights.tensorNames == order)
    #expect(weights.formatName == "Keras weights")
    #expect(weights.configuration["architecture"]?.string == "Keras weights of 3 layers")
    let model = try Self.open("keras-model.h5")
    #expect(differences(model, expected) == [])
    #expect(model.tensorNames == order)
    #expect(model.skipped == ["optimizer_weights/Adam/iterations:0"])
    #expect(model.configuration["architecture"]?.string == "Keras Model three_layers")
    #expect(model.configuration["keras_version"]?.string == "2.1.6")
    #expect(model.configuration["model_config"]?["class_name"]?.string == "Model")
  }

  @Test(arguments: ["keras3.keras", "keras3.weights.h5"]) func keras3(_ name: String) throws {
    let found = try Self.open(name)
    #expect(differences(found, try safetensors(Self.fixtures + "keras3.safetensors")) == [])
    #expect(found.skipped == [])
    if name.hasSuffix(".keras") {
      #expect(found.formatName == "Keras archive")
      #expect(found.configuration["architecture"]?.string == "Keras Sequential small")
      #expect(found.configuration["keras_version"]?.string == "3.15.1")
    }
  }

  /// Keras 3 still writes the old layout; the numbers are those of its own format.
  @Test func keras3InTheOldLayout() throws {
    let found = try Self.open("keras3-legacy.h5")
    #expect(found.configuration["architecture"]?.string == "Keras Sequential small")
    let expected = try safetensors(Self.fixtures + "keras3.safetensors")
    for (name, other) in [
      ("first/small/first/kernel", "layers/dense/vars/0"),
      ("norm/small/norm/gamma", "layers/batch_normalization/vars/0"),
      ("last/small/last/bias", "layers/dense_1/vars/1"),
    ] {
      #expect(found.tensor(name)?.floats() == expected[other]?.floats(), "\(found.tensorNames)")
    }
  }

  @Test func recognition() throws {
    for (name, format) in [
      ("tree.h5", "HDF5 file"), ("keras3.weights.h5", "HDF5 file"),
      ("keras3.keras", "Keras archive"),
    ] {
      let start = Array(try FilePath.read(Self.fixtures + name).prefix(4096))
      let path = Self.fixtures + name
      let found = ([HDF5Format.self, KerasFormat.self] + CheckpointFormats.all)
        .filter { $0.recognizes(start, path: path) }
      #expect(found.map { $0.formatName } == [format])
    }
  }

  /// Counts, shapes and sums as h5py 3.16 gives them.
  @Test(
    .enabled(if: TestData.shared != nil, "\(TestData.sharedHint)"),
    arguments: [
      ("ad01.h5", 56, 4_309_579.9860066315, "Keras Functional functional_1"),
      ("dtln.h5", 20, -717.6012300115926, "Keras weights of 18 layers"),
      (
        "fer2013_mini_XCEPTION.102-0.66.hdf5", 80, 15_988.347060740249,
        "Keras Model model_1"
      ),
      ("textgenrnn_weights.hdf5", 10, -11_070.310553417772, "Keras weights of 7 layers"),
    ])
  func realFiles(_ file: String, count: Int, sum: Double, architecture: String) throws {
    let path = try #require(TestData.shared) + "/models/keras/" + file
    let found = try HDF5Format.open(path)
    #expect(found.tensorNames.count == count)
    #expect(found.configuration["architecture"]?.string == architecture)
    let total = found.tensorNames.reduce(0.0) { total, name in
      total + (found.tensor(name)?.floats().reduce(0.0) { $0 + Double($1) } ?? 0)
    }
    #expect(abs(total - sum) < 1e-6 * abs(sum))
  }
}

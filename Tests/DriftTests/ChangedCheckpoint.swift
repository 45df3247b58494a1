import Checkpoints
import JSONDocuments
import Networks
import Tensors
import TestSupport
import Testing

/// A fixture's checkpoint with some tensors changed in memory.
struct ChangedCheckpoint: Checkpoint {
  let source: CheckpointFolder
  let change: @Sendable (_ name: String, _ values: inout [Float]) -> Void

  init(
    _ family: String,
    change: @escaping @Sendable (_ name: String, _ values: inout [Float]) -> Void = { _, _ in }
  ) throws {
    source = try CheckpointFolder(path: TestData.fixtures + "/families/" + family)
    self.change = change
  }

  var path: String { source.path }
  var formatName: String { source.formatName }
  var configuration: JSONValue { source.configuration }
  var manifest: WeightManifest { source.manifest }
  var tensorNames: [String] { source.tensorNames }
  var sideFileNames: [String] { source.sideFileNames }
  var byteCount: Int { source.byteCount }

  func tensor(_ name: String) -> Tensor? {
    guard let tensor = source.tensor(name), tensor.dtype.isFloat else { return source.tensor(name) }
    var values = tensor.floats()
    change(name, &values)
    return Tensor(.float32, shape: tensor.shape, copying: values)
  }

  func sideFile(_ name: String) throws -> [UInt8] { try source.sideFile(name) }

  func languageModel() throws -> any LanguageModel {
    try #require(try FamilyRegistry.network(of: self) as? any LanguageModel)
  }

  func encoder() throws -> any TextEncoder {
    try #require(try FamilyRegistry.network(of: self) as? any TextEncoder)
  }

  /// Every weight off by normal noise of this share of 1.
  static func noisy(_ family: String, _ deviation: Double) throws -> ChangedCheckpoint {
    try ChangedCheckpoint(family) { name, values in
      var stream = RandomStream(test: name)
      for index in values.indices { values[index] += Float(stream.normal() * deviation) }
    }
  }
}

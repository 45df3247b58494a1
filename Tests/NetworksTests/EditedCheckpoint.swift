import Checkpoints
import JSONDocuments
import Networks
import Tensors
import TestSupport

/// A fixture's checkpoint with other words in its configuration and other values in its tensors.
struct EditedCheckpoint: Checkpoint {
  let source: CheckpointFolder
  let configuration: JSONValue
  let pooling: String?
  var change: @Sendable (_ name: String, _ values: inout [Float]) -> Void = { _, _ in }

  /// - Parameter pooling: What the pooling module's configuration says instead.
  init(_ family: String, replacing: [String: String] = [:], pooling: String? = nil) throws {
    try self.init(
      folder: FamilyFixtureTests.folder(family), replacing: replacing, pooling: pooling)
  }

  init(folder: String, replacing: [String: String] = [:], pooling: String? = nil) throws {
    source = try CheckpointFolder(path: folder)
    var text = String(decoding: try source.sideFile("config.json"), as: UTF8.self)
    for (old, new) in replacing { text = text.replacing(old, with: new) }
    configuration = try JSONValue(parsing: Array(text.utf8))
    self.pooling = pooling
  }

  var path: String { source.path }
  var formatName: String { source.formatName }
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

  func sideFile(_ name: String) throws -> [UInt8] {
    if let pooling, name == "1_Pooling/config.json" { return Array(pooling.utf8) }
    return try source.sideFile(name)
  }

  /// The checkpoint with one tensor moved.
  func moved(_ tensor: String, by direction: [Float], times scale: Double) -> EditedCheckpoint {
    var result = self
    result.change = { name, values in
      guard name == tensor else { return }
      for index in values.indices {
        values[index] = Float(Double(values[index]) + scale * Double(direction[index]))
      }
    }
    return result
  }
}

/// Adds up the gradients of all parameters, in Double.
final class GradientSums: GradientObserver {
  private(set) var sums: [String: [Double]] = [:]
  private let sizes: [String: Int]

  init(_ checkpoint: any Checkpoint) {
    sizes = Dictionary(
      uniqueKeysWithValues: checkpoint.tensorNames.map { ($0, checkpoint.tensor($0)?.count ?? 0) })
  }

  // Layers beside the checkpoint's tensors, such as dense ones behind a pooling, are no parameters.
  func wants(_ parameter: String) -> Bool { sizes[parameter] != nil }

  func receive(_ parameter: String, _ gradient: ParameterGradient) {
    var sum = sums[parameter] ?? [Double](repeating: 0, count: sizes[parameter] ?? 0)
    switch gradient {
    case .vector(let values):
      for (index, value) in values.enumerated() { sum[index] += Double(value) }
    case .matrix(let matrix):
      for (index, value) in matrix.values.enumerated() { sum[index] += Double(value) }
    case .product(let inputs, let outputs):
      let product = outputs.transposedProduct(inputs)
      for (index, value) in product.values.enumerated() { sum[index] += Double(value) }
    case .rows(let tokens, let gradients):
      for (row, token) in tokens.enumerated() {
        for (column, value) in gradients.row(row).enumerated() {
          sum[Int(token) * gradients.columns + column] += Double(value)
        }
      }
    }
    sums[parameter] = sum
  }
}

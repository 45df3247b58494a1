// The output of llama-imatrix: sums of squares of each layer's inputs.
//
// Source   llama.cpp, tools/imatrix: GGUF with NAME.in_sum2 [inputs] and NAME.counts [1], NAME in llama.cpp's words
// Checked  ImportanceFileTests: equal to the squares that our own calibration finds on the same text

import Checkpoints
import JSONDocuments
import Tensors

/// Mean squares of inputs, by weight.
struct ImportanceFile {
  private let squares: [String: [Double]]
  private let path: String
  private let hash: String

  private static let sums = ".in_sum2"
  private static let counts = ".counts"

  /// Reads a file; its names are translated for the model's architecture.
  ///
  /// - Throws: `CheckpointError` when it is none, or is of another model.
  init(path: String, for model: any Checkpoint) throws {
    let file = try GGUFCheckpoint(path: path)
    guard file.metadata["general.type"]?.text == "imatrix" else {
      throw CheckpointError(
        path: path,
        .badValue(
          found: "general.type \(file.metadata["general.type"]?.text ?? "none")",
          expected: "'imatrix', a file of llama-imatrix"))
    }
    let architecture = model.configuration["model_type"]?.string.flatMap {
      GGUFArchitecture(modelType: $0)
    }
    var squares: [String: [Double]] = [:]
    for name in file.tensorNames where name.hasSuffix(Self.sums) {
      let own = String(name.dropLast(Self.sums.count))
      guard let sums = file.tensor(name), let counts = file.tensor(own + Self.counts),
        sums.dtype == .float32, counts.dtype == .float32, counts.count == 1,
        let count = counts.floats().first, count > 0
      else {
        throw CheckpointError(
          path: path, tensor: own, .missing(key: own + Self.counts, expected: "a positive count"))
      }
      let mean = sums.floats().map { Double($0) / Double(count) }
      let weight = architecture?.modelName(of: own) ?? own
      if let logical = model.logicalTensors.first(where: { $0.name == weight }),
        logical.shape.last != mean.count
      {
        throw CheckpointError(
          path: path, tensor: own,
          .shapeMismatch(found: [mean.count], expected: [logical.shape.last ?? 0]))
      }
      squares[weight] = mean
    }
    guard model.logicalTensors.contains(where: { squares[$0.name] != nil }) else {
      throw CheckpointError(
        path: path,
        .badValue(found: "no weight of this model", expected: "statistics of \(model.path)"))
    }
    self.squares = squares
    self.path = path
    hash = try ContentHash.of(file: path)
  }

  /// The mean square of each input of a weight; nil when the file does not know it.
  func diagonal(of weight: String) -> [Double]? { squares[weight] }

  /// What the lineage says of it.
  var json: JSONValue {
    ["imatrix": ["name": .string(FilePath.name(of: path)), "sha256": .string(hash)]]
  }
}

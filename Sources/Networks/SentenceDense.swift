// The dense layers that a sentence-transformers folder puts after its pooling.
//
// Source   https://sbert.net/docs/package_reference/sentence_transformer/models.html#sentence_transformers.models.Dense
// Given    FOLDER/config.json (`in_features`, `out_features`, `bias`, `activation_function`) and
//          FOLDER/model.safetensors (`linear.weight`, `linear.bias`), side files of the checkpoint
// Checked  FamilyFixtureTests: embeddings equal those of sentence-transformers

import Checkpoints
import JSONDocuments
import Tensors

/// A dense layer with its function. Its weights lie in a side file, and stay as they are in every stage.
struct SentenceDense {
  private let linear: Linear
  /// nil where the layer is linear.
  private let activation: Activation?

  /// Values of a result.
  var width: Int { linear.matrix.outputs }

  /// Reads a layer over embeddings of `width` values.
  init(_ folder: String, width: Int, _ checkpoint: any Checkpoint) throws(CheckpointError) {
    let name = folder + "/config.json", weights = folder + "/model.safetensors"
    let reader = ConfigurationReader(
      path: checkpoint.path + "/" + name, json: try checkpoint.sideJSON(name))
    let inputs = try reader.size("in_features"), outputs = try reader.size("out_features")
    guard inputs == width else {
      throw reader.wrong("in_features", .integer(inputs), expected: "\(width), what it is given")
    }
    let function = try reader.text(
      "activation_function", default: "torch.nn.modules.activation.Tanh")
    switch function.split(separator: ".").last {
    case "Identity": activation = nil
    case "Tanh": activation = .tanh
    case "ReLU": activation = .relu
    case "GELU": activation = .gelu
    case "SiLU": activation = .silu
    default:
      throw reader.wrong(
        "activation_function", .string(function), expected: "Identity, Tanh, ReLU, GELU or SiLU")
    }
    guard checkpoint.sideFileNames.contains(weights), let bytes = try? checkpoint.sideFile(weights)
    else { throw CheckpointError(path: checkpoint.path, .missingFile(weights)) }
    let file = try SafetensorsFile(contentsOf: bytes, path: checkpoint.path + "/" + weights)
    func values(_ name: String, _ shape: [Int]) throws(CheckpointError) -> [Float] {
      guard let tensor = file.tensor(name) else {
        throw CheckpointError(path: file.path, tensor: name, .tensorNotFound)
      }
      guard tensor.shape == shape else {
        throw CheckpointError(
          path: file.path, tensor: name, .shapeMismatch(found: tensor.shape, expected: shape))
      }
      guard tensor.dtype.isFloat else {
        throw CheckpointError(
          path: file.path, tensor: name, .typeMismatch(found: tensor.dtype, expected: "floats"))
      }
      return tensor.floats()
    }
    linear = Linear(
      name: folder + ".linear",
      matrix: DenseMatrix(
        Matrix(
          rows: outputs, columns: inputs, values: try values("linear.weight", [outputs, inputs]))),
      bias: try reader.flag("bias", default: true) ? try values("linear.bias", [outputs]) : nil)
  }

  func apply(_ x: Matrix) -> Matrix {
    var result = linear.apply(x)
    activation?.apply(&result)
    return result
  }
}

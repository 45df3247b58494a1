// Layers and norms of a network out of a checkpoint, with the names of all tensors that were read.

public import Checkpoints
import Encodings
public import JSONDocuments
import Tensors

/// Reads the parts of a network, and remembers what it read.
struct PartReader {
  let checkpoint: any Checkpoint
  /// Stands before every name, such as `roberta.`.
  let root: String
  /// Tensors that were read, or that are known and left alone.
  private(set) var names: Set<String> = []

  init(_ checkpoint: any Checkpoint, root: String = "") {
    self.checkpoint = checkpoint
    self.root = root
  }

  /// Tensors that the network knows and does not need, by their full names.
  mutating func leaveAlone(_ names: some Sequence<String>) { self.names.formUnion(names) }

  /// A linear layer `[outputs, inputs]`.
  mutating func linear(
    _ name: String, _ outputs: Int, _ inputs: Int, bias: Bool
  ) throws(CheckpointError) -> Linear {
    names.insert(root + name + ".weight")
    if bias { names.insert(root + name + ".bias") }
    return Linear(
      name: root + name,
      matrix: try checkpoint.weight(root + name + ".weight", outputs: outputs, inputs: inputs),
      bias: bias ? try checkpoint.vector(root + name + ".bias", count: outputs) : nil)
  }

  /// A linear layer with a bias whose weight is stored as `[inputs, outputs]`.
  mutating func turnedLinear(
    _ name: String, _ outputs: Int, _ inputs: Int
  ) throws(CheckpointError) -> Linear {
    let name = root + name
    names.formUnion([name + ".weight", name + ".bias"])
    guard let layout = MatrixLayout(shape: [inputs, outputs], axes: [1, 0]) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: name, .unsupported("\(inputs) x \(outputs) weights"))
    }
    return Linear(
      name: name, matrix: try checkpoint.weight(name + ".weight", layout: layout),
      bias: try checkpoint.vector(name + ".bias", count: outputs), layout: layout)
  }

  /// RMSNorm with its weight.
  mutating func rmsNorm(
    _ name: String, _ width: Int, epsilon: Float, offset: Float = 0
  ) throws(CheckpointError) -> RMSNorm {
    let weightName = root + name + ".weight"
    names.insert(weightName)
    return RMSNorm(
      weightName: weightName, weight: try checkpoint.vector(weightName, count: width),
      epsilon: epsilon, offset: offset)
  }

  /// LayerNorm with weight and bias.
  mutating func layerNorm(
    _ name: String, _ width: Int, epsilon: Float
  ) throws(CheckpointError) -> LayerNorm {
    let name = root + name
    names.formUnion([name + ".weight", name + ".bias"])
    return LayerNorm(
      weightName: name + ".weight", biasName: name + ".bias",
      weight: try checkpoint.vector(name + ".weight", count: width),
      bias: try checkpoint.vector(name + ".bias", count: width), epsilon: epsilon)
  }
}

extension Checkpoint {
  /// A side file as JSON.
  ///
  /// - Throws: `CheckpointError` when there is none of this name, or it is no JSON.
  public func sideJSON(_ name: String) throws(CheckpointError) -> JSONValue {
    let path = self.path + "/" + name
    guard let bytes = try? sideFile(name) else {
      throw CheckpointError(path: path, .missingFile(name))
    }
    do throws(JSONError) {
      return try JSONValue(parsing: bytes)
    } catch {
      throw CheckpointError(path: path, .badHeader(error))
    }
  }
}

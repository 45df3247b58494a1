// Changes of a model's tensors that leave the model's function as it is: factors moved from one side of a product
// to the other.

import Checkpoints
import JSONDocuments
import Networks
import Tensors

/// Tensors on their way to an equivalent model. Each edit sees what the edits before it have left.
struct TensorEdits {
  private let source: any Checkpoint
  private var matrices: [String: Matrix] = [:]
  private var vectors: [String: [Float]] = [:]
  /// Tensors that the source does not have.
  private var added: [String] = []
  /// The weights whose types added ones take.
  private var models: [String: String] = [:]
  /// Keys of the configuration with new values.
  private var keys: [(key: String, value: JSONValue)] = []

  /// No edits yet.
  init(_ source: any Checkpoint) { self.source = source }

  /// A layer's weight as it is by now.
  func weight(_ linear: Linear) -> Matrix { matrices[linear.weightName] ?? linear.matrix.decoded() }

  /// Replaces a layer's weight.
  mutating func setWeight(_ linear: Linear, _ weight: Matrix) {
    matrices[linear.weightName] = weight
  }

  /// Replaces a layer's bias.
  mutating func setBias(_ linear: Linear, _ bias: [Float]) { vectors[linear.biasName] = bias }

  /// A layer's bias as it is by now; nil when it has none.
  func bias(_ linear: Linear) -> [Float]? { linear.bias.map { vectors[linear.biasName] ?? $0 } }

  /// A norm's weight as it is by now.
  func norm(_ name: String) throws -> [Float] {
    if let own = vectors[name] { return own }
    return try source.vector(name, count: source.tensorType(name)?.shape.reduce(1, *) ?? 0)
  }

  /// Leaves what makes a group's inputs as it is, in float32 as if it had been changed: the sizes of files must not
  /// depend on what is found.
  mutating func keep(_ input: InputSource) throws {
    if case .norm(let name) = input { setNorm(name, try norm(name)) }
    if let linear = input.layer?.linear, let bias = bias(linear) { setBias(linear, bias) }
  }

  /// Replaces a norm's weight.
  mutating func setNorm(_ name: String, _ weight: [Float]) { vectors[name] = weight }

  /// Gives a layer that shares another one's matrix a matrix of its own, of the same type.
  mutating func add(_ name: String, _ matrix: Matrix, like linear: Linear) {
    matrices[name] = matrix
    models[name] = linear.weightName
    if !source.holds(name) { added.append(name) }
  }

  /// Sets a key of the configuration.
  mutating func set(_ key: String, to value: JSONValue) { keys.append((key, value)) }

  /// Multiplies what a group reads: its layers by `factors` a channel, and their source by the inverse.
  ///
  /// - Parameter factors: One for each channel; channels that come from one row of a layer have the same.
  mutating func scaleInputs(
    of group: [Linear], from input: InputSource, by factors: [Float]
  ) throws {
    switch input {
    case .fixed: preconditionFailure("a source that takes no factor")
    case .norm(let name):
      setNorm(name, zip(try norm(name), factors).map { $0 / $1 })
    case .rows, .values:
      guard let (linear, rows) = input.layer else { return }
      var rowFactors = [Float](repeating: 1, count: linear.matrix.outputs)
      for (channel, row) in rows.enumerated() { rowFactors[row] = 1 / factors[channel] }
      var weight = weight(linear)
      ParallelLoop.overRows(of: &weight.values, rowLength: weight.columns, blockRows: 64) {
        block, part in
        for (index, row) in block.enumerated() {
          for i in index * weight.columns..<(index + 1) * weight.columns {
            part[i] *= rowFactors[row]
          }
        }
      }
      setWeight(linear, weight)
      if let bias = bias(linear) { setBias(linear, zip(bias, rowFactors).map { $0 * $1 }) }
    }
    for linear in group { setWeight(linear, weight(linear).columnsScaled(by: factors)) }
  }

  /// The checkpoint after all edits. Vectors are float32. So are matrices that a stage will encode, and those that
  /// were encoded; others keep the type that they are stored in, rounded once.
  ///
  /// - Parameter encoded: Weights that the stage will encode.
  func checkpoint(encoding encoded: Set<String>) -> TransformedCheckpoint {
    var changed: [String: Tensor] = [:]
    for (name, values) in vectors {
      changed[name] = Tensor(.float32, shape: [values.count], copying: values)
    }
    for (name, matrix) in matrices {
      let tensor = Tensor(
        .float32, shape: [matrix.rows, matrix.columns], copying: matrix.values)
      let stored = source.tensorType(models[name] ?? name)?.dtype
      let keeps = !encoded.contains(name) && stored?.isFloat == true
      changed[name] = keeps ? tensor.converted(to: stored ?? .float32) : tensor
    }
    return TransformedCheckpoint(source, changed: changed, added: added, configuration: keys)
  }
}

extension Matrix {
  /// The matrix with each column multiplied by its factor.
  func columnsScaled(by factors: [Float]) -> Matrix {
    precondition(factors.count == columns)
    var result = self
    let columns = columns
    ParallelLoop.overRows(of: &result.values, rowLength: columns, blockRows: 64) { rows, part in
      for row in 0..<rows.count {
        for column in 0..<columns { part[row * columns + column] *= factors[column] }
      }
    }
    return result
  }
}

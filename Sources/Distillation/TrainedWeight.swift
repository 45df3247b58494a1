// A weight matrix in training: what its parameters are, how they make the matrix of the forward pass, and how the
// matrix's gradient becomes theirs. Every kind of training is a conformer; the forward pass is the network's own.

public import Encodings
public import Networks
public import Tensors

/// What training has made of a weight.
public enum TrainedTensor: Sendable {
  /// Floats `[outputs, inputs]`, stored as the checkpoint stores them.
  case floats(Matrix)
  /// Codes.
  case encoded(EncodedMatrix)
}

/// A weight whose parameters are trained.
public protocol TrainedWeight: AnyObject {
  /// The layer that uses the matrix.
  var layer: Linear { get }
  /// What the optimizer changes.
  var parameters: [TrainedParameter] { get }
  /// Puts the matrix of the present parameters into the layer.
  func attach()
  /// Takes it out, so that parameters change in place.
  func detach()
  /// Adds a part of the gradient of the matrix.
  func receive(_ gradient: ParameterGradient)
  /// Turns what was received into the gradients of the parameters.
  func finishGradients()
  /// What is to be stored.
  func result() -> TrainedTensor
}

extension ParameterGradient {
  /// Adds the part to the gradient of a whole matrix.
  func add(to sum: inout Matrix, precision: ProductPrecision) {
    switch self {
    case .product(let inputs, let outputs):
      sum.addTransposedProduct(outputs, inputs, precision: precision)
    case .rows(let tokens, let gradients):
      let columns = gradients.columns
      for (row, token) in tokens.enumerated() {
        let source = gradients.values.span.extracting(gradients.range(ofRow: row))
        var values = sum.values.mutableSpan
        var target = values._mutatingExtracting(Int(token) * columns..<(Int(token) + 1) * columns)
        for i in source.indices { target[i] += source[i] }
      }
    case .matrix(let gradient): sum.add(gradient)
    case .vector: preconditionFailure("a vector's gradient for a matrix")
    }
  }
}

/// Collects the gradient of a whole matrix `[outputs, inputs]`.
struct MatrixGradient {
  private let outputs, inputs: Int
  private let precision: ProductPrecision
  private var sum: Matrix?

  init(outputs: Int, inputs: Int, precision: ProductPrecision) {
    self.outputs = outputs
    self.inputs = inputs
    self.precision = precision
  }

  mutating func receive(_ gradient: ParameterGradient) {
    if sum == nil, case .product(let inputs, let outputs) = gradient {
      sum = outputs.transposedProduct(inputs, precision: precision)
      return
    }
    var sum = self.sum.take() ?? Matrix(rows: outputs, columns: inputs)
    gradient.add(to: &sum, precision: precision)
    self.sum = sum
  }

  /// The gradient; nil when nothing was received since the last call.
  mutating func take() -> Matrix? { sum.take() }
}

/// A matrix of floats, all of it trained; zeros that are to stay are left out.
final class FullWeight: TrainedWeight {
  let layer: Linear
  private let parameter: TrainedParameter
  private let outputs, inputs: Int
  private let keepsZeros: Bool
  private let precision: ProductPrecision
  private let store: (Matrix) -> TrainedTensor
  private var gradient: MatrixGradient

  var parameters: [TrainedParameter] { [parameter] }

  /// - Parameters:
  ///   - keepsZeros: Weights that are zero stay zero: the matrix was pruned.
  ///   - precision: Of the products with the matrix.
  ///   - store: What becomes of the trained matrix.
  init(
    _ layer: Linear, kind: ParameterKind, keepsZeros: Bool, precision: ProductPrecision = .float32,
    store: @escaping (Matrix) -> TrainedTensor = { .floats($0) }
  ) {
    self.layer = layer
    self.keepsZeros = keepsZeros
    self.precision = precision
    self.store = store
    outputs = layer.matrix.outputs
    inputs = layer.matrix.inputs
    gradient = MatrixGradient(outputs: outputs, inputs: inputs, precision: precision)
    parameter = TrainedParameter(
      layer.weightName, kind, rows: outputs, columns: inputs,
      values: layer.matrix.decoded().values)
  }

  private var matrix: Matrix { Matrix(rows: outputs, columns: inputs, values: parameter.values) }

  func attach() { layer.matrix = DenseMatrix(matrix, precision: precision) }
  func detach() { layer.matrix = DenseMatrix(Matrix(rows: 0, columns: inputs)) }
  func receive(_ part: ParameterGradient) { gradient.receive(part) }

  func finishGradients() {
    guard var sum = gradient.take() else { return }
    if keepsZeros {
      let own = parameter.values
      let values = own.span
      for i in values.indices where values[i] == 0 { sum.values[i] = 0 }
    }
    parameter.gradient = sum.values
  }

  func result() -> TrainedTensor { store(matrix) }
}

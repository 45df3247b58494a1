// Muon: the momentum of a matrix, made nearly orthogonal before it is added. Everything that is no matrix of a branch
// takes AdamW's steps.
//
// Source   Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the quintic iteration and its
//          coefficients); Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv:2502.16982, section 2.2: steps
//          times 0.2 sqrt(max(rows, columns)), so that AdamW's learning rates and decay fit
// Cost     15 products of the matrix with its smaller side a step
// Checked  OptimizerTests: the singular values of a step lie within 0.7 and 1.2

import Tensors

/// Muon's momentum, and AdamW for the rest.
final class Muon: Optimizer {
  static let stateNames = ["mean", "square"]
  private let rest: AdamW
  /// Matrices use the first array alone.
  var state: [[[Float]]] {
    get { rest.state }
    set { rest.state = newValue }
  }
  private static let momentum: Float = 0.95

  init(_ parameters: [TrainedParameter], _ options: TrainingOptions) {
    rest = AdamW(parameters, options)
    for (index, parameter) in parameters.enumerated() where parameter.kind == .matrix {
      rest.state[index][1] = []
    }
  }

  func step(_ parameter: TrainedParameter, at index: Int, _ step: OptimizerStep) {
    guard parameter.kind == .matrix else { return rest.step(parameter, at: index, step) }
    var mean: [Float] = []
    swap(&mean, &rest.state[index][0])
    let scale = Float(step.gradientScale)
    var direction = Matrix(rows: parameter.rows, columns: parameter.columns)
    let gradients = parameter.gradient
    let gradient = gradients.span
    var means = mean.mutableSpan
    // Nesterov's form: the gradient once more on top of the momentum it is already in.
    for i in gradient.indices {
      let own = gradient[i] * scale
      means[i] = Self.momentum * means[i] + own
      direction.values[i] = own + Self.momentum * means[i]
    }
    swap(&mean, &rest.state[index][0])
    let orthogonal = Self.orthogonalized(direction)
    let size = 0.2 * Double(max(parameter.rows, parameter.columns)).squareRoot()
    let rate = Float(step.rate * size), decay = Float(step.rate * step.decay)
    parameter.update { values in
      var target = values.mutableSpan
      let source = orthogonal.values.span
      for i in source.indices { target[i] -= rate * source[i] + decay * target[i] }
    }
  }

  /// Five steps of the quintic Newton–Schulz iteration towards U Vᵀ of X = U S Vᵀ.
  static func orthogonalized(_ matrix: Matrix) -> Matrix {
    let isTall = matrix.rows > matrix.columns
    var x = isTall ? matrix.transposed() : matrix
    var squares = 0.0
    for value in x.values { squares += Double(value) * Double(value) }
    guard squares > 0 else { return matrix }
    x = x.scaled(by: Float(1 / (squares.squareRoot() + 1e-7)))
    for _ in 0..<5 {
      let a = DenseMatrix(x).apply(to: x)
      var b = a.scaled(by: -4.7750)
      b.add(DenseMatrix(a).apply(to: a).scaled(by: 2.0315))
      var next = x.scaled(by: 3.4445)
      next.add(DenseMatrix(x.transposed()).apply(to: b))
      x = next
    }
    return isTall ? x.transposed() : x
  }
}

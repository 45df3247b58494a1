// AdamW: steps of the gradient's running mean over the root of its running mean square; weight decay beside it.
//
// Source   Kingma and Ba, "Adam", ICLR 2015, arXiv:1412.6980, Algorithm 1; Loshchilov and Hutter, "Decoupled Weight
//          Decay Regularization", ICLR 2019, arXiv:1711.05101, Algorithm 2
// Checked  OptimizerTests: the recurrence in Double; PyTorch's steps, a fixture

import Tensors

/// AdamW's moments.
final class AdamW: Optimizer {
  static let stateNames = ["mean", "square"]
  var state: [[[Float]]]
  private let beta1, beta2: Double

  init(_ parameters: [TrainedParameter], _ options: TrainingOptions) {
    beta1 = options.beta1
    beta2 = options.beta2
    state = parameters.map { parameter in
      let zeros = [Float](repeating: 0, count: parameter.values.count)
      return [zeros, zeros]
    }
  }

  func step(_ parameter: TrainedParameter, at index: Int, _ step: OptimizerStep) {
    var own: [[Float]] = [[], []]
    swap(&own, &state[index])
    defer { swap(&own, &state[index]) }
    var mean: [Float] = [], square: [Float] = []
    swap(&mean, &own[0])
    swap(&square, &own[1])
    parameter.update { values in
      OptimizerKernels.adamW(
        &values, mean: &mean, square: &square, gradient: parameter.gradient,
        step: constants(parameter.kind, step))
    }
    swap(&mean, &own[0])
    swap(&square, &own[1])
  }

  private func constants(_ kind: ParameterKind, _ step: OptimizerStep) -> AdamWStep {
    AdamWStep(
      gradientScale: step.gradientScale, rate: step.rate,
      decay: kind.decays ? step.rate * step.decay : 0, beta1: beta1, beta2: beta2,
      count: step.index + 1)
  }
}

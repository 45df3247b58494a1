// Lion: steps of one size in the direction of a running mean's sign.
//
// Source   Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, arXiv:2302.06675, Algorithm 2
// Differs  The betas are Lion's own, 0.9 and 0.99, whatever AdamW's are
// Checked  OptimizerTests: the recurrence in Double

import Tensors

/// Lion's moment.
final class Lion: Optimizer {
  static let stateNames = ["mean"]
  var state: [[[Float]]]

  init(_ parameters: [TrainedParameter], _ options: TrainingOptions) {
    state = parameters.map { [[Float](repeating: 0, count: $0.values.count)] }
  }

  func step(_ parameter: TrainedParameter, at index: Int, _ step: OptimizerStep) {
    var mean: [Float] = []
    swap(&mean, &state[index][0])
    parameter.update { values in
      OptimizerKernels.lion(
        &values, mean: &mean, gradient: parameter.gradient,
        step: LionStep(
          gradientScale: step.gradientScale, rate: step.rate,
          decay: parameter.kind.decays ? step.rate * step.decay : 0))
    }
    swap(&mean, &state[index][0])
  }
}

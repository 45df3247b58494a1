// What every optimizer is, and the registry. Its state is arrays by parameter, so that a run can be saved and goes on to
// the same bits.

import Tensors

/// An optimizer's name in options.
public enum OptimizerName: String, Sendable, CaseIterable {
  case adamw
  case lion
  case muon
}

/// The learning rate of one step and what belongs to it.
public struct OptimizerStep: Sendable {
  /// Steps before this one.
  public var index: Int
  /// The learning rate of this step; a parameter's kind may multiply it.
  public var rate: Double
  /// What multiplies every gradient: one over the samples, and clipping.
  public var gradientScale: Double
  /// Decoupled weight decay, times the learning rate.
  public var decay: Double
}

/// Changes parameters by their gradients.
protocol Optimizer: AnyObject {
  /// Names of the state's arrays for each parameter.
  static var stateNames: [String] { get }
  /// State arrays by parameter, in the order of the names; read and written when a run is saved and resumed.
  var state: [[[Float]]] { get set }
  /// One step of one parameter that has a gradient.
  func step(_ parameter: TrainedParameter, at index: Int, _ step: OptimizerStep)
}

extension OptimizerName {
  /// The optimizer for parameters.
  func make(_ parameters: [TrainedParameter], _ options: TrainingOptions) -> any Optimizer {
    switch self {
    case .adamw: AdamW(parameters, options)
    case .lion: Lion(parameters, options)
    case .muon: Muon(parameters, options)
    }
  }
}

extension ParameterKind {
  /// Matrices and tables decay; norms, biases and grids do not.
  var decays: Bool { self == .matrix || self == .embedding }
}

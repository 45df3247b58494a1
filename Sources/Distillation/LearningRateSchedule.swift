// How the learning rate goes over a run.
//
// Source   cosine: Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv:1608.03983; warmup, stable, decay: Hu et al.,
//          "MiniCPM", 2024, arXiv:2404.06395, section 4
// Checked  OptimizerTests: values at the corners

import Foundation

/// The share of the peak learning rate, step by step.
public struct LearningRateSchedule: Sendable, Equatable {
  /// The shape after the warmup.
  public enum Shape: String, Sendable, CaseIterable {
    /// Half a cosine from the peak to the end.
    case cosine
    /// The peak, then a straight line to the end over the last fifth.
    case wsd
    /// The peak.
    case constant
  }

  /// The shape.
  public var shape: Shape
  /// Steps of the run.
  public var steps: Int
  /// Steps in which the rate rises.
  public var warmup: Int
  /// The last rate as a share of the peak.
  public var end: Double

  /// A schedule.
  public init(_ shape: Shape, steps: Int, warmup: Int, end: Double) {
    self.shape = shape
    self.steps = steps
    self.warmup = warmup
    self.end = end
  }

  /// The share of the peak at a step, counted from 0.
  public func share(at step: Int) -> Double {
    if step < warmup { return Double(step + 1) / Double(warmup) }
    let rest = Double(step - warmup) / Double(max(1, steps - 1 - warmup))
    switch shape {
    case .constant: return 1
    case .cosine: return end + (1 - end) * 0.5 * (1 + cos(Double.pi * min(1, rest)))
    case .wsd:
      let start = 0.8
      return rest < start ? 1 : 1 - (1 - end) * min(1, (rest - start) / (1 - start))
    }
  }
}

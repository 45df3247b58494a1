// Swift's side of the optimizers' steps: whole arrays in, all threads, each value by itself.

import CKernels
import Glibc

/// The constants of one step of AdamW.
public struct AdamWStep: Sendable {
  /// What multiplies gradients.
  public var gradientScale: Double
  /// The learning rate.
  public var rate: Double
  /// The share of the values that goes.
  public var decay: Double
  /// How much of the means stays.
  public var beta1, beta2: Double
  /// Steps, this one included.
  public var count: Int
  /// Added to the root.
  public var epsilon = 1e-8

  /// Constants of a step.
  public init(
    gradientScale: Double, rate: Double, decay: Double, beta1: Double, beta2: Double, count: Int
  ) {
    self.gradientScale = gradientScale
    self.rate = rate
    self.decay = decay
    self.beta1 = beta1
    self.beta2 = beta2
    self.count = count
  }

  fileprivate var constants: kernel_adamw_step {
    kernel_adamw_step(
      gradient_scale: Float(gradientScale), rate: Float(rate), decay: Float(decay),
      beta1: Float(beta1), rest1: Float(1 - beta1), beta2: Float(beta2), rest2: Float(1 - beta2),
      correction1: Float(1 / (1 - pow(beta1, Double(count)))),
      correction2: Float(1 / (1 - pow(beta2, Double(count)))), epsilon: Float(epsilon))
  }
}

/// The constants of one step of Lion.
public struct LionStep: Sendable {
  /// What multiplies gradients.
  public var gradientScale: Double
  /// The learning rate.
  public var rate: Double
  /// The share of the values that goes.
  public var decay: Double
  /// The weight of the mean in the direction, and what stays of it.
  public var beta1 = 0.9, beta2 = 0.99

  /// Constants of a step.
  public init(gradientScale: Double, rate: Double, decay: Double) {
    self.gradientScale = gradientScale
    self.rate = rate
    self.decay = decay
  }

  fileprivate var constants: kernel_lion_step {
    kernel_lion_step(
      gradient_scale: Float(gradientScale), rate: Float(rate), decay: Float(decay),
      beta1: Float(beta1), rest1: Float(1 - beta1), beta2: Float(beta2), rest2: Float(1 - beta2))
  }
}

/// One step of an optimizer over all values of a parameter.
public enum OptimizerKernels {
  /// Values a piece of work has.
  private static let block = 1 << 14

  /// AdamW in place; all arrays have one length.
  public static func adamW(
    _ values: inout [Float], mean: inout [Float], square: inout [Float], gradient: [Float],
    step: AdamWStep
  ) {
    let count = values.count, step = step.constants
    precondition(mean.count == count && square.count == count && gradient.count == count)
    unsafe pieces(&values, &mean, &square) { w, m, v, range in
      unsafe gradient.withUnsafeBufferPointer { g in
        guard let g = g.baseAddress else { return }
        unsafe kernel_adamw(
          w + range.lowerBound, m + range.lowerBound, v + range.lowerBound, g + range.lowerBound,
          range.count, step)
      }
    }
  }

  /// Lion in place; all arrays have one length.
  public static func lion(
    _ values: inout [Float], mean: inout [Float], gradient: [Float], step: LionStep
  ) {
    precondition(mean.count == values.count && gradient.count == values.count)
    let step = step.constants
    var unused: [Float] = []
    unsafe pieces(&values, &mean, &unused) { w, m, _, range in
      unsafe gradient.withUnsafeBufferPointer { g in
        guard let g = g.baseAddress else { return }
        unsafe kernel_lion(
          w + range.lowerBound, m + range.lowerBound, g + range.lowerBound, range.count, step)
      }
    }
  }

  private static func pieces(
    _ a: inout [Float], _ b: inout [Float], _ c: inout [Float],
    _ body: (
      UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>,
      Range<Int>
    ) -> Void
  ) {
    let count = a.count
    guard count > 0 else { return }
    unsafe a.withUnsafeMutableBufferPointer { a in
      unsafe b.withUnsafeMutableBufferPointer { b in
        unsafe c.withUnsafeMutableBufferPointer { c in
          guard let first = a.baseAddress, let second = b.baseAddress else { return }
          let third = unsafe c.baseAddress ?? second
          // SAFETY: the ranges of the pieces are disjoint, and the loop ends before the buffers do.
          nonisolated(unsafe) let pointers = unsafe (first, second, third)
          ParallelLoop.run((count + block - 1) / block) { piece in
            let range = piece * block..<min((piece + 1) * block, count)
            unsafe body(pointers.0, pointers.1, pointers.2, range)
          }
        }
      }
    }
  }
}

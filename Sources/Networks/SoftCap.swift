// Soft-capping: c tanh(x / c) keeps a value within -c…c.
//
// Source   Gemma Team, "Gemma 2", arXiv:2408.00118, section 2; Bello et al., arXiv:1611.09940

import Foundation
import Tensors

/// The function and its slope.
enum SoftCap {
  /// Replaces every value.
  static func apply(_ values: inout [Float], cap: Float) {
    guard !values.isEmpty else { return }
    ParallelLoop.overRows(of: &values, rowLength: 1, blockRows: 4096) { _, part in
      apply(&part, cap: cap)
    }
  }

  static func apply(_ values: inout MutableSpan<Float>, cap: Float) {
    for i in values.indices { values[i] = cap * tanh(values[i] / cap) }
  }

  /// Multiplies a gradient by the slope, `1 − (y / c)²` where y is the capped value.
  static func multiplyBySlope(_ gradient: inout [Float], capped: [Float], cap: Float) {
    for i in gradient.indices {
      let share = capped[i] / cap
      gradient[i] *= 1 - share * share
    }
  }
}

// Functions of single values and of rows, as Keras's layers have them.

import Foundation
import Tensors

/// A function of each value, with its derivative as a function of the value and the result.
final class ValueFunction: PlainLayer {
  private let function: @Sendable (Float) -> Float
  private let derivative: @Sendable (_ x: Float, _ y: Float) -> Float

  var channelRelation: ChannelRelation { .same }

  init(
    _ function: @escaping @Sendable (Float) -> Float,
    derivative: @escaping @Sendable (Float, Float) -> Float
  ) {
    self.function = function
    self.derivative = derivative
  }

  func apply(_ inputs: inout [Matrix]) -> Matrix { applied(to: inputs.removeFirst()) }

  func applied(to x: Matrix) -> Matrix {
    let function = function, derivative = derivative
    let input = x.unrecorded
    var result = input.changedCopy(with: input) { part, x in
      for i in x.indices { part[i] = function(x[i]) }
    }
    let output = result.unrecorded
    result.record = GradientRecord(of: [x.record]) { gradient, _ in
      var gradient = gradient
      for i in gradient.values.indices {
        gradient.values[i] *= derivative(input.values[i], output.values[i])
      }
      return [gradient]
    }
    return result
  }

  /// An activation by Keras's name; nil for another, and for those that are none or not of single values.
  ///
  /// - Parameter isKeras3: Keras 3 has another hard sigmoid than the versions before it.
  static func named(_ name: String, isKeras3: Bool = true) -> ValueFunction? {
    @Sendable func sigmoid(_ x: Float) -> Float { 1 / (1 + Foundation.exp(-x)) }
    switch name {
    case "relu": return .init({ $0 < 0 ? 0 : $0 }, derivative: { x, _ in x > 0 ? 1 : 0 })
    case "relu6": return clamped(slope: 0, maximum: 6)
    case "sigmoid": return .init({ sigmoid($0) }, derivative: { _, y in y * (1 - y) })
    case "hard_sigmoid":
      let slope: Float = isKeras3 ? 1 / 6 : 0.2
      return .init(
        { min(max(slope * $0 + 0.5, 0), 1) },
        derivative: { x, y in y > 0 && y < 1 ? slope : 0 })
    case "leaky_relu": return clamped(slope: 0.2, maximum: .infinity)
    case "tanh": return .init({ Foundation.tanh($0) }, derivative: { _, y in 1 - y * y })
    case "elu": return elu(alpha: 1)
    case "selu":
      let scale: Float = 1.050_701, alpha: Float = 1.673_263_2  // arXiv:1706.02515
      return .init(
        { $0 > 0 ? scale * $0 : scale * alpha * (Foundation.exp($0) - 1) },
        derivative: { x, y in x > 0 ? scale : y + scale * alpha })
    case "softplus":
      return .init(
        { max($0, 0) + Foundation.log1p(Foundation.exp(-abs($0))) },
        derivative: { x, _ in sigmoid(x) })
    case "softsign":
      return .init(
        { $0 / (1 + abs($0)) }, derivative: { x, _ in 1 / ((1 + abs(x)) * (1 + abs(x))) })
    case "exponential": return .init({ Foundation.exp($0) }, derivative: { _, y in y })
    case "swish", "silu":
      return .init(
        { $0 * sigmoid($0) }, derivative: { x, y in y + sigmoid(x) * (1 - y) })
    case "gelu":
      return .init(
        { 0.5 * $0 * (1 + Foundation.erf($0 / Float(2).squareRoot())) },
        derivative: { x, _ in
          0.5 * (1 + Foundation.erf(x / Float(2).squareRoot()))
            + x * Foundation.exp(-x * x / 2) / (2 * Float.pi).squareRoot()
        })
    default: return nil
    }
  }

  /// `slope x` below 0, at most `maximum`.
  static func clamped(slope: Float, maximum: Float) -> ValueFunction {
    .init(
      { $0 < 0 ? slope * $0 : min($0, maximum) },
      derivative: { x, _ in x < 0 ? slope : x < maximum ? 1 : 0 })
  }

  /// `alpha (exp(x) − 1)` below 0.
  static func elu(alpha: Float) -> ValueFunction {
    .init(
      { $0 > 0 ? $0 : alpha * (Foundation.exp($0) - 1) },
      derivative: { x, y in x > 0 ? 1 : y + alpha })
  }
}

/// Softmax over the channels.
final class RowSoftmax: PlainLayer {
  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    var result = x.unrecorded
    for row in 0..<result.rows {
      let range = result.range(ofRow: row)
      var values = result.values.mutableSpan
      var part = values._mutatingExtracting(range)
      RowKernels.softmax(&part, scale: 1)
    }
    let output = result.unrecorded
    result.record = GradientRecord(of: [x.record]) { gradient, _ in
      var gradient = gradient
      for row in 0..<output.rows {
        let range = output.range(ofRow: row)
        var values = gradient.values.mutableSpan
        var part = values._mutatingExtracting(range)
        RowGradients.softmax(&part, probabilities: output.values.span.extracting(range), scale: 1)
      }
      return [gradient]
    }
    return result
  }
}

import Foundation
import Tensors

/// The function between an MLP's matrices.
enum Activation: String {
  case silu
  case swish
  case gelu
  case geluNew = "gelu_new"
  case geluTanh = "gelu_pytorch_tanh"
  /// `x sigmoid(1.702 x)`, the approximation that CLIP uses (Hendrycks and Gimpel, arXiv:1606.08415).
  case quickGelu = "quick_gelu"
  case relu
  case tanh

  static let names = "silu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, tanh"
  private static let quickFactor: Float = 1.702

  /// Applies the function to every value.
  func apply(_ x: inout Matrix) {
    guard !x.values.isEmpty else { return }
    if let record = x.record {
      let input = x.unrecorded
      x = input.changedCopy(with: input) { part, _ in apply(&part) }
      x.record = GradientRecord(of: [record]) { gradient, _ in
        [gradient.changed(with: input) { multiplyByDerivative(&$0, at: $1) }]
      }
      return
    }
    ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: max(32, 8192 / x.columns))
    {
      _, part in
      apply(&part)
    }
  }

  private func apply(_ part: inout MutableSpan<Float>) {
    switch self {
    case .silu, .swish: RowKernels.silu(&part)
    case .gelu: RowKernels.gelu(&part)
    case .geluNew, .geluTanh: RowKernels.geluTanh(&part)
    case .quickGelu:
      for i in part.indices { part[i] *= Self.quickFactor }
      RowKernels.silu(&part)
      for i in part.indices { part[i] /= Self.quickFactor }
    case .relu:
      for i in part.indices {
        let value = part[i]
        part[i] = value < 0 ? 0 : value
      }
    case .tanh: for i in part.indices { part[i] = Foundation.tanh(part[i]) }
    }
  }

  /// `gate = f(gate) * up`.
  func applyGate(_ gate: inout Matrix, up: Matrix) {
    guard !gate.values.isEmpty else { return }
    func multiply(_ part: inout MutableSpan<Float>, _ up: Span<Float>) {
      if self == .silu || self == .swish { return RowKernels.siluMultiply(&part, up) }
      apply(&part)
      for i in up.indices { part[i] *= up[i] }
    }
    guard let record = gateRecord(gate, up: up) else {
      gate = gate.changed(with: up) { multiply(&$0, $1) }
      return
    }
    gate = gate.changedCopy(with: up) { multiply(&$0, $1) }
    gate.record = record
  }

  /// The record of `f(gate) * up`.
  private func gateRecord(_ gate: Matrix, up: Matrix) -> GradientRecord? {
    let input = gate.unrecorded, factor = up.unrecorded
    return GradientRecord(of: [gate.record, up.record]) { gradient, _ in
      // Of the gate: gradient * up * f'(gate). Of up: gradient * f(gate).
      let ofUp = input.changedCopy(with: gradient) { part, gradient in
        apply(&part)
        for i in gradient.indices { part[i] *= gradient[i] }
      }
      var ofGate = gradient.changed(with: factor) { part, factor in
        for i in factor.indices { part[i] *= factor[i] }
      }
      ofGate = ofGate.changed(with: input) { multiplyByDerivative(&$0, at: $1) }
      return [ofGate, ofUp]
    }
  }

  /// Multiplies a gradient by the function's derivative.
  private func multiplyByDerivative(_ gradient: inout MutableSpan<Float>, at x: Span<Float>) {
    switch self {
    case .silu, .swish: RowGradients.silu(&gradient, input: x)
    case .gelu: RowGradients.gelu(&gradient, input: x)
    case .geluNew, .geluTanh: RowGradients.geluTanh(&gradient, input: x)
    case .quickGelu:
      // d/dx silu(a x) / a = silu'(a x).
      var scaled = [Float](repeating: 0, count: x.count)
      for i in x.indices { scaled[i] = x[i] * Self.quickFactor }
      RowGradients.silu(&gradient, input: scaled.span)
    case .relu: for i in x.indices where x[i] <= 0 { gradient[i] = 0 }
    case .tanh:
      for i in x.indices {
        let value = Foundation.tanh(x[i])
        gradient[i] *= 1 - value * value
      }
    }
  }
}

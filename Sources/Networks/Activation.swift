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
      x.record = GradientRecord(of: [record]) { gradient, _ in
        [gradient.changed(with: input) { multiplyByDerivative(&$0, at: $1) }]
      }
    }
    ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: 32) { _, part in
      switch self {
      case .silu, .swish: RowKernels.silu(&part)
      case .gelu: RowKernels.gelu(&part)
      case .geluNew, .geluTanh: RowKernels.geluTanh(&part)
      case .quickGelu:
        for i in part.indices { part[i] *= Self.quickFactor }
        RowKernels.silu(&part)
        for i in part.indices { part[i] /= Self.quickFactor }
      case .relu: for i in part.indices where part[i] < 0 { part[i] = 0 }
      case .tanh: for i in part.indices { part[i] = Foundation.tanh(part[i]) }
      }
    }
  }

  /// `gate = f(gate) * up`.
  func applyGate(_ gate: inout Matrix, up: Matrix) {
    guard !gate.values.isEmpty else { return }
    if gate.record != nil || up.record != nil {
      gate.record = gateRecord(gate, up: up)
    }
    let columns = gate.columns
    if self == .silu || self == .swish {
      ParallelLoop.overRows(of: &gate.values, rowLength: columns, blockRows: 32) { rows, part in
        RowKernels.siluMultiply(
          &part, up.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns))
      }
      return
    }
    let record = gate.record
    gate.record = nil
    apply(&gate)
    gate.record = record
    ParallelLoop.overRows(of: &gate.values, rowLength: columns, blockRows: 32) { rows, part in
      let up = up.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns)
      for i in up.indices { part[i] *= up[i] }
    }
  }

  /// The record of `f(gate) * up`.
  private func gateRecord(_ gate: Matrix, up: Matrix) -> GradientRecord? {
    let input = gate.unrecorded, factor = up.unrecorded
    return GradientRecord(of: [gate.record, up.record]) { gradient, _ in
      var value = input
      apply(&value)
      // Of the gate: gradient * up * f'(gate). Of up: gradient * f(gate).
      let ofUp = value.changed(with: gradient) { part, gradient in
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

extension Matrix {
  /// The matrix after a change of its values that reads those of another of the same size.
  consuming func changed(
    with other: Matrix, _ body: (inout MutableSpan<Float>, Span<Float>) -> Void
  ) -> Matrix {
    precondition(other.rows == rows && other.columns == columns)
    guard !values.isEmpty else { return self }
    let columns = columns
    ParallelLoop.overRows(of: &values, rowLength: columns, blockRows: 32) { rows, part in
      body(
        &part, other.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns))
    }
    return self
  }
}

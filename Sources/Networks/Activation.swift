import Tensors

/// The function between an MLP's matrices.
enum Activation: String {
  case silu
  case swish
  case gelu
  case geluNew = "gelu_new"
  case geluTanh = "gelu_pytorch_tanh"
  case relu

  static let names = "silu, gelu, gelu_new, gelu_pytorch_tanh, relu"

  /// Applies the function to every value.
  func apply(_ x: inout Matrix) {
    guard !x.values.isEmpty else { return }
    ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: 32) { _, part in
      switch self {
      case .silu, .swish: RowKernels.silu(&part)
      case .gelu: RowKernels.gelu(&part)
      case .geluNew, .geluTanh: RowKernels.geluTanh(&part)
      case .relu: for i in part.indices where part[i] < 0 { part[i] = 0 }
      }
    }
  }

  /// `gate = f(gate) * up`.
  func applyGate(_ gate: inout Matrix, up: Matrix) {
    guard !gate.values.isEmpty else { return }
    let columns = gate.columns
    if self == .silu || self == .swish {
      ParallelLoop.overRows(of: &gate.values, rowLength: columns, blockRows: 32) { rows, part in
        RowKernels.siluMultiply(
          &part, up.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns))
      }
      return
    }
    apply(&gate)
    ParallelLoop.overRows(of: &gate.values, rowLength: columns, blockRows: 32) { rows, part in
      let up = up.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns)
      for i in up.indices { part[i] *= up[i] }
    }
  }
}

/// RMSNorm over the last dimension.
struct RMSNorm {
  let weight: [Float]
  let epsilon: Float

  /// Normalizes every `weight.count` values: whole rows, or heads within rows.
  func apply(_ x: inout Matrix) {
    guard !x.values.isEmpty else { return }
    let width = weight.count
    precondition(x.columns % width == 0)
    ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: 32) { _, part in
      for start in stride(from: 0, to: part.count, by: width) {
        var row = part._mutatingExtracting(start..<start + width)
        RowKernels.rmsNorm(&row, weight: weight.span, epsilon: epsilon)
      }
    }
  }

  func applied(to x: Matrix) -> Matrix {
    var result = x
    apply(&result)
    return result
  }
}

/// LayerNorm over the last dimension.
struct LayerNorm {
  let weight: [Float]
  let bias: [Float]
  let epsilon: Float

  func apply(_ x: inout Matrix) {
    guard !x.values.isEmpty else { return }
    ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: 32) { rows, part in
      for index in 0..<rows.count {
        var row = part._mutatingExtracting(index * weight.count..<(index + 1) * weight.count)
        RowKernels.layerNorm(&row, weight: weight.span, bias: bias.span, epsilon: epsilon)
      }
    }
  }
}

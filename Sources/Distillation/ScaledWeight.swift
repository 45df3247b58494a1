// Frozen codes whose grids are trained: the steps, and the zero points where there are some.
//
// Source   Chen et al., "EfficientQAT", 2024, arXiv:2407.11062, section 3.3 (steps alone, end to end); distilled weight
//          quantization, mlx-lm, 2025 (steps and biases by the KL divergence); straight-through gradients:
//          Bengio et al., arXiv:1308.3432
// Given    w = s (c − z) with frozen codes c
// Result   s = s₀ r with r trained from 1; z rounded to a code in the forward pass, its gradient passed through
// Checked  TrainedWeightTests: gradients against central differences

import Networks
import Tensors

/// Frozen codes on trained grids.
final class ScaledWeight: TrainedWeight {
  let layer: Linear
  private var grid: WeightGrid
  private let scales: TrainedParameter
  private let zeros: TrainedParameter?
  private let precision: ProductPrecision
  private var gradient: MatrixGradient

  var parameters: [TrainedParameter] { [scales] + (zeros.map { [$0] } ?? []) }

  /// - Parameter trainsZeros: Whether stored zero points are trained.
  init(
    _ layer: Linear, grid: WeightGrid, trainsZeros: Bool,
    precision: ProductPrecision = .float32
  ) {
    self.layer = layer
    self.grid = grid
    self.precision = precision
    let count = grid.outputs * grid.groups
    scales = TrainedParameter(
      layer.weightName + ":scales", .scale, rows: grid.outputs, columns: grid.groups,
      values: [Float](repeating: 1, count: count))
    zeros =
      trainsZeros && grid.hasZeros
      ? TrainedParameter(
        layer.weightName + ":zeros", .zero, rows: grid.outputs, columns: grid.groups,
        values: grid.zeros) : nil
    gradient = MatrixGradient(outputs: grid.outputs, inputs: grid.inputs, precision: precision)
  }

  /// The zero points as they are stored.
  private var roundedZeros: [Float] {
    zeros?.values.map { min(max($0.rounded(.toNearestOrEven), 0), grid.top) } ?? grid.zeros
  }

  func attach() {
    let zeros = roundedZeros, ratios = scales.values
    var matrix = Matrix(rows: grid.outputs, columns: grid.inputs)
    let inputs = grid.inputs, groups = grid.groups
    ParallelLoop.overRows(of: &matrix.values, rowLength: inputs, blockRows: 16) { rows, part in
      for (index, row) in rows.enumerated() {
        for group in 0..<groups {
          let place = row * groups + group
          let scale = grid.scales[place] * ratios[place], zero = zeros[place]
          let columns = grid.columns(ofGroup: group)
          let codes = grid.codes.span.extracting(
            row * inputs + columns.lowerBound..<row * inputs + columns.upperBound)
          var target = part._mutatingExtracting(
            index * inputs + columns.lowerBound..<index * inputs + columns.upperBound)
          for i in codes.indices { target[i] = scale * (codes[i] - zero) }
        }
      }
    }
    layer.matrix = DenseMatrix(matrix, precision: precision)
  }

  func detach() { layer.matrix = DenseMatrix(Matrix(rows: 0, columns: grid.inputs)) }
  func receive(_ part: ParameterGradient) { gradient.receive(part) }

  func finishGradients() {
    guard let sum = gradient.take() else { return }
    let zeros = roundedZeros, groups = grid.groups, inputs = grid.inputs
    var ofScales = [Float](repeating: 0, count: grid.scales.count), ofZeros = ofScales
    for row in 0..<grid.outputs {
      for group in 0..<groups {
        let place = row * groups + group, zero = zeros[place]
        let columns = grid.columns(ofGroup: group)
        let range = row * inputs + columns.lowerBound..<row * inputs + columns.upperBound
        let codes = grid.codes.span.extracting(range), slopes = sum.values.span.extracting(range)
        var product = 0.0, total = 0.0
        for i in codes.indices {
          product += Double(slopes[i] * (codes[i] - zero))
          total += Double(slopes[i])
        }
        ofScales[place] = Float(product) * grid.scales[place]
        ofZeros[place] = -Float(total) * grid.scales[place] * scales.values[place]
      }
    }
    scales.gradient = ofScales
    self.zeros?.gradient = ofZeros
  }

  func result() -> TrainedTensor {
    var result = grid
    result.zeros = roundedZeros
    for place in result.scales.indices { result.scales[place] *= scales.values[place] }
    return .encoded(result.encoded())
  }
}

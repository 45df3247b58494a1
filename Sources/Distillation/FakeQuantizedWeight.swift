// Quantization-aware training: floats that the forward pass sees rounded, and steps that are learned with them.
//
// Source   straight-through gradients: Bengio et al., arXiv:1308.3432; learned steps: Esser et al., "Learned Step Size
//          Quantization", ICLR 2020, arXiv:1902.08153, equations 1 to 3
// Given    latent weights v, with u = v / s + z: the forward pass sees w = s (clamp(round(u)) − z)
// Result   dv = dw where u lies on the grid, else 0; ds = Σ dw (c − u) on the grid, dw (c − z) beyond it; s = s₀ r
//          with r trained from 1
// Differs  Latent weights may start inside the cells of given codes, at the point nearest to the float weight: the
//          codes of GPTQ are kept, and the gradient knows which way each weight was pushed
// Checked  TrainedWeightTests: the formulas in Double; grids of the result are those of the forward pass

import Networks
import Tensors

/// Latent floats with rounded values in the forward pass.
final class FakeQuantizedWeight: TrainedWeight {
  let layer: Linear
  private let grid: WeightGrid
  private let latent, scales: TrainedParameter
  private let precision: ProductPrecision
  private var gradient: MatrixGradient

  var parameters: [TrainedParameter] { [latent, scales] }

  /// - Parameters:
  ///   - grid: Codes and grids at the start.
  ///   - floats: The weights before they were quantized; nil starts in the middle of each cell.
  init(
    _ layer: Linear, grid: WeightGrid, floats: Matrix?,
    precision: ProductPrecision = .float32
  ) {
    self.layer = layer
    self.grid = grid
    self.precision = precision
    // A weight closer to the edge of its cell than this would leave it at the first step.
    let half: Float = 0.49
    var values = [Float](repeating: 0, count: grid.outputs * grid.inputs)
    for row in 0..<grid.outputs {
      for group in 0..<grid.groups {
        let place = row * grid.groups + group
        let scale = grid.scales[place], zero = grid.zeros[place]
        for column in grid.columns(ofGroup: group) {
          let index = row * grid.inputs + column
          let code = grid.codes[index]
          var u = code
          if let floats, scale != 0 {
            let own = floats.values[index] / scale + zero
            // Beyond the last code there is no edge.
            let low = code == 0 ? -0.5 : code - half
            let high = code == grid.top ? grid.top + 0.5 : code + half
            u = min(max(own, low), high)
          }
          values[index] = scale * (u - zero)
        }
      }
    }
    latent = TrainedParameter(
      layer.weightName, .matrix, rows: grid.outputs, columns: grid.inputs, values: values)
    scales = TrainedParameter(
      layer.weightName + ":scales", .scale, rows: grid.outputs, columns: grid.groups,
      values: [Float](repeating: 1, count: grid.scales.count))
    gradient = MatrixGradient(outputs: grid.outputs, inputs: grid.inputs, precision: precision)
  }

  /// Nearest integers, ties to even: adding 1.5 · 2²³ leaves no bits for a fraction.
  @inline(__always)
  private static func rounded(_ x: Float) -> Float { (x + 12_582_912) - 12_582_912 }

  private func codes(into target: inout MutableSpan<Float>, row: Int, group: Int) {
    let place = row * grid.groups + group, columns = grid.columns(ofGroup: group)
    let scale = grid.scales[place] * scales.values[place], zero = grid.zeros[place]
    let inverse = scale == 0 ? 0 : 1 / scale, top = grid.top, latents = latent.values
    let values = latents.span.extracting(
      row * grid.inputs + columns.lowerBound..<row * grid.inputs + columns.upperBound)
    for i in values.indices {
      let u = values[i] * inverse + zero
      target[i] = Self.rounded(u < 0 ? 0 : u > top ? top : u)
    }
  }

  func attach() {
    var matrix = Matrix(rows: grid.outputs, columns: grid.inputs)
    let inputs = grid.inputs, groups = grid.groups
    ParallelLoop.overRows(of: &matrix.values, rowLength: inputs, blockRows: 16) { rows, part in
      for (index, row) in rows.enumerated() {
        for group in 0..<groups {
          let place = row * groups + group
          let scale = grid.scales[place] * scales.values[place], zero = grid.zeros[place]
          let columns = grid.columns(ofGroup: group)
          var target = part._mutatingExtracting(
            index * inputs + columns.lowerBound..<index * inputs + columns.upperBound)
          codes(into: &target, row: row, group: group)
          for i in target.indices { target[i] = scale * (target[i] - zero) }
        }
      }
    }
    layer.matrix = DenseMatrix(matrix, precision: precision)
  }

  func detach() { layer.matrix = DenseMatrix(Matrix(rows: 0, columns: grid.inputs)) }
  func receive(_ part: ParameterGradient) { gradient.receive(part) }

  func finishGradients() {
    guard var sum = gradient.take() else { return }
    let groups = grid.groups, inputs = grid.inputs, top = grid.top
    var ofScales = [Float](repeating: 0, count: grid.scales.count)
    let slopes = sum, latents = latent.values
    ParallelLoop.parts(
      of: &ofScales, count: grid.outputs, range: { $0 * groups..<($0 + 1) * groups }
    ) { row, part in
      var codes = [Float](repeating: 0, count: min(grid.groupSize, inputs))
      for group in 0..<groups {
        let place = row * groups + group, columns = grid.columns(ofGroup: group)
        let scale = grid.scales[place] * scales.values[place], zero = grid.zeros[place]
        let inverse = scale == 0 ? 0 : 1 / scale
        var span = codes.mutableSpan
        self.codes(into: &span, row: row, group: group)
        let range = row * inputs + columns.lowerBound..<row * inputs + columns.upperBound
        let values = latents.span.extracting(range)
        let slopes = slopes.values.span.extracting(range)
        var total = 0.0
        for i in values.indices {
          let u = values[i] * inverse + zero
          let isInside = u >= -0.5 && u <= top + 0.5
          total += Double(slopes[i] * (isInside ? span[i] - u : span[i] - zero))
        }
        part[group] = Float(total) * grid.scales[place]
      }
    }
    ParallelLoop.overRows(of: &sum.values, rowLength: inputs, blockRows: 16) { rows, part in
      for (index, row) in rows.enumerated() {
        for group in 0..<groups {
          let place = row * groups + group, columns = grid.columns(ofGroup: group)
          let scale = grid.scales[place] * scales.values[place], zero = grid.zeros[place]
          let inverse = scale == 0 ? 0 : 1 / scale
          let values = latents.span.extracting(
            row * inputs + columns.lowerBound..<row * inputs + columns.upperBound)
          var slopes = part._mutatingExtracting(
            index * inputs + columns.lowerBound..<index * inputs + columns.upperBound)
          for i in values.indices {
            let u = values[i] * inverse + zero
            slopes[i] = u >= -0.5 && u <= top + 0.5 ? slopes[i] : 0
          }
        }
      }
    }
    latent.gradient = sum.values
    scales.gradient = ofScales
  }

  func result() -> TrainedTensor {
    var result = grid
    for row in 0..<grid.outputs {
      for group in 0..<grid.groups {
        let columns = grid.columns(ofGroup: group)
        var all = result.codes.mutableSpan
        var target = all._mutatingExtracting(
          row * grid.inputs + columns.lowerBound..<row * grid.inputs + columns.upperBound)
        codes(into: &target, row: row, group: group)
      }
    }
    for place in result.scales.indices { result.scales[place] *= scales.values[place] }
    return .encoded(result.encoded())
  }
}

// Convolutions: linear layers that multiply the windows of images.

public import Tensors

/// The windows that a convolution multiplies.
public struct ImageWindows: Sendable {
  /// How the window moves.
  public let geometry: PatchGeometry
  /// Groups of channels, each seen by its own share of the outputs.
  public let groups: Int

  /// Windows over images.
  public init(_ geometry: PatchGeometry, groups: Int = 1) {
    self.geometry = geometry
    self.groups = groups
  }
}

extension Linear {
  /// The convolution of images, with a record of the way back: windows are unfolded a second time there.
  func apply(toWindows windows: ImageWindows, of x: Matrix) -> Matrix {
    let geometry = windows.geometry, groups = windows.groups
    var result = matrix.apply(toPatchesOf: x, geometry, groups: groups, bias: bias)
    guard let record = x.record else { return result }
    let x = x.unrecorded, matrix = matrix, weightName = weightName
    let biasName = bias == nil ? nil : biasName
    result.record = GradientRecord(of: [record]) { gradient, observer in
      if let biasName, observer.wants(biasName) {
        observer.receive(biasName, .vector(gradient.columnSums()))
      }
      let wants = observer.wants(weightName)
      if groups == 1 {
        let parts = BlockedGradients(
          matrix: matrix, gradient: gradient, input: x, geometry, wantsWeights: wants)
        if let weights = parts.weights { observer.receive(weightName, .matrix(weights)) }
        return [parts.images]
      }
      let patches = wants ? x.patches(geometry, groups: groups) : nil
      let parts = GroupedGradients(
        matrix: matrix, gradient: gradient, patches: patches, groups: groups)
      if let weights = parts.weights { observer.receive(weightName, .matrix(weights)) }
      return [parts.windows.folded(geometry, groups: groups)]
    }
    record.tape.offer(name, result)
    return result
  }
}

/// The backward pass of a convolution, a few images at a time: their windows stay in the cache, and a few outputs over many
/// pixels still keep every thread busy.
private struct BlockedGradients {
  /// Of the images, `[images * pixels, channels]`.
  let images: Matrix
  /// Of the weight, `[outputs, inputs]`; nil where nobody wants it.
  let weights: Matrix?

  /// Numbers of the windows of a block, which follow from no number of threads.
  private static let blockValues = 1 << 18

  init(
    matrix: any LinearOperator, gradient: Matrix, input x: Matrix, _ geometry: PatchGeometry,
    wantsWeights: Bool
  ) {
    let images = x.rows / geometry.pixels
    let step = max(1, Self.blockValues / max(1, geometry.outPixels * matrix.inputs))
    let parts = ParallelLoop.map((images + step - 1) / step) { block in
      let range = block * step..<min((block + 1) * step, images)
      let own = gradient.rows(
        range.lowerBound * geometry.outPixels..<range.upperBound * geometry.outPixels)
      let weights =
        wantsWeights
        ? own.transposedProduct(
          x.rows(range.lowerBound * geometry.pixels..<range.upperBound * geometry.pixels)
            .patches(geometry)) : nil
      return (images: matrix.applyTransposed(to: own).folded(geometry), weights: weights)
    }
    self.images = Matrix.stack(parts.map { $0.images })
    var sum: Matrix?
    for part in parts {
      guard let weights = part.weights else { break }
      sum?.add(weights)
      sum = sum ?? weights
    }
    weights = sum
  }
}

/// The backward pass of a convolution whose groups of outputs see groups of channels.
private struct GroupedGradients {
  /// Of the windows, as `Matrix.patches` gives them: `[outPixels * groups, inputs]`.
  let windows: Matrix
  /// Of the weight, `[outputs, inputs]`; nil where nobody wants it.
  let weights: Matrix?

  /// - Parameters:
  ///   - gradient: Of the result, `[outPixels, outputs]`.
  ///   - patches: The windows, or nil.
  init(matrix: any LinearOperator, gradient: Matrix, patches: Matrix?, groups: Int) {
    let own = matrix.outputs / groups, inputs = matrix.inputs, outputs = matrix.outputs
    let weight = matrix.decoded()
    var windows = Matrix(rows: gradient.rows * groups, columns: inputs)
    ParallelLoop.overRows(of: &windows.values, rowLength: inputs * groups, blockRows: 16) {
      rows, part in
      for (index, row) in rows.enumerated() {
        for output in 0..<outputs {
          let g = gradient.values[row * outputs + output]
          let start = (index * groups + output / own) * inputs
          for i in 0..<inputs { part[start + i] += g * weight.values[output * inputs + i] }
        }
      }
    }
    self.windows = windows
    guard let patches else {
      weights = nil
      return
    }
    var sums = Matrix(rows: outputs, columns: inputs)
    ParallelLoop.overRows(of: &sums.values, rowLength: inputs, blockRows: 1) { output, part in
      let group = output.lowerBound / own
      for row in 0..<gradient.rows {
        let g = gradient.values[row * outputs + output.lowerBound]
        let start = (row * groups + group) * inputs
        for i in 0..<inputs { part[i] += g * patches.values[start + i] }
      }
    }
    weights = sums
  }
}

// The norms of the networks, with their backward passes.

import Tensors

/// RMSNorm over the last dimension.
struct RMSNorm {
  /// The weight's name in the checkpoint.
  let weightName: String
  var weight: [Float]
  let epsilon: Float
  /// Added to the weight: 1 where a checkpoint stores the distance from it, as Gemma does.
  var offset: Float = 0

  /// What a normalized value is multiplied by.
  private var factors: [Float] { offset == 0 ? weight : weight.map { $0 + offset } }

  /// Normalizes every `weight.count` values: whole rows, or heads within rows.
  func apply(_ x: inout Matrix) {
    guard !x.values.isEmpty else { return }
    let width = weight.count
    precondition(x.columns % width == 0)
    let factors = factors
    func normalize(_ part: inout MutableSpan<Float>) {
      for start in stride(from: 0, to: part.count, by: width) {
        var row = part._mutatingExtracting(start..<start + width)
        RowKernels.rmsNorm(&row, weight: factors.span, epsilon: epsilon)
      }
    }
    guard let record = x.record else {
      ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: 32) { _, part in
        normalize(&part)
      }
      return
    }
    let input = x.unrecorded
    x = input.changedCopy(with: input) { part, _ in normalize(&part) }
    x.record = GradientRecord(of: [record]) { gradient, observer in
      if observer.wants(weightName) {
        observer.receive(weightName, .vector(weightGradient(gradient, input)))
      }
      return [inputGradient(gradient, input)]
    }
  }

  func applied(to x: Matrix) -> Matrix {
    var result = x
    apply(&result)
    return result
  }

  private func inputGradient(_ gradient: consuming Matrix, _ input: Matrix) -> Matrix {
    let width = weight.count, factors = factors
    return gradient.changed(with: input) { part, input in
      for start in stride(from: 0, to: part.count, by: width) {
        var row = part._mutatingExtracting(start..<start + width)
        RowGradients.rmsNorm(
          &row, input: input.extracting(start..<start + width), weight: factors.span,
          epsilon: epsilon)
      }
    }
  }

  private func weightGradient(_ gradient: Matrix, _ input: Matrix) -> [Float] {
    let width = weight.count
    var sum = [Double](repeating: 0, count: width)
    for start in stride(from: 0, to: input.values.count, by: width) {
      var target = sum.mutableSpan
      RowGradients.addRMSNormWeight(
        gradient.values.span.extracting(start..<start + width),
        input: input.values.span.extracting(start..<start + width), epsilon: epsilon, to: &target)
    }
    return sum.map { Float($0) }
  }
}

/// LayerNorm over the last dimension.
struct LayerNorm {
  /// The names in the checkpoint; nil where the vector is none of it.
  let weightName, biasName: String?
  var weight: [Float]
  var bias: [Float]
  let epsilon: Float

  func apply(_ x: inout Matrix) {
    guard !x.values.isEmpty else { return }
    if let record = x.record {
      let input = x.unrecorded
      x.record = GradientRecord(of: [record]) { gradient, observer in
        backward(gradient, input, observer)
      }
    }
    ParallelLoop.overRows(of: &x.values, rowLength: x.columns, blockRows: 32) { rows, part in
      for index in 0..<rows.count {
        var row = part._mutatingExtracting(index * weight.count..<(index + 1) * weight.count)
        RowKernels.layerNorm(&row, weight: weight.span, bias: bias.span, epsilon: epsilon)
      }
    }
  }

  func applied(to x: Matrix) -> Matrix {
    var result = x
    apply(&result)
    return result
  }

  private func backward(
    _ gradient: consuming Matrix, _ input: Matrix, _ observer: any GradientObserver
  ) -> [Matrix] {
    let width = weight.count
    var normalized = input
    var inverses = [Float](repeating: 0, count: input.rows)
    for row in 0..<input.rows {
      var values = normalized.values.mutableSpan
      var target = values._mutatingExtracting(row * width..<(row + 1) * width)
      inverses[row] = RowGradients.normalize(&target, epsilon: epsilon)
    }
    if let biasName, observer.wants(biasName) {
      observer.receive(biasName, .vector(gradient.columnSums()))
    }
    if let weightName, observer.wants(weightName) {
      let product = normalized.changed(with: gradient) { part, gradient in
        for i in gradient.indices { part[i] *= gradient[i] }
      }
      observer.receive(weightName, .vector(product.columnSums()))
    }
    ParallelLoop.overRows(of: &gradient.values, rowLength: width, blockRows: 32) { rows, part in
      for (index, row) in rows.enumerated() {
        var target = part._mutatingExtracting(index * width..<(index + 1) * width)
        RowGradients.layerNorm(
          &target, normalized: normalized.values.span.extracting(row * width..<(row + 1) * width),
          inverse: inverses[row], weight: weight.span)
      }
    }
    return [gradient]
  }
}

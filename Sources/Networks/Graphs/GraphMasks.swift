// Masks: which steps of time count. A mask is a result like others, `[steps, 1]` of 1 and 0.
//
// Source   keras/src/layers/core/embedding.py and masking.py, rnn.py and pooling/global_average_pooling1d.py of Keras 3.15

import Tensors

/// Where ids are not 0.
final class IdMask: PlainLayer {
  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    return Matrix(rows: x.values.count, columns: 1, values: x.values.map { $0 != 0 ? 1 : 0 })
  }
}

/// Where values are another number than one.
final class Difference: PlainLayer {
  let value: Float

  init(_ value: Float) { self.value = value }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    return Matrix(
      rows: x.rows, columns: x.columns, values: x.values.map { $0 != value ? 1 : 0 })
  }
}

/// Where rows have any other number than one.
final class RowMask: PlainLayer {
  let value: Float

  init(_ value: Float) { self.value = value }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    return Matrix(
      rows: x.rows, columns: 1,
      values: (0..<x.rows).map { row in
        x.values[x.range(ofRow: row)].contains { $0 != value } ? 1 : 0
      })
  }
}

/// Rows, and zeros where the mask is 0; the second input is the mask.
final class MaskedRows: PlainLayer {
  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let mask = inputs.removeLast(), x = inputs.removeFirst()
    return x.replacing(Matrix(rows: x.rows, columns: x.columns), where: mask.values)
  }
}

/// The mean of the rows of a sample that count; the second input is the mask.
final class MaskedMean: PlainLayer {
  let steps: Int

  init(steps: Int) { self.steps = steps }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let mask = inputs.removeLast(), x = inputs.removeFirst(), steps = steps
    let samples = x.rows / steps
    var means = Matrix(rows: samples, columns: x.columns)
    // Of no rows 0 / 0, as in Keras.
    let factors = (0..<samples).map { sample in
      1 / mask.values[sample * steps..<(sample + 1) * steps].reduce(0, +)
    }
    for row in 0..<x.rows where mask.values[row] != 0 {
      let target = row / steps * x.columns, source = row * x.columns
      for i in 0..<x.columns { means.values[target + i] += x.values[source + i] }
    }
    for sample in 0..<samples {
      for i in means.range(ofRow: sample) { means.values[i] *= factors[sample] }
    }
    means.record = GradientRecord(of: [x.record]) { gradient, _ in
      var back = Matrix(rows: samples * steps, columns: gradient.columns)
      for row in 0..<back.rows where mask.values[row] != 0 {
        let source = row / steps * gradient.columns, target = row * gradient.columns
        for i in 0..<gradient.columns {
          back.values[target + i] = gradient.values[source + i] * factors[row / steps]
        }
      }
      return [back]
    }
    return means
  }
}

extension Matrix {
  /// Rows of `other` in place of those where the mask is 0.
  func replacing(_ other: Matrix, where mask: [Float]) -> Matrix {
    precondition(mask.count == rows && other.rows == rows && other.columns == columns)
    var result = unrecorded
    for row in 0..<rows where mask[row] == 0 {
      let range = range(ofRow: row)
      result.values.replaceSubrange(range, with: other.values[range])
    }
    result.record = GradientRecord(of: [record, other.record]) { gradient, _ in
      var own = Matrix(rows: gradient.rows, columns: gradient.columns), others = own
      for row in 0..<gradient.rows {
        let range = gradient.range(ofRow: row)
        if mask[row] != 0 {
          own.values.replaceSubrange(range, with: gradient.values[range])
        } else {
          others.values.replaceSubrange(range, with: gradient.values[range])
        }
      }
      return [own, others]
    }
    return result
  }
}

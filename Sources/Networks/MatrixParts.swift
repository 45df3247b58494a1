// Some rows of matrices, with the way back of their gradients.

import Tensors

extension Matrix {
  /// Some rows by their numbers, none twice.
  func gathered(_ picked: [Int]) -> Matrix {
    var result = Matrix(rows: picked.count, columns: columns)
    for (place, row) in picked.enumerated() {
      result.values.replaceSubrange(result.range(ofRow: place), with: values[range(ofRow: row)])
    }
    if let record {
      let height = rows
      result.record = GradientRecord(of: [record]) { gradient, _ in
        var whole = Matrix(rows: height, columns: gradient.columns)
        for (place, row) in picked.enumerated() {
          whole.values.replaceSubrange(
            whole.range(ofRow: row), with: gradient.values[gradient.range(ofRow: place)])
        }
        return [whole]
      }
    }
    return result
  }

  /// Adds rows of `part`, each times its weight, to some rows of this matrix, none twice.
  ///
  /// - Parameters:
  ///   - part: `[picked, columns]`.
  ///   - weights: One column of it holds the factors, by the rows of this matrix.
  mutating func add(_ part: Matrix, toRows picked: [Int], weights: Matrix, column: Int) {
    precondition(part.rows == picked.count && part.columns == columns && weights.rows == rows)
    for (place, row) in picked.enumerated() {
      let weight = weights.values[row * weights.columns + column]
      let from = place * columns, to = row * columns
      for index in 0..<columns { values[to + index] += weight * part.values[from + index] }
    }
    guard record != nil || part.record != nil || weights.record != nil else { return }
    let own = part.unrecorded, factors = weights.unrecorded
    record = GradientRecord(of: [record, part.record, weights.record]) { gradient, _ in
      var ofPart = Matrix(rows: own.rows, columns: own.columns)
      var ofWeights = Matrix(rows: factors.rows, columns: factors.columns)
      for (place, row) in picked.enumerated() {
        let weight = factors.values[row * factors.columns + column]
        let from = row * own.columns, to = place * own.columns
        var sum = 0.0
        for index in 0..<own.columns {
          let slope = gradient.values[from + index]
          ofPart.values[to + index] = weight * slope
          sum += Double(slope) * Double(own.values[to + index])
        }
        ofWeights.values[row * factors.columns + column] = Float(sum)
      }
      return [gradient, ofPart, ofWeights]
    }
  }
}

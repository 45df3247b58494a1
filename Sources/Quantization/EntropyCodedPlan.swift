// One pass of entropy-coded GPTQ: everything but the search for the step.

import Encodings
import Glibc
import LinearAlgebra
import Tensors

extension EntropyCodedGPTQ {
  /// A weight with what rounding needs to know.
  struct Plan {
    let weight: Matrix
    /// `[inputs, inputs]`, H.
    let moment: [Float]
    /// `[inputs, inputs]`, U.
    let factor: [Float]
    /// Inputs that are always zero: their weights become 0.
    let isDead: [Bool]
    /// The steps' exponents, eighths of an octave.
    let exponents: [Int]
    let blockSize: Int
    /// Root mean square of the weights of live inputs.
    let deviation: Double

    init(
      weight: Matrix, moment: DoubleMatrix, factor: DoubleMatrix, isDead: [Bool], blockSize: Int
    ) {
      self.isDead = isDead
      self.blockSize = blockSize
      self.factor = factor.values.map { Float($0) }
      // Only quotients count; a power of two near the largest keeps floats in range.
      let largest = moment.diagonal.max() ?? 0
      let scale = largest > 0 ? exp2(-log2(largest).rounded()) : 1
      self.moment = moment.values.map { Float($0 * scale) }
      let logs = factor.diagonal.map { log2($0) }
      let alive = isDead.indices.filter { !isDead[$0] }
      let mean = alive.reduce(0.0) { $0 + logs[$1] } / Double(max(1, alive.count))
      exponents = logs.indices.map { column in
        isDead[column] ? 0 : min(max(Int((8 * (logs[column] - mean)).rounded()), -400), 400)
      }
      var live = weight
      var sum = 0.0
      for row in 0..<weight.rows {
        for column in 0..<weight.columns {
          let index = row * weight.columns + column
          if isDead[column] { live.values[index] = 0 }
          sum += Double(live.values[index]) * Double(live.values[index])
        }
      }
      self.weight = live
      deviation = (sum / Double(max(1, alive.count * weight.rows))).squareRoot()
    }

    private init(_ plan: Plan, weight: Matrix) {
      self.weight = weight
      moment = plan.moment
      factor = plan.factor
      isDead = plan.isDead
      exponents = plan.exponents
      blockSize = plan.blockSize
      deviation = plan.deviation
    }

    /// The same for some rows.
    func sample(rows: [Int]) -> Plan {
      Plan(self, weight: Matrix.stack(rows.map { weight.rows($0..<$0 + 1) }))
    }

    /// Rows that one piece of work rounds: a column of them is one vector.
    private static let rowsAtOnce = 128

    /// Codes and scales for a base of the steps.
    func round(base: Float) -> IntegerCodes {
      let rows = weight.rows, columns = weight.columns
      let steps = IntegerCodes(
        outputs: 0, inputs: columns, codes: [], base: base, exponents: exponents, scales: []
      ).steps
      let pieces = (rows + Self.rowsAtOnce - 1) / Self.rowsAtOnce
      let results = ParallelLoop.map(pieces) { piece in
        let own = piece * Self.rowsAtOnce..<min((piece + 1) * Self.rowsAtOnce, rows)
        let codes = roundPiece(own, steps: steps)
        return (codes: codes, scales: scales(of: codes, own, steps: steps))
      }
      return IntegerCodes(
        outputs: rows, inputs: columns, codes: results.flatMap(\.codes), base: base,
        exponents: exponents, scales: results.flatMap(\.scales))
    }

    /// The codes of some rows, `[rows, columns]`. Column-major inside, so that a column is one vector.
    private func roundPiece(_ range: Range<Int>, steps: [Float]) -> [Int32] {
      let rows = range.count, columns = weight.columns
      let u = factor
      var w = [Float](repeating: 0, count: columns * rows)
      for (index, row) in range.enumerated() {
        for column in 0..<columns {
          w[column * rows + index] = weight.values[row * columns + column]
        }
      }
      var codes = [Int32](repeating: 0, count: columns * rows)
      var errors = [Float](repeating: 0, count: blockSize * rows)
      var codeSpan = codes.mutableSpan
      for start in stride(from: 0, to: columns, by: blockSize) {
        let end = min(start + blockSize, columns)
        for column in start..<end {
          let own = column * rows..<(column + 1) * rows
          let errorRange = (column - start) * rows..<(column - start + 1) * rows
          var columnCodes = codeSpan._mutatingExtracting(own)
          var errorSpan = errors.mutableSpan
          var columnErrors = errorSpan._mutatingExtracting(errorRange)
          roundIntegers(
            w.span.extracting(own), step: steps[column],
            divisor: 1 / u[column * columns + column], codes: &columnCodes, errors: &columnErrors)
          // W[:, j] -= e U[i, j] within the block, at once.
          let error = errors.span.extracting(errorRange)
          var later = w.mutableSpan
          for j in column + 1..<max(end, column + 1) {
            var target = later._mutatingExtracting(j * rows..<(j + 1) * rows)
            RowKernels.add(-u[column * columns + j], times: error, to: &target)
          }
        }
        guard end < columns else { break }
        // W[:, rest] -= E U[block, rest], through BLAS.
        var span = w.mutableSpan
        var rest = span._mutatingExtracting(end * rows..<columns * rows)
        BLAS.addProduct(
          scale: -1, u.span.extracting(start * columns + end..<columns * columns), transposed: true,
          aStride: columns, errors.span, bStride: rows, to: &rest, cStride: rows,
          rows: columns - end, columns: rows, depth: end - start)
      }
      var turned = [Int32](repeating: 0, count: rows * columns)
      for column in 0..<columns where !isDead[column] {
        for row in 0..<rows { turned[row * columns + column] = codes[column * rows + row] }
      }
      return turned
    }

    /// The rows' least-squares scales, as 128 (scale − 1).
    private func scales(of codes: [Int32], _ range: Range<Int>, steps: [Float]) -> [Int] {
      let columns = weight.columns
      guard columns > 0 else { return range.map { _ in 0 } }
      // In units of the largest step and the largest weight: their quotient is near 1 in any case.
      var points = [Float](repeating: 0, count: codes.count)
      for index in codes.indices { points[index] = Float(codes[index]) * steps[index % columns] }
      var products = [Float](repeating: 0, count: codes.count)
      var target = products.mutableSpan
      BLAS.addProduct(
        scale: 1, points.span, transposed: false, aStride: columns, moment.span, bStride: columns,
        to: &target, cStride: columns, rows: range.count, columns: columns, depth: columns)
      return range.enumerated().map { index, row in
        var cross = 0.0, square = 0.0
        for column in 0..<columns {
          let product = Double(products[index * columns + column])
          cross += product * Double(weight.values[row * columns + column])
          square += product * Double(points[index * columns + column])
        }
        guard cross > 0, square > 0 else { return 0 }
        return min(max(Int((128 * (cross / square - 1)).rounded()), -127), 1 << 10)
      }
    }
  }
}

// One pass of entropy-coded GPTQ: everything but the search for the step.

import Encodings
import Glibc
import LinearAlgebra
import Tensors

extension EntropyCodedGPTQ {
  /// A weight with what rounding needs to know.
  struct Plan {
    let weight: Matrix
    /// W H (H + damping I)⁻¹: what is rounded.
    let target: Matrix
    /// `[inputs, inputs]`, H + damping I, and the damping, in units of their own.
    let metric: [Float]
    let damping: Float
    /// W H.
    let cross: [Float]
    /// `[inputs, inputs]`, U.
    let factor: [Float]
    /// Inputs that are always zero: their weights become 0.
    let isDead: [Bool]
    /// The steps' exponents, eighths of an octave.
    let exponents: [Int]
    let blockSize: Int
    /// How often every code is looked at again after rounding.
    let sweeps: Int
    /// Root mean square of the weights of live inputs.
    let deviation: Double

    init(
      weight: Matrix, moment: DoubleMatrix, factor: DoubleMatrix, isDead: [Bool], damping: Double,
      blockSize: Int, sweeps: Int
    ) {
      self.sweeps = sweeps
      self.isDead = isDead
      self.blockSize = blockSize
      self.factor = factor.values.map { Float($0) }
      // Only quotients count; a power of two near the largest keeps floats in range.
      let largest = moment.diagonal.max() ?? 0
      let scale = largest > 0 ? exp2(-log2(largest).rounded()) : 1
      var metric = moment.values.map { Float($0 * scale) }
      for i in 0..<weight.columns { metric[i * weight.columns + i] += Float(damping * scale) }
      self.metric = metric
      self.damping = Float(damping * scale)
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
      target = Self.shrunk(live, factor: factor, damping: damping)
      var cross = [Float](repeating: 0, count: weight.values.count)
      let aim = target.values
      ParallelLoop.overRows(of: &cross, rowLength: weight.columns, blockRows: 64) { rows, part in
        BLAS.addProduct(
          scale: 1,
          aim.span.extracting(rows.lowerBound * live.columns..<rows.upperBound * live.columns),
          transposed: false, aStride: live.columns, metric.span, bStride: live.columns, to: &part,
          cStride: live.columns, rows: rows.count, columns: live.columns, depth: live.columns)
      }
      self.cross = cross
      deviation = (sum / Double(max(1, alive.count * weight.rows))).squareRoot()
    }

    private init(_ plan: Plan, rows: [Int]) {
      weight = Matrix.stack(rows.map { plan.weight.rows($0..<$0 + 1) })
      target = Matrix.stack(rows.map { plan.target.rows($0..<$0 + 1) })
      metric = plan.metric
      damping = plan.damping
      cross = rows.flatMap { plan.cross[$0 * plan.weight.columns..<($0 + 1) * plan.weight.columns] }
      factor = plan.factor
      isDead = plan.isDead
      exponents = plan.exponents
      blockSize = plan.blockSize
      sweeps = plan.sweeps
      deviation = plan.deviation
    }

    /// The same for some rows.
    func sample(rows: [Int]) -> Plan {
      Plan(self, rows: rows)
    }

    /// W − damping · W (H + damping I)⁻¹, which is W H (H + damping I)⁻¹.
    private static func shrunk(_ weight: Matrix, factor: DoubleMatrix, damping: Double) -> Matrix {
      let n = weight.columns
      guard damping > 0, n > 0 else { return weight }
      // Uᵀ U in units of 1 / damping: at most 1.
      let u = factor.values.map { Float($0 * damping.squareRoot()) }
      var turned = u
      for i in 0..<n {
        for j in 0..<n { turned[j * n + i] = u[i * n + j] }
      }
      var result = weight
      ParallelLoop.overRows(of: &result.values, rowLength: n, blockRows: 64) { rows, part in
        var half = [Float](repeating: 0, count: rows.count * n)
        var span = half.mutableSpan
        let own = weight.values.span.extracting(rows.lowerBound * n..<rows.upperBound * n)
        BLAS.addProduct(
          scale: 1, own, transposed: false, aStride: n, turned.span, bStride: n, to: &span,
          cStride: n, rows: rows.count, columns: n, depth: n)
        BLAS.addProduct(
          scale: -1, half.span, transposed: false, aStride: n, u.span, bStride: n, to: &part,
          cStride: n, rows: rows.count, columns: n, depth: n)
      }
      return result
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
        var codes = roundPiece(own, steps: steps)
        let scales = refine(&codes, own, steps: steps)
        return (codes: codes, scales: scales)
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
          w[column * rows + index] = target.values[row * columns + column]
        }
      }
      var codes = [Int32](repeating: 0, count: columns * rows)
      ErrorFeedback.run(w, rows: rows, columns: columns, factor: u, blockSize: blockSize) {
        column, values, errors in
        var span = codes.mutableSpan
        var columnCodes = span._mutatingExtracting(column * rows..<(column + 1) * rows)
        roundIntegers(
          values, step: steps[column], divisor: 1 / u[column * columns + column],
          codes: &columnCodes, errors: &errors)
      }
      var turned = [Int32](repeating: 0, count: rows * columns)
      for column in 0..<columns where !isDead[column] {
        for row in 0..<rows { turned[row * columns + column] = codes[column * rows + row] }
      }
      return turned
    }

    /// Moves single codes while that lowers (w' − q)(H + damping I)(w' − q)ᵀ, whose slopes are
    /// (w' − q)(H + damping I), and returns the rows' least-squares scales as
    /// 128 (scale − 1).
    private func refine(_ codes: inout [Int32], _ range: Range<Int>, steps: [Float]) -> [Int] {
      let columns = weight.columns
      guard columns > 0 else { return range.map { _ in 0 } }
      var points = [Float](repeating: 0, count: codes.count)
      for index in codes.indices { points[index] = Float(codes[index]) * steps[index % columns] }
      var slopes = Array(cross[range.lowerBound * columns..<range.upperBound * columns])
      var target = slopes.mutableSpan
      BLAS.addProduct(
        scale: -1, points.span, transposed: false, aStride: columns, metric.span, bStride: columns,
        to: &target, cStride: columns, rows: range.count, columns: columns, depth: columns)
      for index in 0..<range.count {
        let own = index * columns..<(index + 1) * columns
        var slope = target._mutatingExtracting(own)
        for _ in 0..<sweeps {
          var hasMoved = false
          for column in 0..<columns where !isDead[column] {
            let curve = metric[column * columns + column] * steps[column]
            let move = (slope[column] / curve).rounded()
            guard abs(slope[column]) > 0.5001 * curve, abs(move) < 0x1p20 else { continue }
            hasMoved = true
            codes[index * columns + column] += Int32(move)
            points[index * columns + column] += move * steps[column]
            RowKernels.add(
              -move * steps[column],
              times: metric.span.extracting(column * columns..<(column + 1) * columns),
              to: &slope)
          }
          if !hasMoved { break }
        }
      }
      return range.enumerated().map { index, row in
        var crossSum = 0.0, square = 0.0
        for column in 0..<columns {
          let point = Double(points[index * columns + column])
          let product = Double(cross[row * columns + column])
          crossSum += product * point
          // q H = w H − slope − damping q.
          let own = product - Double(slopes[index * columns + column]) - Double(damping) * point
          square += own * point
        }
        guard crossSum > 0, square > 0 else { return 0 }
        return min(max(Int((128 * (crossSum / square - 1)).rounded()), -127), 1 << 10)
      }
    }
  }
}

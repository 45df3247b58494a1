// One pass of entropy-coded GPTQ: everything but the search for the step.

import Encodings
import Glibc
import LinearAlgebra
import Tensors

extension EntropyCodedGPTQ {
  /// Rows whose steps are alike, with what rounding them needs.
  struct RowGroup {
    /// The rows, in order.
    let rows: [Int]
    /// Relative to the largest of H's diagonal, as the metric is.
    let damping: Float
    /// `[inputs, inputs]`, U.
    let factor: [Float]
    /// W H (H + damping I)⁻¹ of these rows: what is rounded.
    let target: [Float]
    /// The target times H + damping I, which is W H.
    let cross: [Float]
  }

  /// A weight with what rounding needs to know.
  struct Plan {
    /// Its dead inputs are 0.
    let weight: Matrix
    let groups: [RowGroup]
    /// `[inputs, inputs]`, H in a unit of its own.
    let metric: [Float]
    /// Inputs that are always zero: their weights become 0.
    let isDead: [Bool]
    /// `[outputs, inputs]`, weights that become 0; nil when none has to.
    let held: [Bool]?
    /// The steps' exponents by column and by row, eighths of an octave.
    let exponents, rowExponents: [Int]
    /// `[outputs, outputs]`, V with (G + damping I)⁻¹ = Vᵀ V, when rows pass their errors on: then there is one group.
    let outputFactor: [Float]?
    let blockSize: Int
    /// Whether columns are rounded along `Trellis`: then there are no sweeps.
    let isTrellis: Bool
    /// How often every code is looked at again after rounding.
    let sweeps: Int

    /// - Parameters:
    ///   - weight: Its dead inputs are 0.
    ///   - dampings: Rows by what is added to H's diagonal for them, with U; the first group's U gives the
    ///     columns' steps.
    init(
      weight: Matrix, moment: DoubleMatrix, isDead: [Bool], held: [Bool]? = nil,
      rowExponents: [Int],
      dampings: [(rows: [Int], damping: Double, factor: DoubleMatrix)],
      outputFactor: DoubleMatrix? = nil, isTrellis: Bool = false, blockSize: Int, sweeps: Int
    ) {
      self.isTrellis = isTrellis
      precondition(outputFactor == nil || dampings.count <= 1)
      self.outputFactor = outputFactor?.values.map { Float($0) }
      self.sweeps = sweeps
      self.isDead = isDead
      self.held = held
      self.blockSize = blockSize
      self.weight = weight
      self.rowExponents = rowExponents
      let columns = weight.columns
      // Only quotients count; a power of two near the largest keeps floats in range.
      let largest = moment.diagonal.max() ?? 0
      let scale = largest > 0 ? exp2(-log2(largest).rounded()) : 1
      let metric = moment.values.map { Float($0 * scale) }
      self.metric = metric
      let logs =
        dampings.first?.factor.diagonal.map { log2($0) }
        ?? [Double](repeating: 0, count: columns)
      let alive = isDead.indices.filter { !isDead[$0] }
      let mean = alive.reduce(0.0) { $0 + logs[$1] } / Double(max(1, alive.count))
      exponents = isDead.indices.map { column in
        isDead[column] ? 0 : min(max(Int((8 * (logs[column] - mean)).rounded()), -400), 400)
      }
      groups = dampings.map { group in
        let own = Matrix.stack(group.rows.map { weight.rows($0..<$0 + 1) })
        let target = Self.shrunk(own, factor: group.factor, damping: group.damping)
        let damping = Float(group.damping * scale)
        // (W') (H + damping I), a part at a time.
        var cross = target.values.map { $0 * damping }
        ParallelLoop.overRows(of: &cross, rowLength: columns, blockRows: 64) { rows, part in
          BLAS.addProduct(
            scale: 1,
            target.values.span.extracting(rows.lowerBound * columns..<rows.upperBound * columns),
            transposed: false, aStride: columns, metric.span, bStride: columns, to: &part,
            cStride: columns, rows: rows.count, columns: columns, depth: columns)
        }
        return RowGroup(
          rows: group.rows, damping: damping, factor: group.factor.values.map { Float($0) },
          target: target.values, cross: cross)
      }
    }

    private init(_ plan: Plan, stride: Int) {
      let columns = plan.weight.columns
      var kept: [Int] = []
      groups = plan.groups.map { group in
        let own = Swift.stride(from: 0, to: group.rows.count, by: stride)
        let first = kept.count
        kept += own.map { group.rows[$0] }
        func part(_ values: [Float]) -> [Float] {
          own.flatMap { values[$0 * columns..<($0 + 1) * columns] }
        }
        return RowGroup(
          rows: Array(first..<kept.count), damping: group.damping, factor: group.factor,
          target: part(group.target), cross: part(group.cross))
      }
      weight = Matrix.stack(kept.map { plan.weight.rows($0..<$0 + 1) })
      rowExponents = kept.map { plan.rowExponents[$0] }
      metric = plan.metric
      isDead = plan.isDead
      held = plan.held.map { held in kept.flatMap { held[$0 * columns..<($0 + 1) * columns] } }
      exponents = plan.exponents
      precondition(plan.outputFactor == nil)
      outputFactor = nil
      blockSize = plan.blockSize
      isTrellis = plan.isTrellis
      sweeps = plan.sweeps
    }

    /// The same for every so many-th row of each group.
    func sample(stride: Int) -> Plan {
      Plan(self, stride: stride)
    }

    /// W − damping · W (H + damping I)⁻¹, which is W H (H + damping I)⁻¹.
    private static func shrunk(_ weight: Matrix, factor: DoubleMatrix, damping: Double) -> Matrix {
      let n = weight.columns
      guard damping > 0, n > 0, weight.rows > 0 else { return weight }
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

    /// Whether a weight becomes 0.
    func isHeld(_ row: Int, _ column: Int) -> Bool {
      isDead[column] || held?[row * weight.columns + column] ?? false
    }

    /// Rows that one piece of work rounds: a column of them is one vector, and one path of a trellis.
    static let rowsAtOnce = Trellis.segment

    /// Codes and scales for a base of the steps.
    func round(base: Float) -> IntegerCodes {
      if let outputFactor, let group = groups.first {
        return roundBothWays(base: base, group, outputFactor)
      }
      let columns = weight.columns
      // The points of each of a trellis's quantizers are two steps apart.
      let base = isTrellis ? base / 2 : base
      let steps = exponents.map { Float(Double(base) * IntegerCodes.power(eighths: $0)) }
      if isTrellis, groups.count > 1 {
        let (codes, scales) = roundGroupsAlongTrellis(steps: steps)
        return IntegerCodes(
          outputs: weight.rows, inputs: columns, codes: codes, base: base, exponents: exponents,
          rowExponents: rowExponents, scales: scales, isTrellis: true)
      }
      var codes = [Int32](repeating: 0, count: weight.rows * columns)
      var scales = [Int](repeating: 0, count: weight.rows)
      let pieces = groups.flatMap { group in
        Swift.stride(from: 0, to: group.rows.count, by: Self.rowsAtOnce).map {
          (group: group, rows: $0..<min($0 + Self.rowsAtOnce, group.rows.count))
        }
      }
      let results = ParallelLoop.map(pieces.count) { index in
        let (group, rows) = pieces[index]
        let rowSteps = rows.map {
          Float(IntegerCodes.power(eighths: rowExponents[group.rows[$0]]))
        }
        var codes = roundPiece(group, rows, steps: steps, rowSteps: rowSteps)
        let scales = refine(&codes, group, rows, steps: steps, rowSteps: rowSteps)
        return (codes: codes, scales: scales)
      }
      for (piece, result) in zip(pieces, results) {
        for (index, own) in piece.rows.enumerated() {
          let row = piece.group.rows[own]
          scales[row] = result.scales[index]
          codes.replaceSubrange(
            row * columns..<(row + 1) * columns,
            with: result.codes[index * columns..<(index + 1) * columns])
        }
      }
      return IntegerCodes(
        outputs: weight.rows, inputs: columns, codes: codes, base: base,
        exponents: exponents, rowExponents: rowExponents, scales: scales,
        isTrellis: isTrellis)
    }

    /// The codes of some rows, `[rows, columns]`. Column-major inside, so that a column is one vector; each
    /// row in units of its own step, so that a column has one.
    private func roundPiece(
      _ group: RowGroup, _ range: Range<Int>, steps: [Float], rowSteps: [Float]
    ) -> [Int32] {
      let rows = range.count, columns = weight.columns
      let u = group.factor
      var w = [Float](repeating: 0, count: columns * rows)
      for (index, row) in range.enumerated() {
        let inverse = 1 / rowSteps[index]
        for column in 0..<columns {
          w[column * rows + index] = group.target[row * columns + column] * inverse
        }
      }
      var codes = [Int32](repeating: 0, count: columns * rows)
      ErrorFeedback.run(w, rows: rows, columns: columns, factor: u, blockSize: blockSize) {
        column, values, errors in
        var span = codes.mutableSpan
        var columnCodes = span._mutatingExtracting(column * rows..<(column + 1) * rows)
        let divisor = 1 / u[column * columns + column]
        if isTrellis {
          Trellis.round(
            values, step: steps[column], divisor: divisor, codes: &columnCodes, errors: &errors)
        } else {
          roundIntegers(
            values, step: steps[column], divisor: divisor, codes: &columnCodes, errors: &errors)
        }
        guard held != nil else { return }
        for (index, row) in range.enumerated() where isHeld(group.rows[row], column) {
          columnCodes[index] = 0
          errors[index] = values[index] * divisor
        }
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
    func refine(
      _ codes: inout [Int32], _ group: RowGroup, _ range: Range<Int>, steps: [Float],
      rowSteps: [Float]
    ) -> [Int] {
      let columns = weight.columns, damping = group.damping
      guard columns > 0 else { return range.map { _ in 0 } }
      var points = [Float](repeating: 0, count: codes.count)
      for index in codes.indices {
        points[index] = Float(codes[index]) * steps[index % columns] * rowSteps[index / columns]
      }
      var slopes = Array(group.cross[range.lowerBound * columns..<range.upperBound * columns])
      for index in slopes.indices { slopes[index] -= damping * points[index] }
      var target = slopes.mutableSpan
      BLAS.addProduct(
        scale: -1, points.span, transposed: false, aStride: columns, metric.span, bStride: columns,
        to: &target, cStride: columns, rows: range.count, columns: columns, depth: columns)
      for index in 0..<range.count {
        var slope = target._mutatingExtracting(index * columns..<(index + 1) * columns)
        for _ in 0..<(isTrellis ? 0 : sweeps) {
          var hasMoved = false
          for column in 0..<columns
          where !isHeld(group.rows[range.lowerBound + index], column) {
            let step = steps[column] * rowSteps[index]
            let curve = (metric[column * columns + column] + damping) * step
            let move = (slope[column] / curve).rounded()
            guard abs(slope[column]) > 0.5001 * curve, abs(move) < 0x1p20 else { continue }
            hasMoved = true
            codes[index * columns + column] += Int32(move)
            points[index * columns + column] += move * step
            RowKernels.add(
              -move * step,
              times: metric.span.extracting(column * columns..<(column + 1) * columns),
              to: &slope)
            slope[column] -= damping * move * step
          }
          if !hasMoved { break }
        }
      }
      return range.enumerated().map { index, row in
        var crossSum = 0.0, square = 0.0
        for column in 0..<columns {
          let point = Double(points[index * columns + column])
          let product = Double(group.cross[row * columns + column])
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

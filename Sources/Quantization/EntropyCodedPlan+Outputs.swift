// Rounding with feedback in both directions: an error goes on to later inputs of its row and to later outputs.
//
// Source   Tseng et al., "YAQA", arXiv:2505.22988, section 4 (LDL feedback from both sides); here in GPTQ's form
// Given    (H + damping I)⁻¹ = Uᵀ U of the inputs, (G + damping I)⁻¹ = Vᵀ V of the outputs, target T
// Result   tr(G D H Dᵀ) with D = T − Q is the sum of N², D = Vᵀ N U; each q is the nearest to what leaves N = 0:
//          T_rj − sum over (k, l) before (r, j) of V_kr N_kl U_lj. Errors of one size everywhere in N are the
//          water level of both directions at once: steps c U_jj V_rr
// Order    blocks of rows; in a block column by column; in a column row by row. M = N U is kept for later blocks
// Cost     outputs · inputs · (outputs + inputs) multiply-adds through BLAS
// Trellis  every state's path passes its own errors on to the rows after it (Trellis.roundPassing)
// Differs  after a block each row gets its least-squares scale, before its error goes on
// Checked  EntropyCodedGPTQTests: the double sum in Double, element by element

import Encodings
import LinearAlgebra
import Tensors

extension EntropyCodedGPTQ.Plan {
  /// Codes and scales for a base of the steps.
  func roundBothWays(
    base: Float, _ group: EntropyCodedGPTQ.RowGroup, _ outputFactor: [Float]
  ) -> IntegerCodes {
    let rows = weight.rows, columns = weight.columns
    // The points of each of a trellis's quantizers are two steps apart.
    let base = isTrellis ? base / 2 : base
    let steps = exponents.map { Float(Double(base) * IntegerCodes.power(eighths: $0)) }
    let rowSteps = rowExponents.map { Float(IntegerCodes.power(eighths: $0)) }
    var codes: [Int32] = []
    codes.reserveCapacity(rows * columns)
    var scales: [Int] = []
    /// M of the rows that are done, `[rows, columns]`.
    var passed: [Float] = []
    passed.reserveCapacity(rows * columns)
    for start in stride(from: 0, to: rows, by: Self.rowsAtOnce) {
      let range = start..<min(start + Self.rowsAtOnce, rows)
      var aim = Array(group.target[range.lowerBound * columns..<range.upperBound * columns])
      let done = passed
      // T − Σ V_kr M_k over the rows of earlier blocks.
      ParallelLoop.overRows(of: &aim, rowLength: columns, blockRows: 32) { part, target in
        guard start > 0 else { return }
        let first = start + part.lowerBound
        BLAS.addProduct(
          scale: -1, outputFactor.span.extracting(first..<outputFactor.count), transposed: true,
          aStride: rows, done.span, bStride: columns, to: &target, cStride: columns,
          rows: part.count, columns: columns, depth: start)
      }
      let block = RowBlock(
        plan: self, group: group, outputFactor: outputFactor, range: range, steps: steps,
        rowSteps: Array(rowSteps[range]))
      let own = block.codes(of: aim)
      let (ownScales, errors) = block.scales(own, aim: aim)
      codes += own
      scales += ownScales
      passed += errors
    }
    return IntegerCodes(
      outputs: rows, inputs: columns, codes: codes, base: base, exponents: exponents,
      rowExponents: rowExponents, scales: scales, isTrellis: isTrellis)
  }

  /// The work on one block of rows.
  private struct RowBlock {
    let plan: EntropyCodedGPTQ.Plan
    let group: EntropyCodedGPTQ.RowGroup
    /// V.
    let outputFactor: [Float]
    let range: Range<Int>
    let steps, rowSteps: [Float]

    private var columns: Int { plan.weight.columns }

    /// V_kr for rows of the block, both counted within it.
    private func v(_ k: Int, _ r: Int) -> Float {
      outputFactor[(range.lowerBound + k) * plan.weight.rows + range.lowerBound + r]
    }

    /// Codes `[rows, columns]` for what the rows aim at.
    func codes(of aim: [Float]) -> [Int32] {
      let rows = range.count, columns = columns
      var w = [Float](repeating: 0, count: columns * rows)
      for row in 0..<rows {
        for column in 0..<columns { w[column * rows + row] = aim[row * columns + column] }
      }
      // V of the block, each row over its diagonal: what an error of a row puts on later rows.
      var shares = [Float](repeating: 0, count: rows * rows)
      for k in 0..<rows {
        for r in k + 1..<max(rows, k + 1) { shares[k * rows + r] = v(k, r) / v(k, k) }
      }
      let u = group.factor, plan = plan, first = range.lowerBound
      var codes = [Int32](repeating: 0, count: columns * rows)
      var aimed = [Float](repeating: 0, count: rows)
      var ownSteps = aimed
      var columnCodes = [Int32](repeating: 0, count: rows)
      ErrorFeedback.run(
        w, rows: rows, columns: columns, factor: u, blockSize: plan.blockSize
      ) { column, values, errors in
        let inverse = 1 / u[column * columns + column]
        if plan.isTrellis, !plan.isDead[column] {
          for row in 0..<rows { ownSteps[row] = steps[column] * rowSteps[row] }
          var span = columnCodes.mutableSpan
          Trellis.roundPassing(
            values, steps: ownSteps.span, shares: shares.span, divisor: inverse, codes: &span,
            errors: &errors)
          for row in 0..<rows { codes[row * columns + column] = columnCodes[row] }
          return
        }
        for row in 0..<rows { aimed[row] = values[row] }
        for row in 0..<rows {
          let step = steps[column] * rowSteps[row]
          let code =
            plan.isHeld(first + row, column) ? 0 : (aimed[row] / step).rounded(.toNearestOrEven)
          let point = min(max(code, -0x1p30), 0x1p30)
          codes[row * columns + column] = Int32(point)
          let error = aimed[row] - point * step
          errors[row] = (values[row] - point * step) * inverse
          guard row + 1 < rows else { continue }
          var later = aimed.mutableSpan
          var target = later._mutatingExtracting(row + 1..<rows)
          RowKernels.add(
            -error, times: shares.span.extracting(row * rows + row + 1..<(row + 1) * rows),
            to: &target)
        }
      }
      return codes
    }

    /// The rows' least-squares scales as 128 (scale − 1), and M of the rows with them.
    func scales(_ codes: [Int32], aim: [Float]) -> (scales: [Int], passed: [Float]) {
      let rows = range.count, columns = columns, damping = group.damping
      var points = [Float](repeating: 0, count: codes.count)
      for index in codes.indices {
        points[index] = Float(codes[index]) * steps[index % columns] * rowSteps[index / columns]
      }
      // Q (H + damping I).
      var products = points.map { $0 * damping }
      let metric = plan.metric
      ParallelLoop.overRows(of: &products, rowLength: columns, blockRows: 32) { part, target in
        BLAS.addProduct(
          scale: 1,
          points.span.extracting(part.lowerBound * columns..<part.upperBound * columns),
          transposed: false, aStride: columns, metric.span, bStride: columns, to: &target,
          cStride: columns, rows: part.count, columns: columns, depth: columns)
      }
      var scales: [Int] = []
      var left = aim
      for row in 0..<rows {
        let own = row * columns..<(row + 1) * columns
        var cross = 0.0, square = 0.0
        for i in own {
          cross += Double(left[i]) * Double(products[i])
          square += Double(points[i]) * (Double(products[i]) - Double(damping * points[i]))
        }
        let scale =
          cross > 0 && square > 0
          ? min(max(Int((128 * (cross / square - 1)).rounded()), -127), 1 << 10) : 0
        scales.append(scale)
        let factor = 1 + Float(scale) / 128
        for i in own { left[i] = (left[i] - factor * points[i]) / v(row, row) }
        // What this row's M puts on the rows after it.
        let passed = Array(left[own])
        for later in row + 1..<max(rows, row + 1) {
          var span = left.mutableSpan
          var target = span._mutatingExtracting(later * columns..<(later + 1) * columns)
          RowKernels.add(-v(row, later), times: passed.span, to: &target)
        }
      }
      return (scales, left)
    }
  }
}

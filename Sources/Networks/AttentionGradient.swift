// The backward pass of attention. Probabilities are computed again, a block of queries at a time, so that nothing
// of the size tokens x tokens is kept.
//
// Source   Dao et al., "FlashAttention", arXiv:2205.14135, appendix B.2 (the formulas, and recomputing)
// Given    Q, K, V and the gradient dO of O = P V, P = softmax(scale Q Kᵀ) under the mask
// Result   dV = Pᵀ dO, dP = dO Vᵀ, dS = scale P ∘ (dP − rowsum(dP ∘ P)), dQ = dS K, dK = dSᵀ Q;
//          where scores are capped, dS times the cap's slope at the product
// Differs  With grouped queries one piece of work has one key head and all of its query heads, so that no
//          two pieces add to one sum
// Checked  AttentionGradientTests: the definition in Double, every mask

import Foundation
import Tensors

extension Attention {
  /// The record of the attention of a batch that starts at position 0.
  func gradientRecord(
    queries: Matrix, keys: Matrix, values: Matrix, batch: TokenBatch
  ) -> GradientRecord? {
    let q = queries.unrecorded, k = keys.unrecorded, v = values.unrecorded
    let plain = batch.unrecorded
    return GradientRecord(of: [queries.record, keys.record, values.record]) { gradient, _ in
      backward(gradient, queries: q, keys: k, values: v, batch: plain)
    }
  }

  /// The gradients of queries, keys and values.
  private func backward(
    _ gradient: Matrix, queries: Matrix, keys: Matrix, values: Matrix, batch: TokenBatch
  ) -> [Matrix] {
    let width = heads * headSize, keyWidth = keyHeads * headSize
    // One key head's part: its query heads, then its keys, then its values, each [token, size].
    let group = heads / keyHeads, slots = group + 2
    let all = slots * keyHeads
    var byHead = [Float](repeating: 0, count: queries.rows * all * headSize)
    ParallelLoop.parts(
      of: &byHead, count: batch.sequences.count * keyHeads,
      range: { piece in
        let sequence = batch.sequences[piece / keyHeads]
        let length = sequence.count * slots * headSize
        let start = sequence.lowerBound * all * headSize + piece % keyHeads * length
        return start..<start + length
      }
    ) { piece, output in
      let sequence = batch.sequences[piece / keyHeads]
      let keyHead = piece % keyHeads
      let ofQueries = sequence.lowerBound * width + keyHead * group * headSize
      let ofKeys = sequence.lowerBound * keyWidth + keyHead * headSize
      HeadGradient(attention: self, tokens: sequence.count).run(
        gradient: gradient.values.span.extracting(ofQueries..<sequence.upperBound * width),
        queries: queries.values.span.extracting(ofQueries..<sequence.upperBound * width),
        keys: keys.values.span.extracting(ofKeys..<sequence.upperBound * keyWidth),
        values: values.values.span.extracting(ofKeys..<sequence.upperBound * keyWidth),
        into: &output)
    }
    let ofQueries = (0..<heads).map { $0 / group * slots + $0 % group }
    func gathered(_ picked: [Int]) -> Matrix {
      self.gathered(byHead, rows: queries.rows, batch: batch, slots: all, picked)
    }
    return [
      gathered(ofQueries), gathered((0..<keyHeads).map { $0 * slots + group }),
      gathered((0..<keyHeads).map { $0 * slots + group + 1 }),
    ]
  }
}

/// The work on one key head of one sequence.
private struct HeadGradient {
  let attention: Attention
  let tokens: Int

  /// - Parameter output: `[query head][token, size]`, then keys, then values; zeros at first.
  func run(
    gradient: Span<Float>, queries: Span<Float>, keys: Span<Float>, values: Span<Float>,
    into output: inout MutableSpan<Float>
  ) {
    let a = attention, size = a.headSize, group = a.heads / a.keyHeads
    let width = a.heads * size, keyWidth = a.keyHeads * size, length = tokens * size
    let block = min(Attention.queryBlock, tokens)
    var panel = [Float](repeating: 0, count: max(size, tokens) * PanelProduct.width)
    var table = [Float](repeating: 0, count: block * tokens)
    var slopes = table
    var turned = table
    var product = [Float](repeating: 0, count: tokens * PanelProduct.width)
    for head in 0..<group {
      for start in stride(from: 0, to: tokens, by: Attention.queryBlock) {
        let count = min(Attention.queryBlock, tokens - start)
        let offset = start * width + head * size
        let queries = queries.extracting(offset..<queries.count)
        let gradient = gradient.extracting(offset..<gradient.count)
        let seen = a.probabilities(
          queries, count: count, position: start, keys: keys, keyCount: tokens, panel: &panel,
          into: &table)
        addTransposed(
          table, count: count, seen: seen, gradient, stride: width, panel: &panel,
          turned: &turned, product: &product, to: &output, at: (group + 1) * length)
        a.multiplyByKeys(gradient, count: count, values, seen, panel: &panel, into: &slopes)
        for query in 0..<count {
          let range = query * seen.count..<(query + 1) * seen.count
          var all = slopes.mutableSpan
          var row = all._mutatingExtracting(range)
          RowGradients.softmax(
            &row, probabilities: table.span.extracting(range), scale: a.scale)
        }
        if let cap = a.cap {
          a.multiplyByKeys(queries, count: count, keys, seen, panel: &panel, into: &turned)
          for i in 0..<count * seen.count {
            let share = tanh(turned[i] * a.scale / cap)
            slopes[i] *= 1 - share * share
          }
        }
        for column in stride(from: 0, to: size, by: PanelProduct.width) {
          let columns = min(PanelProduct.width, size - column)
          var packed = panel.mutableSpan
          PanelProduct.pack(
            columns: keys.extracting(seen.lowerBound * keyWidth + column..<keys.count),
            stride: keyWidth, count: columns, depth: seen.count, into: &packed)
          PanelProduct.multiply(
            slopes.span, leftStride: seen.count, rows: count, panel: panel.span,
            depth: seen.count, into: &output, resultOffset: head * length + start * size + column,
            resultStride: size, columns: columns)
        }
        addTransposed(
          slopes, count: count, seen: seen, queries, stride: width, panel: &panel,
          turned: &turned, product: &product, to: &output, at: group * length)
      }
    }
  }

  /// Adds `tableᵀ right` to the rows `seen` of the part of `output` that starts at `place`.
  ///
  /// - Parameters:
  ///   - table: `[count, seen]`.
  ///   - right: `count` rows, `stride` apart, of one head.
  ///   - panel, turned, product: Memory.
  private func addTransposed(
    _ table: [Float], count: Int, seen: Range<Int>, _ right: Span<Float>, stride rightStride: Int,
    panel: inout [Float], turned: inout [Float], product: inout [Float],
    to output: inout MutableSpan<Float>, at place: Int
  ) {
    let size = attention.headSize
    for query in 0..<count {
      let row = table.span.extracting(query * seen.count..<(query + 1) * seen.count)
      var target = turned.mutableSpan
      for key in row.indices { target[key * count + query] = row[key] }
    }
    for column in stride(from: 0, to: size, by: PanelProduct.width) {
      let columns = min(PanelProduct.width, size - column)
      var packed = panel.mutableSpan
      PanelProduct.pack(
        columns: right.extracting(column..<right.count), stride: rightStride, count: columns,
        depth: count, into: &packed)
      var result = product.mutableSpan
      PanelProduct.multiply(
        turned.span, leftStride: count, rows: seen.count, panel: panel.span, depth: count,
        into: &result, resultOffset: 0, resultStride: columns, columns: columns)
      for (index, key) in seen.enumerated() {
        let source = product.span.extracting(index * columns..<(index + 1) * columns)
        let first = place + key * size + column
        var target = output._mutatingExtracting(first..<first + columns)
        for i in source.indices { target[i] += source[i] }
      }
    }
  }
}

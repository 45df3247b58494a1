// Scaled dot-product attention over sequences without padding, with grouped queries.
//
// Source   Vaswani et al., arXiv:1706.03762; grouped queries: Ainslie et al., arXiv:2305.13245;
//          sliding window: Jiang et al., "Mistral 7B", arXiv:2310.06825
// Given    queries [tokens, heads * size], keys and values [tokens, keyHeads * size]
// Result   [tokens, heads * size]
// Cost     Only keys that a block of queries can see are multiplied

import Tensors

/// The shape and the mask of an attention layer.
struct Attention {
  /// Which keys a query sees.
  enum Mask: Equatable {
    /// All of its sequence.
    case full
    /// Those at its own position and before; with a window, only the last so many.
    case causal(window: Int?)
  }

  let heads: Int
  let keyHeads: Int
  let headSize: Int
  let mask: Mask
  let scale: Float
  /// c, where a scaled product x counts as `c tanh(x / c)`; nil where it counts as it is.
  var cap: Float?

  /// How the heads share keys and values.
  var layout: HeadLayout { HeadLayout(heads: heads, keyHeads: keyHeads, size: headSize) }

  /// Queries that are multiplied with one range of keys.
  static let queryBlock = 60

  /// Attention of every token. With a cache, the batch continues its sequences.
  func apply(
    queries: Matrix, keys: Matrix, values: Matrix, batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    let past = cache?.count ?? 0
    precondition(cache.map { $0.sequences == batch.sequences.count } ?? true)
    let all = cache?.extend(keys, values) ?? (keys: keys.values, values: values.values)
    let keyRows = batch.sequences.enumerated().map { index, sequence in
      let first = cache?.firstRow(ofSequence: index) ?? sequence.lowerBound
      return first..<first + past + sequence.count
    }
    var result = mixture(
      of: queries, batch: batch, past: past, keys: all.keys, values: all.values, keyRows: keyRows)
    if queries.record != nil || keys.record != nil || values.record != nil {
      precondition(cache == nil, "gradients through a cache")
      result.record = gradientRecord(queries: queries, keys: keys, values: values, batch: batch)
    }
    return result
  }

  /// Attention of every token to rows of something else, of which each sequence sees its own part.
  ///
  /// - Parameters:
  ///   - keys: `[rows, keyHeads * size]`, as many of each sequence.
  ///   - values: The same.
  func apply(queries: Matrix, toOther keys: Matrix, values: Matrix, batch: TokenBatch) -> Matrix {
    precondition(mask == .full && keys.rows % max(1, batch.sequences.count) == 0)
    precondition(queries.record == nil && keys.record == nil, "gradients of attention to others")
    let each = keys.rows / max(1, batch.sequences.count)
    return mixture(
      of: queries, batch: batch, past: 0, keys: keys.values, values: values.values,
      keyRows: batch.sequences.indices.map { $0 * each..<($0 + 1) * each })
  }

  /// The mixture of values for every query.
  ///
  /// - Parameters:
  ///   - past: Keys of each sequence before its first query's own.
  ///   - keyRows: The rows of `keys` and `values` that belong to each sequence.
  private func mixture(
    of queries: Matrix, batch: TokenBatch, past: Int, keys: [Float], values: [Float],
    keyRows: [Range<Int>]
  ) -> Matrix {
    let width = heads * headSize, keyWidth = keyHeads * headSize
    // Head by head within each sequence, so that every piece of work writes one range.
    var byHead = [Float](repeating: 0, count: queries.rows * width)
    ParallelLoop.parts(
      of: &byHead, count: batch.sequences.count * heads,
      range: { piece in
        let sequence = batch.sequences[piece / heads]
        let start = sequence.lowerBound * width + piece % heads * sequence.count * headSize
        return start..<start + sequence.count * headSize
      }
    ) { piece, output in
      let sequence = batch.sequences[piece / heads], rows = keyRows[piece / heads]
      let head = piece % heads
      let keyHead = head / (heads / keyHeads)
      let seen = rows.lowerBound * keyWidth + keyHead * headSize..<rows.upperBound * keyWidth
      oneHead(
        queries: queries.values.span.extracting(
          sequence.lowerBound * width + head * headSize..<sequence.upperBound * width),
        queryCount: sequence.count, past: past, keys: keys.span.extracting(seen),
        values: values.span.extracting(seen), keyCount: rows.count, into: &output)
    }
    return gathered(byHead, rows: queries.rows, batch: batch, slots: heads, 0..<heads)
  }

  /// `[sequence][slot][token, size]` to `[token, size]` of each slot in `picked`, side by side.
  func gathered(
    _ byHead: [Float], rows: Int, batch: TokenBatch, slots: Int, _ picked: some Collection<Int>
  ) -> Matrix {
    let width = picked.count * headSize, all = slots * headSize
    var result = Matrix(rows: rows, columns: width)
    ParallelLoop.parts(
      of: &result.values, count: batch.sequences.count,
      range: {
        batch.sequences[$0].lowerBound * width..<batch.sequences[$0].upperBound * width
      }
    ) { index, part in
      let count = batch.sequences[index].count
      let source = byHead.span.extracting(
        batch.sequences[index].lowerBound * all..<batch.sequences[index].upperBound * all)
      for token in 0..<count {
        for (place, slot) in picked.enumerated() {
          let from = source.extracting(
            (slot * count + token) * headSize..<(slot * count + token + 1) * headSize)
          var to = part._mutatingExtracting(
            token * width + place * headSize..<token * width + (place + 1) * headSize)
          for i in from.indices { to[i] = from[i] }
        }
      }
    }
    return result
  }

  /// The keys that a query at `position` sees.
  private func visible(_ position: Int, of keyCount: Int) -> Range<Int> {
    switch mask {
    case .full: 0..<keyCount
    case .causal(let window): max(0, position + 1 - (window ?? position + 1))..<position + 1
    }
  }

  private func oneHead(
    queries: Span<Float>, queryCount: Int, past: Int, keys: Span<Float>, values: Span<Float>,
    keyCount: Int, into output: inout MutableSpan<Float>
  ) {
    let width = heads * headSize, keyWidth = keyHeads * headSize
    if queryCount == 1 {
      oneQuery(
        queries, visible(past, of: keyCount), keys: keys, values: values, into: &output)
      return
    }
    let panelWidth = PanelProduct.width
    var panel = [Float](repeating: 0, count: max(headSize, keyCount) * panelWidth)
    var scores = [Float](repeating: 0, count: min(Self.queryBlock, queryCount) * keyCount)
    for start in stride(from: 0, to: queryCount, by: Self.queryBlock) {
      let count = min(Self.queryBlock, queryCount - start)
      let seen = probabilities(
        queries.extracting(start * width..<queries.count), count: count, position: past + start,
        keys: keys, keyCount: keyCount, panel: &panel, into: &scores)
      for column in stride(from: 0, to: headSize, by: panelWidth) {
        let columns = min(panelWidth, headSize - column)
        var packed = panel.mutableSpan
        PanelProduct.pack(
          columns: values.extracting(seen.lowerBound * keyWidth + column..<values.count),
          stride: keyWidth, count: columns, depth: seen.count, into: &packed)
        PanelProduct.multiply(
          scores.span, leftStride: seen.count, rows: count, panel: panel.span, depth: seen.count,
          into: &output, resultOffset: start * headSize + column, resultStride: headSize,
          columns: columns)
      }
    }
  }

  /// The attention of a block of queries: `[count, seen]`, zero where a query sees no key.
  ///
  /// - Parameters:
  ///   - position: Of the block's first query.
  ///   - panel: Memory for one panel.
  ///   - scores: Receives the result from its start.
  /// - Returns: The keys that any query of the block sees.
  func probabilities(
    _ queries: Span<Float>, count: Int, position: Int, keys: Span<Float>, keyCount: Int,
    panel: inout [Float], into scores: inout [Float]
  ) -> Range<Int> {
    let firstKey = visible(position, of: keyCount).lowerBound
    let seen = firstKey..<visible(position + count - 1, of: keyCount).upperBound
    multiplyByKeys(queries, count: count, keys, seen, panel: &panel, into: &scores)
    var table = scores.mutableSpan
    for query in 0..<count {
      var row = table._mutatingExtracting(query * seen.count..<(query + 1) * seen.count)
      let own = visible(position + query, of: keyCount)
      let before = own.lowerBound - seen.lowerBound, end = own.upperBound - seen.lowerBound
      var live = row._mutatingExtracting(before..<end)
      softmax(&live)
      for i in 0..<before { row[i] = 0 }
      for i in end..<seen.count { row[i] = 0 }
    }
    return seen
  }

  /// Products of a query with its keys, to probabilities.
  private func softmax(_ row: inout MutableSpan<Float>) {
    guard let cap else { return RowKernels.softmax(&row, scale: scale) }
    for i in row.indices { row[i] *= scale }
    SoftCap.apply(&row, cap: cap)
    RowKernels.softmax(&row, scale: 1)
  }

  /// Dot products of one head's rows, in matrices of all heads: `[count, seen]`.
  func multiplyByKeys(
    _ queries: Span<Float>, count: Int, _ keys: Span<Float>, _ seen: Range<Int>,
    panel: inout [Float], into scores: inout [Float]
  ) {
    let width = heads * headSize, keyWidth = keyHeads * headSize
    for key in stride(from: 0, to: seen.count, by: PanelProduct.width) {
      let columns = min(PanelProduct.width, seen.count - key)
      var packed = panel.mutableSpan
      PanelProduct.pack(
        rows: keys.extracting((seen.lowerBound + key) * keyWidth..<keys.count), stride: keyWidth,
        count: columns, depth: headSize, into: &packed)
      var target = scores.mutableSpan
      PanelProduct.multiply(
        queries, leftStride: width, rows: count, panel: panel.span, depth: headSize,
        into: &target, resultOffset: key, resultStride: seen.count, columns: columns)
    }
  }

  /// The decoding step: dot products with the keys, a weighted sum of the values.
  private func oneQuery(
    _ query: Span<Float>, _ seen: Range<Int>, keys: Span<Float>, values: Span<Float>,
    into output: inout MutableSpan<Float>
  ) {
    let keyWidth = keyHeads * headSize
    let query = query.extracting(0..<headSize)
    var weights = [Float](repeating: 0, count: seen.count)
    for (index, key) in seen.enumerated() {
      weights[index] = dot(query, keys.extracting(key * keyWidth..<key * keyWidth + headSize))
    }
    var span = weights.mutableSpan
    softmax(&span)
    for (index, key) in seen.enumerated() {
      RowKernels.add(
        weights[index], times: values.extracting(key * keyWidth..<key * keyWidth + headSize),
        to: &output)
    }
  }
}

// A sequence as one vector: what a learned query attends to.
//
// Source   Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825, section 3.2; in SigLIP's vision tower: Zhai et al.,
//          "Scaling Vision Transformers", arXiv:2106.04560, section 3.5
// Given    the stream [samples * tokens, width]
// Result   the stream [samples, width]
// Differs  the query stands in every row, so that the attention of all branches serves; the first row of each is taken

import Tensors

/// Attention of a learned query, with the norm before it.
final class AttentionPooling: ChainedSublayer {
  private var norm: LayerNorm
  /// Queries, keys and values in one matrix.
  private let projection: Linear
  private let output: Linear
  private let attention: Attention
  /// `[1, width]`.
  private let probe: Matrix

  init(norm: LayerNorm, projection: Linear, output: Linear, attention: Attention, probe: [Float]) {
    self.norm = norm
    self.projection = projection
    self.output = output
    self.attention = attention
    self.probe = Matrix(rows: 1, columns: probe.count, values: probe)
  }

  var groups: [[Linear]] { [[projection], [output]] }
  var sources: [InputSource] { [.fixed, .fixed] }
  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return norm.applied(to: previous) }
    let width = probe.columns
    let all = projection.apply(previous)
    let query = projection.matrix.apply(to: probe, bias: projection.bias).columns(0..<width)
    let queries = query.gathered([Int](repeating: 0, count: previous.rows))
    let attended = attention.apply(
      queries: queries, keys: all.columns(width..<2 * width),
      values: all.columns(2 * width..<3 * width), batch: batch.sharing(rows: previous.rows),
      cache: nil)
    let count = previous.rows / batch.sequences.count
    return attended.gathered(batch.sequences.indices.map { $0 * count })
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix { output.apply(last) }
}

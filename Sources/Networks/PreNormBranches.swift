// The branches of transformers with LayerNorm before each branch and biases: GPT-2 and its kin.
//
// Source   Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Xiong et al., "On Layer
//          Normalization in the Transformer Architecture", arXiv:2002.04745

import Checkpoints
import Tensors

/// Attention without rotation.
final class PreNormAttention: ChainedSublayer {
  private var norm: LayerNorm
  private let projections: Projections
  private let output: Linear
  private let attention: Attention

  init(norm: LayerNorm, projections: Projections, output: Linear, attention: Attention) {
    self.norm = norm
    self.projections = projections
    self.output = output
    self.attention = attention
  }

  var groups: [[Linear]] { [projections.layers, [output]] }
  // A factor would have to pass the norm's bias too.
  var sources: [InputSource] { [.fixed, projections.valueSource(attention)] }
  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return norm.applied(to: previous) }
    let (queries, keys, values) = projections.apply(previous)
    return attention.apply(
      queries: queries, keys: keys, values: values, batch: batch.sharing(rows: previous.rows),
      cache: cache)
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = output.apply(last)
    result.add(hidden)
    return result
  }
}

/// Two matrices with a function between them.
final class PreNormMLP: ChainedSublayer {
  private var norm: LayerNorm
  private let inner, outer: Linear
  private let activation: Activation

  init(norm: LayerNorm, inner: Linear, outer: Linear, activation: Activation) {
    self.norm = norm
    self.inner = inner
    self.outer = outer
    self.activation = activation
  }

  var groups: [[Linear]] { [[inner], [outer]] }
  var sources: [InputSource] { [.fixed, .fixed] }
  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return norm.applied(to: previous) }
    var wide = inner.apply(previous)
    activation.apply(&wide)
    return wide
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = outer.apply(last)
    result.add(hidden)
    return result
  }
}

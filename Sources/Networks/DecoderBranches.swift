// The branches of a decoder with RMSNorm: attention with rotary positions, and the gated MLP.

import Checkpoints
import Tensors

/// Queries, keys and values of one input: three matrices, or one with their rows in this order.
struct Projections {
  let layers: [Linear]
  let queryWidth: Int
  let keyWidth: Int

  func apply(_ x: Matrix) -> (queries: Matrix, keys: Matrix, values: Matrix) {
    guard layers.count == 1 else {
      return (layers[0].apply(x), layers[1].apply(x), layers[2].apply(x))
    }
    let all = layers[0].apply(x)
    let end = queryWidth + keyWidth
    return (
      all.columns(0..<queryWidth), all.columns(queryWidth..<end),
      all.columns(end..<end + keyWidth)
    )
  }

  /// What makes the inputs of the layer behind attention.
  func valueSource(_ attention: Attention) -> InputSource {
    layers.count == 3 ? .values(of: layers[2], heads: attention.layout) : .fixed
  }
}

/// The attention branch.
final class DecoderAttention: ChainedSublayer {
  private var norm: RMSNorm
  private let projections: Projections
  private let output: Linear
  private var queryNorm, keyNorm, outputNorm: RMSNorm?
  private let rotation: RotaryTables
  private let attention: Attention

  init(
    _ c: DecoderConfiguration, layer: DecoderConfiguration.Layer, _ prefix: String,
    _ rotation: RotaryTables, _ parts: inout PartReader
  ) throws(CheckpointError) {
    let name = prefix + "self_attn."
    let queryWidth = c.heads * c.headSize, keyWidth = c.keyHeads * c.headSize
    func norm(
      _ name: String, _ width: Int, if isThere: Bool, _ parts: inout PartReader
    ) throws(CheckpointError) -> RMSNorm? {
      guard isThere else { return nil }
      return try parts.rmsNorm(name, width, epsilon: c.epsilon, offset: c.normOffset)
    }
    self.norm = try parts.rmsNorm(
      prefix + "input_layernorm", c.width, epsilon: c.epsilon, offset: c.normOffset)
    let layers: [Linear]
    if c.member.fusesProjections {
      layers = [
        try parts.linear(name + "qkv_proj", queryWidth + 2 * keyWidth, c.width, bias: c.queryBias)
      ]
    } else {
      layers = [
        try parts.linear(name + "q_proj", queryWidth, c.width, bias: c.queryBias),
        try parts.linear(name + "k_proj", keyWidth, c.width, bias: c.queryBias),
        try parts.linear(name + "v_proj", keyWidth, c.width, bias: c.queryBias),
      ]
    }
    projections = Projections(layers: layers, queryWidth: queryWidth, keyWidth: keyWidth)
    output = try parts.linear(name + "o_proj", c.width, queryWidth, bias: c.outputBias)
    queryNorm = try norm(name + "q_norm", c.headSize, if: c.member.normalizesHeads, &parts)
    keyNorm = try norm(name + "k_norm", c.headSize, if: c.member.normalizesHeads, &parts)
    outputNorm = try norm(
      prefix + "post_attention_layernorm", c.width, if: c.member.normalizesOutputs, &parts)
    self.rotation = rotation
    attention = Attention(
      heads: c.heads, keyHeads: c.keyHeads, headSize: c.headSize,
      mask: .causal(window: layer.window), scale: c.attentionScale, cap: c.attentionCap)
  }

  var groups: [[Linear]] { [projections.layers, [output]] }
  var sources: [InputSource] { [norm.source, projections.valueSource(attention)] }
  var vectors: [VectorParameter] {
    [
      VectorParameter(norm.weightName, self, \.norm.weight),
      VectorParameter(queryNorm, self, \.queryNorm), VectorParameter(keyNorm, self, \.keyNorm),
      VectorParameter(outputNorm, self, \.outputNorm),
    ].compactMap { $0 }
  }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return norm.applied(to: previous) }
    var (queries, keys, values) = projections.apply(previous)
    queryNorm?.apply(&queries)
    keyNorm?.apply(&keys)
    let past = cache?.count ?? 0
    rotation.rotate(&queries, batch: batch, past: past)
    rotation.rotate(&keys, batch: batch, past: past)
    return attention.apply(
      queries: queries, keys: keys, values: values, batch: batch, cache: cache)
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = output.apply(last)
    outputNorm?.apply(&result)
    result.add(hidden)
    return result
  }
}

/// `down(f(gate x) ∘ up x)`: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
struct GatedMLP {
  /// Gate and up, or one matrix with the rows of both.
  let inner: [Linear]
  let down: Linear
  let activation: Activation

  /// What `down` reads.
  func inside(_ x: Matrix) -> Matrix {
    if inner.count == 1 {
      let both = inner[0].apply(x), width = down.matrix.inputs
      var gate = both.columns(0..<width)
      activation.applyGate(&gate, up: both.columns(width..<2 * width))
      return gate
    }
    var gate = inner[0].apply(x)
    activation.applyGate(&gate, up: inner[1].apply(x))
    return gate
  }

  /// What makes the inputs of `down`: the activation stands on the gate's side alone.
  var source: InputSource { inner.count == 2 ? .rows(of: inner[1]) : .fixed }
}

/// The gated MLP branch.
final class DecoderMLP: ChainedSublayer {
  private var norm: RMSNorm
  private let mlp: GatedMLP
  private var outputNorm: RMSNorm?

  init(
    _ c: DecoderConfiguration, innerWidth: Int, _ prefix: String, _ parts: inout PartReader
  ) throws(CheckpointError) {
    let hasOutputNorm = c.member.normalizesOutputs
    norm = try parts.rmsNorm(
      prefix + (hasOutputNorm ? "pre_feedforward_layernorm" : "post_attention_layernorm"), c.width,
      epsilon: c.epsilon, offset: c.normOffset)
    let name = prefix + "mlp."
    let inner: [Linear]
    if c.member.fusesProjections {
      inner = [try parts.linear(name + "gate_up_proj", 2 * innerWidth, c.width, bias: c.innerBias)]
    } else {
      inner = [
        try parts.linear(name + "gate_proj", innerWidth, c.width, bias: c.innerBias),
        try parts.linear(name + "up_proj", innerWidth, c.width, bias: c.innerBias),
      ]
    }
    mlp = GatedMLP(
      inner: inner,
      down: try parts.linear(name + "down_proj", c.width, innerWidth, bias: c.innerBias),
      activation: c.activation)
    outputNorm =
      hasOutputNorm
      ? try parts.rmsNorm(
        prefix + "post_feedforward_layernorm", c.width, epsilon: c.epsilon, offset: c.normOffset)
      : nil
  }

  var groups: [[Linear]] { [mlp.inner, [mlp.down]] }
  var sources: [InputSource] { [norm.source, mlp.source] }
  var vectors: [VectorParameter] {
    [
      VectorParameter(norm.weightName, self, \.norm.weight),
      VectorParameter(outputNorm, self, \.outputNorm),
    ].compactMap { $0 }
  }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    group == 0 ? norm.applied(to: previous) : mlp.inside(previous)
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = mlp.down.apply(last)
    outputNorm?.apply(&result)
    result.add(hidden)
    return result
  }
}

extension RMSNorm {
  /// What a group behind it reads: a factor of a channel is a factor of the weight, unless the weight is stored as
  /// its distance from one.
  var source: InputSource { offset == 0 ? .norm(weight: weightName) : .fixed }
}

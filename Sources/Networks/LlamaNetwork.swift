// The decoder family: RMSNorm, rotary attention with grouped queries, gated MLP.
//
// Source   Touvron et al., "LLaMA", arXiv:2302.13971; Jiang et al., "Mistral 7B", arXiv:2310.06825;
//          Yang et al., "Qwen2", arXiv:2407.10671, and "Qwen3", arXiv:2505.09388
// Checked  FamilyFixtureTests: logits equal those of transformers

public import Checkpoints
import Encodings
public import Tensors

/// A Llama-like decoder over a checkpoint's weights.
public final class LlamaNetwork: LanguageModel, ModelFamily {
  let configuration: LlamaConfiguration
  /// The token embedding.
  public let embedding: Linear
  /// The output layer; the embedding itself when they are tied.
  public let head: Linear
  /// The branches in the order of the stream.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  private var finalNorm: RMSNorm

  /// The family's name.
  public var family: String { configuration.member.rawValue }
  /// The longest sequence that the model was made for.
  public var contextLimit: Int { configuration.contextLimit }
  /// Ids are below this.
  public var vocabularySize: Int { configuration.vocabularySize }
  /// Whether head and embedding are one matrix.
  public var isTied: Bool { configuration.isTied }

  /// The values of `model_type` that belong here.
  public static var modelTypes: [String] {
    LlamaConfiguration.Member.allCases.map(\.rawValue)
      + LlamaConfiguration.Member.allCases.map { $0.rawValue + LayerBranches.suffix }
  }

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    try LlamaNetwork(try LlamaConfiguration(checkpoint), checkpoint)
  }

  private init(
    _ configuration: LlamaConfiguration, _ checkpoint: any Checkpoint
  ) throws(CheckpointError) {
    self.configuration = configuration
    var names: Set<String> = []
    func linear(
      _ name: String, _ outputs: Int, _ inputs: Int, bias: Bool
    ) throws(CheckpointError) -> Linear {
      names.insert(name + ".weight")
      if bias { names.insert(name + ".bias") }
      return Linear(
        name: name,
        matrix: try checkpoint.weight(name + ".weight", outputs: outputs, inputs: inputs),
        bias: bias ? try checkpoint.vector(name + ".bias", count: outputs) : nil)
    }
    func norm(_ name: String, _ width: Int) throws(CheckpointError) -> RMSNorm {
      names.insert(name + ".weight")
      return RMSNorm(
        weightName: name + ".weight",
        weight: try checkpoint.vector(name + ".weight", count: width),
        epsilon: configuration.epsilon)
    }
    let c = configuration
    let rotation = RotaryTables(c.rotary)
    let embedding = try linear("model.embed_tokens", c.vocabularySize, c.width, bias: false)
    var sublayers: [any Sublayer] = []
    for layer in 0..<c.layers {
      let prefix = "model.layers.\(layer)."
      let attention = prefix + "self_attn."
      let queryWidth = c.heads * c.headSize, keyWidth = c.keyHeads * c.headSize
      let normalizesHeads = c.member == .qwen3
      if c.branches(ofLayer: layer).attention {
        sublayers.append(
          LlamaAttention(
            norm: try norm(prefix + "input_layernorm", c.width),
            query: try linear(attention + "q_proj", queryWidth, c.width, bias: c.queryBias),
            key: try linear(attention + "k_proj", keyWidth, c.width, bias: c.queryBias),
            value: try linear(attention + "v_proj", keyWidth, c.width, bias: c.queryBias),
            output: try linear(attention + "o_proj", c.width, queryWidth, bias: c.outputBias),
            queryNorm: normalizesHeads ? try norm(attention + "q_norm", c.headSize) : nil,
            keyNorm: normalizesHeads ? try norm(attention + "k_norm", c.headSize) : nil,
            rotation: rotation,
            attention: Attention(
              heads: c.heads, keyHeads: c.keyHeads, headSize: c.headSize,
              mask: .causal(window: c.windows[layer]), scale: 1 / Float(c.headSize).squareRoot())))
        // Old checkpoints store the rotation's frequencies, which follow from the configuration.
        names.insert(attention + "rotary_emb.inv_freq")
      }
      if c.branches(ofLayer: layer).mlp {
        sublayers.append(
          LlamaMLP(
            norm: try norm(prefix + "post_attention_layernorm", c.width),
            gate: try linear(prefix + "mlp.gate_proj", c.innerWidth, c.width, bias: c.innerBias),
            up: try linear(prefix + "mlp.up_proj", c.innerWidth, c.width, bias: c.innerBias),
            down: try linear(prefix + "mlp.down_proj", c.width, c.innerWidth, bias: c.innerBias),
            activation: c.activation))
      }
    }
    finalNorm = try norm("model.norm", c.width)
    head = c.isTied ? embedding : try linear("lm_head", c.vocabularySize, c.width, bias: false)
    // Some writers store the tied head a second time.
    names.insert("lm_head.weight")
    self.embedding = embedding
    self.sublayers = sublayers
    tensorNames = names
  }

  /// The stream before the first branch.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    embedding.gather(batch.tokens, tape: batch.tape)
  }

  /// The final norm's weight.
  public var outerVectors: [VectorParameter] {
    [VectorParameter(finalNorm.weightName, self, \.finalNorm.weight)]
  }

  /// The final norm.
  public func normalize(_ hidden: Matrix) -> Matrix { finalNorm.applied(to: hidden) }

  /// The stream between the branches: each reads it through its norm, and adds what its last group gives.
  public var rotatableStream: RotatableStream? {
    var readers: [(norm: String, layers: [Linear])] = []
    for sublayer in sublayers {
      for (source, group) in zip(sublayer.sources, sublayer.groups) {
        if case .norm(let weight) = source { readers.append((weight, group)) }
      }
    }
    return RotatableStream(
      readers: readers, writers: sublayers.flatMap { $0.groups.last ?? [] },
      finalNorm: finalNorm.weightName)
  }
}

/// The attention branch.
private final class LlamaAttention: Sublayer {
  var norm: RMSNorm
  let query, key, value, output: Linear
  var queryNorm, keyNorm: RMSNorm?
  let rotation: RotaryTables
  let attention: Attention

  init(
    norm: RMSNorm, query: Linear, key: Linear, value: Linear, output: Linear, queryNorm: RMSNorm?,
    keyNorm: RMSNorm?, rotation: RotaryTables, attention: Attention
  ) {
    self.norm = norm
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.queryNorm = queryNorm
    self.keyNorm = keyNorm
    self.rotation = rotation
    self.attention = attention
  }

  var groups: [[Linear]] { [[query, key, value], [output]] }
  var sources: [InputSource] {
    [.norm(weight: norm.weightName), .values(of: value, heads: attention.layout)]
  }
  var vectors: [VectorParameter] {
    [
      VectorParameter(norm.weightName, self, \.norm.weight),
      VectorParameter(queryNorm, self, \.queryNorm), VectorParameter(keyNorm, self, \.keyNorm),
    ].compactMap { $0 }
  }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return norm.applied(to: previous) }
    var queries = query.apply(previous), keys = key.apply(previous)
    queryNorm?.apply(&queries)
    keyNorm?.apply(&keys)
    let past = cache?.count ?? 0
    rotation.rotate(&queries, batch: batch, past: past)
    rotation.rotate(&keys, batch: batch, past: past)
    return attention.apply(
      queries: queries, keys: keys, values: value.apply(previous), batch: batch, cache: cache)
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = output.apply(last)
    result.add(hidden)
    return result
  }
}

/// The gated MLP branch.
private final class LlamaMLP: Sublayer {
  var norm: RMSNorm
  let gate, up, down: Linear
  let activation: Activation

  init(norm: RMSNorm, gate: Linear, up: Linear, down: Linear, activation: Activation) {
    self.norm = norm
    self.gate = gate
    self.up = up
    self.down = down
    self.activation = activation
  }

  var groups: [[Linear]] { [[gate, up], [down]] }
  // The activation stands on the gate's side alone.
  var sources: [InputSource] { [.norm(weight: norm.weightName), .rows(of: up)] }
  var vectors: [VectorParameter] { [VectorParameter(norm.weightName, self, \.norm.weight)] }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return norm.applied(to: previous) }
    var inner = gate.apply(previous)
    activation.applyGate(&inner, up: up.apply(previous))
    return inner
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = down.apply(last)
    result.add(hidden)
    return result
  }
}

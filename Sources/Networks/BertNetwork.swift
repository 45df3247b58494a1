// The encoder family: BERT and MiniLM, learned positions, LayerNorm after each addition.
//
// Source   Devlin et al., "BERT", arXiv:1810.04805; Wang et al., "MiniLM", arXiv:2002.10957;
//          pooling: Reimers and Gurevych, "Sentence-BERT", arXiv:1908.10084
// Checked  FamilyFixtureTests: hidden states and embeddings equal those of transformers and
//          sentence-transformers

public import Checkpoints
import Encodings
import JSONDocuments
public import Tensors

/// A BERT encoder over a checkpoint's weights.
public final class BertNetwork: TextEncoder, ModelFamily {
  /// The values of `model_type` that belong here.
  public static let modelTypes = ["bert"]

  /// The family's name.
  public let family = "bert"
  /// The longest sequence that the model was made for.
  public let contextLimit: Int
  /// Ids are below this.
  public let vocabularySize: Int
  /// Tokens of a sequence beyond this are cut off.
  public let maximumTokens: Int
  /// The token embedding.
  public let embedding: Linear
  /// The branches in the order of the stream.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  private let positions: Linear
  private let types: Linear
  private var embeddingNorm: LayerNorm
  private let pooling: SentencePooling

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    try BertNetwork(checkpoint)
  }

  private init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let reader = ConfigurationReader(checkpoint)
    vocabularySize = try reader.size("vocab_size")
    let width = try reader.size("hidden_size"), inner = try reader.size("intermediate_size")
    let layers = try reader.size("num_hidden_layers"),
      heads = try reader.size("num_attention_heads")
    let types = try reader.size("type_vocab_size", default: 2)
    contextLimit = try reader.size("max_position_embeddings")
    guard width % heads == 0 else {
      throw reader.wrong("hidden_size", .integer(width), expected: "a multiple of \(heads) heads")
    }
    let kind = try reader.text("position_embedding_type", default: "absolute")
    guard kind == "absolute" else {
      throw reader.wrong("position_embedding_type", .string(kind), expected: "absolute")
    }
    let name = try reader.text("hidden_act", default: "gelu")
    guard let activation = Activation(rawValue: name) else {
      throw reader.wrong("hidden_act", .string(name), expected: Activation.names)
    }
    let epsilon = Float(try reader.number("layer_norm_eps", default: 1e-12))
    pooling = try SentencePooling(checkpoint)
    maximumTokens = min(pooling.maximumTokens ?? contextLimit, contextLimit)
    guard maximumTokens >= 2 else {
      throw reader.wrong("max_seq_length", .integer(maximumTokens), expected: "at least 2")
    }

    // A checkpoint of a model with a task head puts the encoder under "bert.".
    let root = checkpoint.holds("bert.embeddings.word_embeddings.weight") ? "bert." : ""
    var names: Set<String> = [
      root + "embeddings.position_ids", root + "embeddings.token_type_ids",
      root + "pooler.dense.weight", root + "pooler.dense.bias",
    ]
    func linear(
      _ name: String, _ outputs: Int, _ inputs: Int, bias: Bool = true
    ) throws(CheckpointError) -> Linear {
      names.insert(root + name + ".weight")
      if bias { names.insert(root + name + ".bias") }
      return Linear(
        name: root + name,
        matrix: try checkpoint.weight(root + name + ".weight", outputs: outputs, inputs: inputs),
        bias: bias ? try checkpoint.vector(root + name + ".bias", count: outputs) : nil)
    }
    func norm(_ name: String) throws(CheckpointError) -> LayerNorm {
      names.formUnion([root + name + ".weight", root + name + ".bias"])
      return LayerNorm(
        name: root + name, weight: try checkpoint.vector(root + name + ".weight", count: width),
        bias: try checkpoint.vector(root + name + ".bias", count: width), epsilon: epsilon)
    }
    embedding = try linear("embeddings.word_embeddings", vocabularySize, width, bias: false)
    positions = try linear("embeddings.position_embeddings", contextLimit, width, bias: false)
    self.types = try linear("embeddings.token_type_embeddings", types, width, bias: false)
    embeddingNorm = try norm("embeddings.LayerNorm")
    var sublayers: [any Sublayer] = []
    for layer in 0..<layers {
      let prefix = "encoder.layer.\(layer)."
      sublayers.append(
        BertAttention(
          query: try linear(prefix + "attention.self.query", width, width),
          key: try linear(prefix + "attention.self.key", width, width),
          value: try linear(prefix + "attention.self.value", width, width),
          output: try linear(prefix + "attention.output.dense", width, width),
          norm: try norm(prefix + "attention.output.LayerNorm"),
          attention: Attention(
            heads: heads, keyHeads: heads, headSize: width / heads, mask: .full,
            scale: 1 / Float(width / heads).squareRoot())))
      sublayers.append(
        BertMLP(
          inner: try linear(prefix + "intermediate.dense", inner, width),
          outer: try linear(prefix + "output.dense", width, inner),
          norm: try norm(prefix + "output.LayerNorm"), activation: activation))
    }
    self.sublayers = sublayers
    tensorNames = names
  }

  /// Positions and the types of tokens.
  public var tables: [Linear] { [positions, types] }
  /// The norm of the embeddings.
  public var outerVectors: [VectorParameter] {
    [
      VectorParameter(embeddingNorm.name + ".weight", self, \.embeddingNorm.weight),
      VectorParameter(embeddingNorm.name + ".bias", self, \.embeddingNorm.bias),
    ]
  }

  /// The stream before the first branch.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    var hidden = embedding.gather(batch.tokens, tape: batch.tape)
    hidden.add(positions.gather(positionIds(batch, from: position), tape: batch.tape))
    // Every token is of the first type: there is one sentence.
    let first = [Int32](repeating: 0, count: batch.tokens.count)
    hidden.add(types.gather(first, tape: batch.tape))
    embeddingNorm.apply(&hidden)
    return hidden
  }

  private func positionIds(_ batch: TokenBatch, from position: Int) -> [Int32] {
    batch.sequences.flatMap { sequence in (0..<sequence.count).map { Int32(position + $0) } }
  }

  /// One embedding a sequence.
  public func pool(_ hidden: Matrix, _ batch: TokenBatch) -> Matrix { pooling.apply(hidden, batch) }
}

/// The attention branch.
private final class BertAttention: Sublayer {
  let query, key, value, output: Linear
  var norm: LayerNorm
  let attention: Attention

  init(
    query: Linear, key: Linear, value: Linear, output: Linear, norm: LayerNorm, attention: Attention
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.norm = norm
    self.attention = attention
  }

  var groups: [[Linear]] { [[query, key, value], [output]] }
  var vectors: [VectorParameter] {
    [
      VectorParameter(norm.name + ".weight", self, \.norm.weight),
      VectorParameter(norm.name + ".bias", self, \.norm.bias),
    ]
  }
  // The norm before the branch also feeds the residual addition.
  var sources: [InputSource] { [.fixed, .values(of: value, heads: attention.layout)] }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return previous }
    return attention.apply(
      queries: query.apply(previous), keys: key.apply(previous), values: value.apply(previous),
      batch: batch, cache: nil)
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = output.apply(last)
    result.add(hidden)
    norm.apply(&result)
    return result
  }
}

/// The MLP branch.
private final class BertMLP: Sublayer {
  let inner, outer: Linear
  var norm: LayerNorm
  let activation: Activation

  init(inner: Linear, outer: Linear, norm: LayerNorm, activation: Activation) {
    self.inner = inner
    self.outer = outer
    self.norm = norm
    self.activation = activation
  }

  var groups: [[Linear]] { [[inner], [outer]] }
  var vectors: [VectorParameter] {
    [
      VectorParameter(norm.name + ".weight", self, \.norm.weight),
      VectorParameter(norm.name + ".bias", self, \.norm.bias),
    ]
  }
  // As above; and no factor passes the activation.
  var sources: [InputSource] { [.fixed, .fixed] }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    if group == 0 { return previous }
    var wide = inner.apply(previous)
    activation.apply(&wide)
    return wide
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var result = outer.apply(last)
    result.add(hidden)
    norm.apply(&result)
    return result
  }
}

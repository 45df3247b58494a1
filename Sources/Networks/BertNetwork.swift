// The encoder family: BERT, MiniLM, RoBERTa, XLM-R, DistilBERT: learned positions, LayerNorm after each addition.
//
// Source   Devlin et al., "BERT", arXiv:1810.04805; Wang et al., "MiniLM", arXiv:2002.10957; Liu et al., "RoBERTa",
//          arXiv:1907.11692; Conneau et al., "XLM-R", arXiv:1911.02116; Sanh et al., "DistilBERT", arXiv:1910.01108;
//          pooling: Reimers and Gurevych, "Sentence-BERT", arXiv:1908.10084
// Checked  FamilyFixtureTests: hidden states and embeddings equal those of transformers and
//          sentence-transformers

public import Checkpoints
import Encodings
import JSONDocuments
public import Tensors

/// A BERT-like encoder over a checkpoint's weights.
public final class BertNetwork: TextEncoder, ModelFamily {
  /// The values of `model_type` that belong here.
  public static var modelTypes: [String] { BertConfiguration.Member.allCases.map(\.rawValue) }

  let configuration: BertConfiguration
  /// Tokens of a sequence beyond this are cut off.
  public let maximumTokens: Int
  /// The token embedding.
  public let embedding: Linear
  /// The branches in the order of the stream.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  /// Before the names of the encoder's tensors.
  let root: String
  private let positions: Linear
  private let types: Linear?
  private var embeddingNorm: LayerNorm
  private let pooling: SentencePooling

  /// The family's name.
  public var family: String { configuration.member.rawValue }
  /// The longest sequence that the model was made for.
  public var contextLimit: Int { configuration.contextLimit }
  /// Ids are below this.
  public var vocabularySize: Int { configuration.vocabularySize }
  /// Positions are rows of a table.
  public var hasPositionTable: Bool { true }
  /// Values of an embedding.
  public var embeddingWidth: Int { pooling.width }

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    try BertNetwork(checkpoint)
  }

  private init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let c = try BertConfiguration(checkpoint)
    configuration = c
    pooling = try SentencePooling(checkpoint, width: c.width)
    maximumTokens = min(pooling.maximumTokens ?? c.contextLimit, c.contextLimit)
    guard maximumTokens >= 2 else {
      throw ConfigurationReader(checkpoint).wrong(
        "max_seq_length", .integer(maximumTokens), expected: "at least 2")
    }

    let root = c.names.roots.first { checkpoint.holds($0 + "embeddings.word_embeddings.weight") }
    let prefix = root ?? ""
    self.root = prefix
    var parts = PartReader(checkpoint, root: prefix)
    parts.leaveAlone(
      [
        "embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense.weight",
        "pooler.dense.bias",
      ].map { prefix + $0 })
    if root != nil {
      // The head of another task, which an embedding does not need, stays as it is.
      parts.leaveAlone(
        checkpoint.logicalTensors.map(\.name).filter { name in
          c.names.headPrefixes.contains { name.hasPrefix($0) }
        })
    }
    embedding = try parts.linear(
      "embeddings.word_embeddings", c.vocabularySize, c.width, bias: false)
    positions = try parts.linear(
      "embeddings.position_embeddings", c.positionRows, c.width, bias: false)
    types = try c.types.map { (rows) throws(CheckpointError) in
      try parts.linear("embeddings.token_type_embeddings", rows, c.width, bias: false)
    }
    embeddingNorm = try parts.layerNorm("embeddings.LayerNorm", c.width, epsilon: c.epsilon)
    var sublayers: [any Sublayer] = []
    let width = c.width, names = c.names
    for layer in 0..<c.layers {
      let prefix = names.layer + "\(layer)."
      sublayers.append(
        BertAttention(
          query: try parts.linear(prefix + names.query, width, width, bias: true),
          key: try parts.linear(prefix + names.key, width, width, bias: true),
          value: try parts.linear(prefix + names.value, width, width, bias: true),
          output: try parts.linear(prefix + names.attentionOutput, width, width, bias: true),
          norm: try parts.layerNorm(prefix + names.attentionNorm, width, epsilon: c.epsilon),
          attention: Attention(
            heads: c.heads, keyHeads: c.heads, headSize: width / c.heads, mask: .full,
            scale: 1 / Float(width / c.heads).squareRoot())))
      sublayers.append(
        BertMLP(
          inner: try parts.linear(prefix + names.inner, c.innerWidth, width, bias: true),
          outer: try parts.linear(prefix + names.outer, width, c.innerWidth, bias: true),
          norm: try parts.layerNorm(prefix + names.outputNorm, width, epsilon: c.epsilon),
          activation: c.activation))
    }
    self.sublayers = sublayers
    tensorNames = parts.names
  }

  /// Positions and the types of tokens.
  public var tables: [Linear] { [positions] + (types.map { [$0] } ?? []) }
  /// The norm of the embeddings.
  public var outerVectors: [VectorParameter] {
    VectorParameter.of(embeddingNorm, self, \.embeddingNorm)
  }

  /// The stream before the first branch.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    var hidden = embedding.gather(batch.tokens, tape: batch.tape)
    hidden.add(positions.gather(positionIds(batch, from: position), tape: batch.tape))
    if let types {
      // Every token is of the first type: there is one sentence.
      let first = [Int32](repeating: 0, count: batch.tokens.count)
      hidden.add(types.gather(first, tape: batch.tape))
    }
    embeddingNorm.apply(&hidden)
    return hidden
  }

  private func positionIds(_ batch: TokenBatch, from position: Int) -> [Int32] {
    guard let padding = configuration.paddingID else {
      return batch.sequences.flatMap { sequence in (0..<sequence.count).map { Int32(position + $0) }
      }
    }
    return batch.sequences.flatMap { sequence in
      var count = position
      return batch.tokens[sequence].map { token -> Int32 in
        // A padding token that a text spells has the padding's own row, and is not counted.
        if token == padding { return Int32(padding) }
        count += 1
        return Int32(padding + count)
      }
    }
  }

  /// One embedding a sequence.
  public func pool(_ hidden: Matrix, _ batch: TokenBatch) -> Matrix { pooling.apply(hidden, batch) }
}

/// The attention branch.
private final class BertAttention: ChainedSublayer {
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
  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }
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
private final class BertMLP: ChainedSublayer {
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
  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }
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

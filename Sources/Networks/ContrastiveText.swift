// The text towers of CLIP and SigLIP: transformers with LayerNorm before each branch, of which one token's vector stands
// for the text.
//
// Source   Radford et al., "CLIP", arXiv:2103.00020, section 2.4; Zhai et al., "SigLIP", ICCV 2023, arXiv:2303.15343
// Given    CLIP: a causal mask, the vector at the first end-of-text token, a projection without bias. SigLIP: no mask, texts
//          filled up to the positions that there are, the last vector, a projection with bias
// Checked  VisionTests: outputs equal those of transformers

public import Checkpoints
import Encodings
import JSONDocuments
public import Tensors

/// A text tower over a checkpoint's weights.
public final class ContrastiveTextNetwork: TextEncoder, ModelFamily {
  /// The values of `model_type` that belong here; those of both towers are `VisionTransformer`'s.
  public static let modelTypes = ["clip_text_model", "siglip_text_model"]

  /// Which vector is the text's.
  private enum Pooled {
    /// Of the first token of an id; of the largest id where checkpoints say 2, as the first ones do.
    case token(Int)
    /// The last one.
    case last
  }

  /// The family's name.
  public let family: String
  /// Positions that there are.
  public let contextLimit: Int
  /// Ids are below this.
  public let vocabularySize: Int
  /// The token embedding.
  public let embedding: Linear
  /// The branches in the order of the stream.
  public let sublayers: [any Sublayer]
  /// Tensors that the graph reads, or knows and leaves alone.
  public let tensorNames: Set<String>
  /// What fills texts up; nil where they stay as long as they are.
  public let padding: TextPadding?
  private let positions: Linear
  private var finalNorm: LayerNorm
  private let head: Linear?
  private let pooled: Pooled

  /// Tokens of a sequence beyond this are cut off.
  public var maximumTokens: Int { contextLimit }
  /// Positions are rows of a table.
  public var hasPositionTable: Bool { true }
  /// Values of an embedding.
  public var embeddingWidth: Int { head?.matrix.outputs ?? embedding.matrix.inputs }
  /// Positions, and the matrix behind the final norm.
  public var tables: [Linear] { [positions] + (head.map { [$0] } ?? []) }
  /// Positions stay precise where all else is small.
  public var halvedTensors: Set<String> { [positions.weightName] }
  /// The final norm's weight and bias.
  public var outerVectors: [VectorParameter] { VectorParameter.of(finalNorm, self, \.finalNorm) }

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    try ContrastiveTextNetwork(checkpoint)
  }

  private init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let whole = ConfigurationReader(checkpoint)
    family = try whole.text("model_type", default: "")
    let isPart = family == "clip" || family == "siglip", isClip = family.hasPrefix("clip")
    let reader =
      isPart
      ? ConfigurationReader(
        path: whole.path, json: whole.value("text_config") ?? .object(JSONObject())) : whole
    vocabularySize = try reader.size("vocab_size", default: isClip ? 49408 : 32000)
    contextLimit = try reader.size("max_position_embeddings", default: isClip ? 77 : 64)
    let width = try reader.size("hidden_size", default: isClip ? 512 : 768)
    let inner = try reader.size("intermediate_size", default: isClip ? 2048 : 3072)
    let heads = try reader.size("num_attention_heads", default: isClip ? 8 : 12)
    guard width % heads == 0 else {
      throw reader.wrong("hidden_size", .integer(width), expected: "a multiple of \(heads) heads")
    }
    let epsilon = Float(try reader.number("layer_norm_eps", default: isClip ? 1e-5 : 1e-6))
    let activation = try reader.activation(
      "hidden_act", default: isClip ? "quick_gelu" : "gelu_pytorch_tanh")
    let end = reader.value("eos_token_id")?.integer ?? 49407
    pooled = isClip ? .token(end) : .last
    padding =
      isClip
      ? nil
      : TextPadding(
        length: contextLimit, id: Int32(clamping: reader.value("pad_token_id")?.integer ?? 1))

    let root =
      checkpoint.holds("text_model.embeddings.token_embedding.weight") ? "text_model." : ""
    var parts = PartReader(checkpoint, root: root)
    embedding = try parts.linear("embeddings.token_embedding", vocabularySize, width, bias: false)
    positions = try parts.linear("embeddings.position_embedding", contextLimit, width, bias: false)
    var sublayers: [any Sublayer] = []
    for layer in 0..<(try reader.size("num_hidden_layers", default: 12)) {
      let prefix = "encoder.layers.\(layer)."
      var projections: [Linear] = []
      for part in ["q", "k", "v"] {
        projections.append(
          try parts.linear(prefix + "self_attn.\(part)_proj", width, width, bias: true))
      }
      sublayers.append(
        PreNormAttention(
          norm: try parts.layerNorm(prefix + "layer_norm1", width, epsilon: epsilon),
          projections: Projections(layers: projections, queryWidth: width, keyWidth: width),
          output: try parts.linear(prefix + "self_attn.out_proj", width, width, bias: true),
          attention: Attention(
            heads: heads, keyHeads: heads, headSize: width / heads,
            mask: isClip ? .causal(window: nil) : .full,
            scale: 1 / Float(width / heads).squareRoot())))
      sublayers.append(
        PreNormMLP(
          norm: try parts.layerNorm(prefix + "layer_norm2", width, epsilon: epsilon),
          inner: try parts.linear(prefix + "mlp.fc1", inner, width, bias: true),
          outer: try parts.linear(prefix + "mlp.fc2", width, inner, bias: true),
          activation: activation))
    }
    self.sublayers = sublayers
    finalNorm = try parts.layerNorm("final_layer_norm", width, epsilon: epsilon)
    var outside = PartReader(checkpoint)
    let name = isClip ? "text_projection" : root + "head"
    if let shape = checkpoint.shape(name + ".weight") {
      head = try outside.linear(name, shape.first ?? 0, width, bias: !isClip)
    } else {
      head = nil
    }
    parts.leaveAlone(outside.names)
    let others = ["vision_model.", "visual_projection.", "logit_scale", "logit_bias"]
    parts.leaveAlone(
      checkpoint.logicalTensors.map(\.name).filter { name in
        name.hasSuffix("position_ids") || isPart && others.contains { name.hasPrefix($0) }
      })
    tensorNames = parts.names
  }

  /// The stream before the first branch.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    var hidden = embedding.gather(batch.tokens, tape: batch.tape)
    let ids = batch.sequences.flatMap { sequence in
      (0..<sequence.count).map { Int32(position + $0) }
    }
    hidden.add(positions.gather(ids, tape: batch.tape))
    return hidden
  }

  /// One embedding a sequence.
  public func pool(_ hidden: Matrix, _ batch: TokenBatch) -> Matrix {
    let rows = batch.sequences.map { sequence -> Int in
      switch pooled {
      case .last: return sequence.upperBound - 1
      case .token(2):
        return sequence.max { (batch.tokens[$0], $1) < (batch.tokens[$1], $0) }
          ?? sequence.lowerBound
      case .token(let id):
        // A text that was cut has none: transformers takes the first place then.
        return sequence.first { batch.tokens[$0] == Int32(clamping: id) } ?? sequence.lowerBound
      }
    }
    let vectors = finalNorm.applied(to: hidden.gathered(rows))
    return head?.apply(vectors) ?? vectors
  }
}

// The decoder family: RMSNorm, rotary attention with grouped queries, gated MLP or experts.
//
// Source   Touvron et al., "LLaMA", arXiv:2302.13971; Jiang et al., "Mistral 7B", arXiv:2310.06825, and "Mixtral of
//          Experts", arXiv:2401.04088; Yang et al., "Qwen2", arXiv:2407.10671, and "Qwen3", arXiv:2505.09388; Abdin et
//          al., "Phi-3", arXiv:2404.14219; Gemma Team, arXiv:2403.08295, arXiv:2408.00118, arXiv:2503.19786
// Checked  FamilyFixtureTests: logits equal those of transformers

public import Checkpoints
import Encodings
public import Tensors

/// A Llama-like decoder over a checkpoint's weights.
public class DecoderNetwork: LanguageModel, ModelFamily {
  let configuration: DecoderConfiguration
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
  /// The cap of the logits.
  public var logitCap: Float? { configuration.logitCap }

  /// The values of `model_type` that belong here.
  public static var modelTypes: [String] {
    DecoderConfiguration.Member.allCases.map(\.rawValue)
      + DecoderConfiguration.Member.allCases.filter(\.isStructured)
      .map { $0.rawValue + LayerBranches.suffix }
  }

  /// Builds the network of a checkpoint.
  public static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    let configuration = try DecoderConfiguration(checkpoint)
    return configuration.member.isStructured
      ? try LlamaNetwork(configuration, checkpoint) : try DecoderNetwork(configuration, checkpoint)
  }

  init(
    _ configuration: DecoderConfiguration, _ checkpoint: any Checkpoint
  ) throws(CheckpointError) {
    self.configuration = configuration
    let c = configuration
    var parts = PartReader(checkpoint)
    let rotations = c.rotary.map { RotaryTables($0) }
    embedding = try parts.linear("model.embed_tokens", c.vocabularySize, c.width, bias: false)
    var sublayers: [any Sublayer] = []
    for layer in c.layers.indices {
      let prefix = "model.layers.\(layer)."
      if c.branches(ofLayer: layer).attention {
        sublayers.append(
          try DecoderAttention(
            c, layer: c.layers[layer], prefix, rotations[c.layers[layer].rotary], &parts))
        // Old checkpoints store the rotation's frequencies, which follow from the configuration.
        parts.leaveAlone([prefix + "self_attn.rotary_emb.inv_freq"])
      }
      if c.branches(ofLayer: layer).mlp {
        switch c.layers[layer].inner {
        case .gated(let width):
          sublayers.append(try DecoderMLP(c, innerWidth: width, prefix, &parts))
        case .experts(let experts):
          sublayers.append(try ExpertMLP(c, experts, prefix, &parts))
        }
      }
    }
    finalNorm = try parts.rmsNorm("model.norm", c.width, epsilon: c.epsilon, offset: c.normOffset)
    head =
      c.isTied ? embedding : try parts.linear("lm_head", c.vocabularySize, c.width, bias: false)
    // Some writers store the tied head a second time.
    parts.leaveAlone(["lm_head.weight"])
    self.sublayers = sublayers
    tensorNames = parts.names
  }

  /// The stream before the first branch.
  public func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    let rows = embedding.gather(batch.tokens, tape: batch.tape)
    return configuration.embeddingScale == 1 ? rows : rows.scaled(by: configuration.embeddingScale)
  }

  /// The final norm's weight.
  public var outerVectors: [VectorParameter] {
    [VectorParameter(finalNorm.weightName, self, \.finalNorm.weight)]
  }

  /// The final norm.
  public func normalize(_ hidden: Matrix) -> Matrix { finalNorm.applied(to: hidden) }

  /// The stream between the branches: each reads it through its norm, and adds what its last group gives.
  public var rotatableStream: RotatableStream? {
    guard configuration.member.isStructured else { return nil }
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

/// A member of the family whose heads, channels and layers can be cut out.
public final class LlamaNetwork: DecoderNetwork {}

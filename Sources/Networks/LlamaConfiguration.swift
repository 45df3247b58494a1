// The decoder family's configuration, as transformers 4 and 5 write it.

import Checkpoints
import JSONDocuments

/// What a Llama-like `config.json` says: Llama 1/2/3, Mistral, Qwen 2, Qwen 2.5, Qwen 3, SmolLM, TinyLlama.
struct LlamaConfiguration {
  /// The members of the family that differ in more than numbers.
  enum Member: String, CaseIterable {
    case llama, mistral, qwen2, qwen3
  }

  let member: Member
  let vocabularySize: Int
  let width: Int
  let innerWidth: Int
  let layers: Int
  let heads: Int
  let keyHeads: Int
  let headSize: Int
  let contextLimit: Int
  let epsilon: Float
  let activation: Activation
  let isTied: Bool
  let queryBias: Bool
  let outputBias: Bool
  let innerBias: Bool
  let rotary: RotaryEmbedding
  /// Which branches each layer has; nil where all have both.
  let branches: LayerBranches?
  /// For each layer the window of its attention, or nil for all earlier tokens.
  let windows: [Int?]

  init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let reader = ConfigurationReader(checkpoint)
    let type = try reader.text("model_type", default: "")
    guard let member = Member(rawValue: LayerBranches.plainType(type)) else {
      throw reader.wrong("model_type", .string(type), expected: "a Llama-like architecture")
    }
    self.member = member
    vocabularySize = try reader.size("vocab_size")
    width = try reader.size("hidden_size")
    innerWidth = try reader.size("intermediate_size")
    layers = try reader.size("num_hidden_layers")
    do throws(CheckpointError.Problem) {
      branches = try LayerBranches(reader.json, layers: layers)
    } catch {
      throw CheckpointError(path: reader.path, error)
    }
    heads = try reader.size("num_attention_heads")
    keyHeads = try reader.size("num_key_value_heads", default: heads)
    guard heads % keyHeads == 0 else {
      throw reader.wrong(
        "num_key_value_heads", .integer(keyHeads), expected: "a divisor of \(heads) heads")
    }
    if reader.value("head_dim") == nil, width % heads != 0 {
      throw reader.wrong("hidden_size", .integer(width), expected: "a multiple of \(heads) heads")
    }
    headSize = try reader.size("head_dim", default: max(1, width / heads))
    guard headSize % 2 == 0 else {
      throw reader.wrong("head_dim", .integer(headSize), expected: "an even number")
    }
    contextLimit = try reader.size("max_position_embeddings", default: 2048)
    epsilon = Float(try reader.number("rms_norm_eps", default: 1e-6))
    activation = try reader.activation("hidden_act", default: "silu")
    isTied = try reader.flag("tie_word_embeddings", default: false)
    let attentionBias = try reader.flag("attention_bias", default: false)
    queryBias = member == .qwen2 || (attentionBias && member != .mistral)
    outputBias = attentionBias && (member == .llama || member == .qwen3)
    innerBias = member == .llama ? try reader.flag("mlp_bias", default: false) : false
    rotary = try RotaryEmbedding(reader, headSize: headSize, contextLimit: contextLimit)
    windows = try Self.windows(reader, member: member, layers: layers)
  }

  /// The branches of a layer.
  func branches(ofLayer layer: Int) -> LayerBranches.Layer {
    branches?.layers[layer] ?? .init(attention: true, mlp: true)
  }

  private static func windows(
    _ reader: ConfigurationReader, member: Member, layers: Int
  ) throws(CheckpointError) -> [Int?] {
    guard member != .llama, reader.value("sliding_window") != nil else {
      return [Int?](repeating: nil, count: layers)
    }
    let window = try reader.size("sliding_window")
    if let value = reader.value("layer_types") {
      guard let types = value.array?.compactMap(\.string), types.count == layers,
        types.allSatisfy({ $0 == "sliding_attention" || $0 == "full_attention" })
      else {
        throw reader.wrong(
          "layer_types", value, expected: "\(layers) times sliding_attention or full_attention")
      }
      return types.map { $0 == "sliding_attention" ? window : nil }
    }
    if member == .mistral { return [Int?](repeating: window, count: layers) }
    guard try reader.flag("use_sliding_window", default: false) else {
      return [Int?](repeating: nil, count: layers)
    }
    let first = try reader.number("max_window_layers", default: 28)
    return (0..<layers).map { Double($0) >= first ? window : nil }
  }
}

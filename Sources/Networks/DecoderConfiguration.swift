// The decoder family's configuration, as transformers 4 and 5 write it: what the parts of each layer are.

import Checkpoints
import JSONDocuments

/// What the `config.json` of a decoder with RMSNorm and rotary positions says.
struct DecoderConfiguration {
  /// The members of the family that differ in more than numbers.
  enum Member: String, CaseIterable {
    case llama, mistral, qwen2, qwen3, phi3, mixtral, gemma, gemma2
    case gemma3 = "gemma3_text"
    case qwen2Experts = "qwen2_moe"
    case qwen3Experts = "qwen3_moe"

    /// Norms multiply by one more than their weight, and the embedding is scaled.
    var isGemma: Bool { self == .gemma || self == .gemma2 || self == .gemma3 }
    /// Queries and keys have norms of their own, head by head.
    var normalizesHeads: Bool { self == .qwen3 || self == .qwen3Experts || self == .gemma3 }
    /// What a branch adds to the stream has a norm of its own.
    var normalizesOutputs: Bool { self == .gemma2 || self == .gemma3 }
    /// Projections of one input are stored as one matrix.
    var fusesProjections: Bool { self == .phi3 }
    /// Whole heads, channels and layers can be cut out.
    var isStructured: Bool { [.llama, .mistral, .qwen2, .qwen3].contains(self) }
  }

  /// What stands behind the attention of a layer.
  enum Inner: Equatable {
    case gated(width: Int)
    case experts(ExpertConfiguration)
  }

  /// One layer.
  struct Layer {
    /// Tokens that its attention sees, or nil for all earlier ones.
    var window: Int?
    /// Which of `rotary` turns its queries and keys.
    var rotary: Int
    var inner: Inner
  }

  let member: Member
  let vocabularySize: Int
  let width: Int
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
  /// Factor of the products of queries and keys.
  let attentionScale: Float
  /// See `Attention.cap` and `LanguageModel.logitCap`.
  let attentionCap: Float?
  let logitCap: Float?
  let rotary: [RotaryEmbedding]
  let layers: [Layer]
  /// Which branches each layer has; nil where all have both.
  let branches: LayerBranches?

  /// Factor of the rows of the embedding.
  var embeddingScale: Float { member.isGemma ? Float(width).squareRoot() : 1 }
  /// See `RMSNorm.offset`.
  var normOffset: Float { member.isGemma ? 1 : 0 }
  /// Channels of the MLPs; 0 where a layer has experts.
  var innerWidth: Int {
    if case .gated(let width)? = layers.first?.inner { return width }
    return 0
  }

  init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let reader = ConfigurationReader(checkpoint)
    let type = try reader.text("model_type", default: "")
    guard let member = Member(rawValue: LayerBranches.plainType(type)) else {
      throw reader.wrong("model_type", .string(type), expected: "a Llama-like architecture")
    }
    self.member = member
    vocabularySize = try reader.size("vocab_size")
    width = try reader.size("hidden_size")
    let count = try reader.size("num_hidden_layers")
    do throws(CheckpointError.Problem) {
      branches = try LayerBranches(reader.json, layers: count)
    } catch {
      throw CheckpointError(path: reader.path, error)
    }
    heads = try reader.size("num_attention_heads")
    keyHeads = try reader.size("num_key_value_heads", default: heads)
    guard heads % keyHeads == 0 else {
      throw reader.wrong(
        "num_key_value_heads", .integer(keyHeads), expected: "a divisor of \(heads) heads")
    }
    if reader.value("head_dim") == nil, !member.isGemma, width % heads != 0 {
      throw reader.wrong("hidden_size", .integer(width), expected: "a multiple of \(heads) heads")
    }
    headSize = try reader.size("head_dim", default: member.isGemma ? 256 : max(1, width / heads))
    guard headSize % 2 == 0 else {
      throw reader.wrong("head_dim", .integer(headSize), expected: "an even number")
    }
    contextLimit = try reader.size("max_position_embeddings", default: 2048)
    epsilon = Float(try reader.number("rms_norm_eps", default: 1e-6))
    activation =
      member.isGemma
      ? try reader.activation(
        reader.value("hidden_activation") == nil ? "hidden_act" : "hidden_activation",
        default: "gelu_pytorch_tanh")
      : try reader.activation("hidden_act", default: "silu")
    isTied = try reader.flag("tie_word_embeddings", default: member.isGemma)
    let attentionBias = try reader.flag("attention_bias", default: false)
    switch member {
    case .qwen2: (queryBias, outputBias) = (true, false)
    case .qwen2Experts:
      (queryBias, outputBias) = (try reader.flag("qkv_bias", default: true), false)
    case .mistral, .mixtral, .phi3: (queryBias, outputBias) = (false, false)
    default: (queryBias, outputBias) = (attentionBias, attentionBias)
    }
    innerBias = member == .llama ? try reader.flag("mlp_bias", default: false) : false
    let isScaled = member == .gemma2 || member == .gemma3
    attentionScale =
      1
      / Float(
        isScaled
          ? try reader.positive("query_pre_attn_scalar", default: 256) : Double(headSize)
      ).squareRoot()
    attentionCap = isScaled ? try reader.cap("attn_logit_softcapping", member) : nil
    logitCap = isScaled ? try reader.cap("final_logit_softcapping", member) : nil
    if try reader.flag("use_bidirectional_attention", default: false) {
      throw reader.wrong(
        "use_bidirectional_attention", .bool(true), expected: "false: a decoder sees earlier tokens"
      )
    }
    let kinds = try LayerKinds(reader, member: member, layers: count)
    let rotary = try kinds.rotary(reader, headSize: headSize, contextLimit: contextLimit)
    self.rotary = rotary
    let inner = try Self.inner(reader, member, layers: count)
    layers = (0..<count).map {
      Layer(
        window: kinds.windows[$0], rotary: rotary.count > 1 && kinds.windows[$0] != nil ? 1 : 0,
        inner: inner[$0])
    }
  }

  /// The branches of a layer.
  func branches(ofLayer layer: Int) -> LayerBranches.Layer {
    branches?.layers[layer] ?? .init(attention: true, mlp: true)
  }

  private static func inner(
    _ reader: ConfigurationReader, _ member: Member, layers: Int
  ) throws(CheckpointError) -> [Inner] {
    guard let experts = try ExpertConfiguration(reader, member) else {
      return [Inner](repeating: .gated(width: try reader.size("intermediate_size")), count: layers)
    }
    let dense = (reader.value("mlp_only_layers")?.array ?? []).map(\.integer)
    let step = member == .mixtral ? 1 : try reader.size("decoder_sparse_step", default: 1)
    var inner: [Inner] = []
    for layer in 0..<layers {
      let hasExperts = !dense.contains(layer) && (layer + 1) % step == 0
      inner.append(
        hasExperts
          ? .experts(experts) : .gated(width: try reader.size("intermediate_size")))
    }
    return inner
  }
}

extension ConfigurationReader {
  /// A cap of Gemma 2 and 3; null is none, and so is a missing key, but for Gemma 2, which has defaults.
  fileprivate func cap(
    _ key: String, _ member: DecoderConfiguration.Member
  ) throws(CheckpointError) -> Float? {
    if json[key] == nil, member == .gemma2 { return key.hasPrefix("final") ? 30 : 50 }
    return value(key) == nil ? nil : Float(try positive(key))
  }
}

/// Which layers see how many tokens, and which rotation they have.
struct LayerKinds {
  let windows: [Int?]
  /// Whether layers with a window have a rotation of their own.
  private let hasLocalRotary: Bool

  init(
    _ reader: ConfigurationReader, member: DecoderConfiguration.Member, layers: Int
  ) throws(CheckpointError) {
    hasLocalRotary = member == .gemma3
    windows = try Self.windows(reader, member: member, layers: layers)
  }

  /// The rotation of layers that see all tokens, and where it is another one that of layers with a window.
  func rotary(
    _ reader: ConfigurationReader, headSize: Int, contextLimit: Int
  ) throws(CheckpointError) -> [RotaryEmbedding] {
    guard hasLocalRotary else {
      return [try RotaryEmbedding(reader, headSize: headSize, contextLimit: contextLimit)]
    }
    func read(_ rope: JSONValue) throws(CheckpointError) -> RotaryEmbedding {
      try RotaryEmbedding(
        ConfigurationReader(path: reader.path, json: ["rope_parameters": rope]),
        headSize: headSize, contextLimit: contextLimit)
    }
    if let all = reader.value("rope_parameters"), let global = all["full_attention"],
      let local = all["sliding_attention"]
    {
      return [try read(global), try read(local)]
    }
    // transformers 4: one scaling, which is the global layers', and two bases.
    var global = reader.value("rope_scaling")?.object ?? JSONObject()
    global["rope_theta"] = .number(try reader.positive("rope_theta", default: 1_000_000))
    return [
      try read(.object(global)),
      try read(
        ["rope_theta": .number(try reader.positive("rope_local_base_freq", default: 10_000))]),
    ]
  }

  private static func windows(
    _ reader: ConfigurationReader, member: DecoderConfiguration.Member, layers: Int
  ) throws(CheckpointError) -> [Int?] {
    guard member != .llama, member != .gemma, reader.value("sliding_window") != nil else {
      return [Int?](repeating: nil, count: layers)
    }
    if [.qwen2, .qwen2Experts, .qwen3, .qwen3Experts].contains(member),
      try !reader.flag("use_sliding_window", default: false)
    {
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
    switch member {
    case .mistral, .mixtral, .phi3: return [Int?](repeating: window, count: layers)
    case .gemma2: return (0..<layers).map { $0 % 2 == 0 ? window : nil }
    case .gemma3:
      let pattern = try reader.size("sliding_window_pattern", default: 6)
      return (0..<layers).map { ($0 + 1) % pattern == 0 ? nil : window }
    default: break
    }
    let first = try reader.number("max_window_layers", default: 28)
    return (0..<layers).map { Double($0) >= first ? window : nil }
  }
}

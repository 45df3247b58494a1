// A model's configuration in GGUF's metadata and in the words of `config.json`, both ways.
//
// Source   keys: llama.cpp's gguf-py/gguf/constants.py; the factors of Llama 3.1's rotation:
//          conversion/llama.py of the same (`rope_freqs.weight`)
// Checked  GGUFConfigurationTests: there and back gives the configuration; llama.cpp's converter's files

import Foundation
public import JSONDocuments

/// A model's configuration as a GGUF file holds it.
public enum GGUFConfiguration {
  /// The tensor with a factor for each frequency of the rotation.
  public static let rotationFactorsName = "rope_freqs.weight"

  /// The `config.json` of a file's metadata.
  ///
  /// - Parameters:
  ///   - tensors: The tensors' names in transformers' words, with their shapes.
  ///   - factors: The values of `rope_freqs.weight`, where the file has it.
  static func json(
    _ metadata: GGUFMetadata, architecture: GGUFArchitecture,
    tensors: [String: [Int]], factors: [Float]?
  ) throws(CheckpointError.Problem) -> JSONValue {
    let name = architecture.rawValue
    func size(_ key: String, default standard: Int? = nil) throws(CheckpointError.Problem) -> Int {
      guard let value = metadata["\(name).\(key)"] ?? standard.map({ GGUFValue($0) }) else {
        throw .missing(key: "\(name).\(key)", expected: "a positive integer")
      }
      guard let integer = value.integer, (1..<1 << 31).contains(integer) else {
        throw .missing(key: "\(name).\(key)", expected: "a positive integer")
      }
      return integer
    }
    let layers = try size("block_count")
    let lists = architecture == .deci ? try GGUFLayerLists(metadata, layers: layers) : nil
    let width = try size("embedding_length")
    let heads: Int, keyHeads: Int, inner: Int
    if let lists {
      (heads, keyHeads, inner) = (lists.heads, lists.keyHeads, lists.inner)
    } else {
      heads = try size("attention.head_count")
      keyHeads = try size("attention.head_count_kv", default: heads)
      inner = try size("feed_forward_length")
    }
    let headSize = try size("attention.key_length", default: max(1, width / heads))
    guard try size("attention.value_length", default: headSize) == headSize,
      try size("rope.dimension_count", default: headSize) == headSize
    else {
      throw .unsupported("heads whose keys, values and rotation differ in width")
    }
    var object = JSONObject()
    object["architectures"] = [.string(Self.className(architecture))]
    object["model_type"] = .string(architecture == .deci ? "llama" : name)
    let rows = tensors["model.embed_tokens.weight"]?.first
    object["vocab_size"] = .integer(try size("vocab_size", default: rows))
    object["hidden_size"] = .integer(width)
    object["intermediate_size"] = .integer(inner)
    object["num_hidden_layers"] = .integer(layers)
    object["num_attention_heads"] = .integer(heads)
    object["num_key_value_heads"] = .integer(keyHeads)
    object["head_dim"] = .integer(headSize)
    object["max_position_embeddings"] = .integer(try size("context_length"))
    object["hidden_act"] = "silu"
    object["rms_norm_eps"] = .number(
      shortest(metadata["\(name).attention.layer_norm_rms_epsilon"]?.number ?? 1e-6))
    let base = shortest(metadata["\(name).rope.freq_base"]?.number ?? 10000)
    object["rope_theta"] = .number(base)
    if let scaling = try scaling(
      metadata, name: name, factors: factors, headSize: headSize, base: base)
    {
      object["rope_scaling"] = scaling
    }
    object["tie_word_embeddings"] = .bool(tensors["lm_head.weight"] == nil)
    // Any layer tells: the first may lack the branch.
    func holds(_ ending: String) -> Bool { tensors.keys.contains { $0.hasSuffix(ending) } }
    if architecture != .qwen2 {
      object["attention_bias"] = .bool(holds(".self_attn.q_proj.bias"))
    }
    if architecture == .llama || architecture == .deci {
      object["mlp_bias"] = .bool(holds(".mlp.up_proj.bias"))
    }
    lists?.branches.write(to: &object)
    for (key, own) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
      if let id = metadata["tokenizer.ggml.\(own)_token_id"]?.integer {
        object["\(key)_token_id"] = .integer(id)
      }
    }
    return .object(object)
  }

  private static func className(_ architecture: GGUFArchitecture) -> String {
    switch architecture {
    case .llama, .deci: "LlamaForCausalLM"
    case .qwen2: "Qwen2ForCausalLM"
    case .qwen3: "Qwen3ForCausalLM"
    }
  }

  /// The decimal number that a float32 was written from.
  private static func shortest(_ value: Double) -> Double {
    Double(Float(value).description) ?? value
  }

  private static func scaling(
    _ metadata: GGUFMetadata, name: String, factors: [Float]?, headSize: Int, base: Double
  ) throws(CheckpointError.Problem) -> JSONValue? {
    if let factors {
      guard let found = Llama3Rotation.matching(factors, headSize: headSize, base: base) else {
        throw .unsupported("rotation factors ('\(rotationFactorsName)') that are not Llama 3.1's")
      }
      return found.json
    }
    guard let type = metadata["\(name).rope.scaling.type"]?.text, type != "none" else { return nil }
    guard let factor = metadata["\(name).rope.scaling.factor"]?.number else {
      throw .missing(key: "\(name).rope.scaling.factor", expected: "a number")
    }
    switch type {
    case "linear": return ["rope_type": "linear", "factor": .number(shortest(factor))]
    case "yarn":
      var object = JSONObject()
      object["rope_type"] = "yarn"
      object["factor"] = .number(shortest(factor))
      if let length = metadata["\(name).rope.scaling.original_context_length"]?.integer {
        object["original_max_position_embeddings"] = .integer(length)
      }
      for (key, own) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
        if let value = metadata["\(name).rope.scaling.\(own)"]?.number {
          object[key] = .number(shortest(value))
        }
      }
      return .object(object)
    default: throw .unsupported("the rotation scaling '\(type)'")
    }
  }

  /// The metadata of a configuration, and the factors of the rotation where it needs them.
  public static func metadata(
    _ configuration: JSONValue, architecture: GGUFArchitecture
  ) throws(CheckpointError.Problem) -> (metadata: GGUFMetadata, factors: [Float]?) {
    let name = architecture.rawValue
    var metadata = GGUFMetadata()
    func size(_ key: String) throws(CheckpointError.Problem) -> Int {
      guard let value = configuration[key]?.integer, (1..<1 << 31).contains(value) else {
        throw .missing(key: key, expected: "a positive integer")
      }
      return value
    }
    let width = try size("hidden_size"), heads = try size("num_attention_heads")
    let headSize = configuration["head_dim"]?.integer ?? width / max(1, heads)
    let layers = try size("num_hidden_layers")
    metadata["\(name).block_count"] = GGUFValue(layers)
    metadata["\(name).context_length"] = GGUFValue(
      configuration["max_position_embeddings"]?.integer ?? 2048)
    metadata["\(name).embedding_length"] = GGUFValue(width)
    metadata["\(name).feed_forward_length"] = GGUFValue(try size("intermediate_size"))
    metadata["\(name).attention.head_count"] = GGUFValue(heads)
    metadata["\(name).attention.head_count_kv"] = GGUFValue(
      configuration["num_key_value_heads"]?.integer ?? heads)
    metadata["\(name).attention.key_length"] = GGUFValue(headSize)
    metadata["\(name).attention.value_length"] = GGUFValue(headSize)
    metadata["\(name).attention.layer_norm_rms_epsilon"] = GGUFValue(
      Float(configuration["rms_norm_eps"]?.number ?? 1e-6))
    if let branches = try LayerBranches(configuration, layers: layers) {
      try GGUFLayerLists(
        heads: heads, keyHeads: configuration["num_key_value_heads"]?.integer ?? heads,
        inner: try size("intermediate_size"), branches: branches
      ).write(to: &metadata)
    }
    metadata["\(name).vocab_size"] = GGUFValue(try size("vocab_size"))
    metadata["\(name).rope.dimension_count"] = GGUFValue(headSize)
    // transformers 5 keeps the base with the scaling.
    let parameters = configuration["rope_parameters"] ?? configuration["rope_scaling"] ?? .null
    let base =
      configuration["rope_theta"]?.number ?? parameters["rope_theta"]?.number ?? 10000
    metadata["\(name).rope.freq_base"] = GGUFValue(Float(base))
    var factors: [Float]?
    switch parameters["rope_type"]?.string ?? parameters["type"]?.string ?? "default" {
    case "default": break
    case "linear":
      metadata["\(name).rope.scaling.type"] = GGUFValue("linear")
      metadata["\(name).rope.scaling.factor"] = GGUFValue(Float(parameters["factor"]?.number ?? 1))
    case "yarn":
      metadata["\(name).rope.scaling.type"] = GGUFValue("yarn")
      metadata["\(name).rope.scaling.factor"] = GGUFValue(Float(parameters["factor"]?.number ?? 1))
      metadata["\(name).rope.scaling.original_context_length"] = GGUFValue(
        parameters["original_max_position_embeddings"]?.integer
          ?? configuration["max_position_embeddings"]?.integer ?? 2048)
    case "llama3":
      guard let rotation = Llama3Rotation(json: parameters) else {
        throw .missing(key: "rope_scaling", expected: "the four numbers of rope_type llama3")
      }
      factors = rotation.factors(headSize: headSize, base: base)
    case let type: throw .unsupported("rotary scaling '\(type)' in GGUF")
    }
    return (metadata, factors)
  }
}

/// Llama 3.1's stretching: low frequencies slower by a factor, high ones as they are, a ramp between.
struct Llama3Rotation: Equatable {
  var factor: Double
  var lowFrequency: Double
  var highFrequency: Double
  var originalContext: Int

  init(factor: Double, lowFrequency: Double, highFrequency: Double, originalContext: Int) {
    self.factor = factor
    self.lowFrequency = lowFrequency
    self.highFrequency = highFrequency
    self.originalContext = originalContext
  }

  init?(json: JSONValue) {
    guard let factor = json["factor"]?.number, let low = json["low_freq_factor"]?.number,
      let high = json["high_freq_factor"]?.number,
      let context = json["original_max_position_embeddings"]?.integer, factor >= 1, high > low,
      context > 0
    else { return nil }
    self.init(
      factor: factor, lowFrequency: low, highFrequency: high, originalContext: context)
  }

  var json: JSONValue {
    [
      "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": .number(lowFrequency),
      "high_freq_factor": .number(highFrequency),
      "original_max_position_embeddings": .integer(originalContext),
    ]
  }

  /// What each frequency is divided by, `[headSize / 2]`.
  func factors(headSize: Int, base: Double) -> [Float] {
    (0..<headSize / 2).map { index in
      let frequency = pow(base, -Double(2 * index) / Double(headSize))
      let length = 2 * Double.pi / frequency
      if length < Double(originalContext) / highFrequency { return 1 }
      if length > Double(originalContext) / lowFrequency { return Float(factor) }
      let smooth =
        (Double(originalContext) / length - lowFrequency) / (highFrequency - lowFrequency)
      return Float(1 / ((1 - smooth) / factor + smooth))
    }
  }

  /// The published settings that give these factors; nil when none does.
  static func matching(_ factors: [Float], headSize: Int, base: Double) -> Llama3Rotation? {
    guard let largest = factors.max(), largest >= 1, factors.count == headSize / 2 else {
      return nil
    }
    for context in (4...17).map({ 1 << $0 }) {
      for (low, high) in [(1.0, 4.0), (1, 8), (1, 2)] {
        let candidate = Llama3Rotation(
          factor: Double(largest), lowFrequency: low, highFrequency: high,
          originalContext: context)
        let own = candidate.factors(headSize: headSize, base: base)
        if zip(own, factors).allSatisfy({ abs($0 - $1) <= 1e-5 * abs($1) }) { return candidate }
      }
    }
    return nil
  }
}

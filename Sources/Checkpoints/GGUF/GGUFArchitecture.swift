// The architectures whose tensors and metadata are translated, both ways.
//
// Source   llama.cpp's names of tensors and metadata (gguf-py/gguf/constants.py), and transformers' names
// Checked  GGUFNamesTests; files of llama.cpp's own converter give the same tensors as their sources

/// An architecture of llama.cpp and the `model_type` it stands for.
public enum GGUFArchitecture: String, Sendable, CaseIterable {
  /// Llama, Mistral, SmolLM, TinyLlama.
  case llama
  /// Qwen 2 and 2.5.
  case qwen2
  /// Qwen 3.
  case qwen3
  /// Llama and Mistral some of whose layers lack a branch: numbers of heads and channels are lists by layer, 0 for a
  /// branch that is missing.
  case deci

  /// The architecture that stores a model; nil when there is none.
  ///
  /// - Parameter modelType: The `model_type` of a configuration.
  public init?(modelType: String) {
    switch modelType {
    case "llama", "mistral": self = .llama
    case "qwen2": self = .qwen2
    case "qwen3": self = .qwen3
    case "llama" + LayerBranches.suffix, "mistral" + LayerBranches.suffix: self = .deci
    default: return nil
    }
  }

  /// Whether rows of queries and keys are stored as pairs (i, i + 1) that are rotated together. The family's
  /// checkpoints of transformers pair (i, i + half).
  public var rotatesNeighbours: Bool { self == .llama || self == .deci }

  /// Modules outside the layers: llama.cpp's name and transformers'.
  private static let outer = [
    ("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head"),
  ]
  /// Modules of a layer.
  private static let inner = [
    ("attn_norm", "input_layernorm"), ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"), ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"), ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
  ]

  /// A tensor's name in transformers; nil for one that the architecture does not have.
  public func modelName(of name: String) -> String? {
    guard let (stem, suffix) = Self.parts(name) else { return nil }
    if let pair = Self.outer.first(where: { $0.0 == stem }) { return pair.1 + suffix }
    let words = stem.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
    guard words.count == 3, words[0] == "blk", let layer = Int(words[1]), layer >= 0,
      String(layer) == words[1], let pair = Self.inner.first(where: { $0.0 == words[2] })
    else { return nil }
    return "model.layers.\(layer)." + pair.1 + suffix
  }

  /// A tensor's name in llama.cpp; nil for one that the architecture does not have.
  public func fileName(of name: String) -> String? {
    guard let (stem, suffix) = Self.parts(name) else { return nil }
    if let pair = Self.outer.first(where: { $0.1 == stem }) { return pair.0 + suffix }
    let prefix = "model.layers."
    guard stem.hasPrefix(prefix) else { return nil }
    let words = stem.dropFirst(prefix.count).split(
      separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard words.count == 2, let layer = Int(words[0]), layer >= 0, String(layer) == words[0],
      let pair = Self.inner.first(where: { $0.1 == words[1] })
    else { return nil }
    return "blk.\(layer)." + pair.0 + suffix
  }

  private static func parts(_ name: String) -> (stem: String, suffix: String)? {
    for suffix in [".weight", ".bias"] where name.hasSuffix(suffix) {
      return (String(name.dropLast(suffix.count)), suffix)
    }
    return nil
  }

  /// Which projection of rotated heads a tensor is, in transformers' name; nil for all others.
  public func rotatedHeads(of modelName: String) -> RotatedHeads? {
    guard rotatesNeighbours, let (stem, _) = Self.parts(modelName) else { return nil }
    if stem.hasSuffix(".self_attn.q_proj") { return .queries }
    if stem.hasSuffix(".self_attn.k_proj") { return .keys }
    return nil
  }

  /// Rows that belong to heads which are rotated.
  public enum RotatedHeads: Sendable {
    /// Of the queries.
    case queries
    /// Of the keys.
    case keys
  }

  /// For each row of transformers' order, the row of the file.
  ///
  /// - Parameter headSize: Rows of a head, an even number that divides `rows`.
  public static func fileRows(rows: Int, headSize: Int) -> [Int] {
    let half = headSize / 2
    return (0..<rows).map { row in
      let (head, place) = (row / headSize, row % headSize)
      return head * headSize + (place < half ? 2 * place : 2 * (place - half) + 1)
    }
  }

  /// For each row of the file, the row of transformers' order.
  public static func modelRows(rows: Int, headSize: Int) -> [Int] {
    var inverse = [Int](repeating: 0, count: rows)
    for (model, file) in fileRows(rows: rows, headSize: headSize).enumerated() {
      inverse[file] = model
    }
    return inverse
  }
}

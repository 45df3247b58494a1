// Sizes by layer of llama.cpp's architecture `deci`, where 0 stands for a branch that the layer does not have.
//
// Source   llama.cpp's src/models/deci.cpp. The size of a head comes from the first layer, which must have an attention. In a
//          layer with an attention and no MLP the attention's output is lost; such a layer gets an MLP of a few channels, all
//          zero, and a key of our own says so
// Checked  BranchExportTests; llama.cpp's perplexity of such a file (docs/interop.md)

public import JSONDocuments

/// The lists, of which every number but the zeros is the same.
struct GGUFLayerLists: Equatable {
  let heads: Int
  let keyHeads: Int
  let inner: Int
  let branches: LayerBranches

  private static let headsKey = "deci.attention.head_count"
  private static let keyHeadsKey = "deci.attention.head_count_kv"
  private static let innerKey = "deci.feed_forward_length"
  /// Numbers of the layers whose MLP is there for llama.cpp alone.
  private static let emptyKey = "condense.layers_without_mlp"
  /// Channels of an MLP of zeros: a block of the smaller formats.
  static let emptyInner = 32

  init(heads: Int, keyHeads: Int, inner: Int, branches: LayerBranches) {
    self.heads = heads
    self.keyHeads = keyHeads
    self.inner = inner
    self.branches = branches
  }

  /// Reads the lists of a file.
  init(_ metadata: GGUFMetadata, layers: Int) throws(CheckpointError.Problem) {
    /// One number a layer, 0 or the same; a single one stands for all layers.
    func list(
      _ key: String, leavingOut empty: Set<Int> = []
    ) throws(CheckpointError.Problem) -> (size: Int, isThere: [Bool]) {
      let expected = "\(layers) numbers, each 0 or the same"
      guard let value = metadata[key] else { throw .missing(key: key, expected: expected) }
      var numbers =
        value.array?.numbers?.map { Int(exactly: $0) ?? -1 } ?? value.integer.map { [$0] }
      if value.array != nil {
        for layer in empty where numbers?.indices.contains(layer) == true { numbers?[layer] = 0 }
      }
      guard let numbers, let size = numbers.max(), (1..<1 << 31).contains(size),
        numbers.allSatisfy({ $0 == 0 || $0 == size }),
        numbers.count == layers || value.array == nil
      else {
        throw .unsupported("'\(key)' with layers of different sizes")
      }
      guard value.array != nil else { return (size, [true]) }
      return (size, numbers.map { $0 > 0 })
    }
    let (heads, attention) = try list(Self.headsKey)
    let (keyHeads, keys) = try list(Self.keyHeadsKey)
    let empty = Set(
      metadata[Self.emptyKey]?.array?.numbers?.compactMap { Int(exactly: $0) } ?? [])
    let (inner, mlp) = try list(Self.innerKey, leavingOut: empty)
    let layers = (0..<max(attention.count, keys.count, mlp.count)).map { layer in
      (
        attention: attention[min(layer, attention.count - 1)],
        keys: keys[min(layer, keys.count - 1)], mlp: mlp[min(layer, mlp.count - 1)]
      )
    }
    for (index, layer) in layers.enumerated() {
      guard layer.attention == layer.keys else {
        throw .unsupported("layer \(index) of a deci model, an attention without keys,")
      }
      guard layer.mlp || (empty.contains(index) && layer.attention) else {
        throw .unsupported("layer \(index) of a deci model, which has no MLP,")
      }
    }
    self.init(
      heads: heads, keyHeads: keyHeads, inner: inner,
      branches: LayerBranches(layers.map { .init(attention: $0.attention, mlp: $0.mlp) }))
  }

  /// Writes the lists over the numbers.
  ///
  /// - Throws: For what llama.cpp does not run.
  func write(to metadata: inout GGUFMetadata) throws(CheckpointError.Problem) {
    if branches.layers.first?.attention == false {
      throw .unsupported(
        "a first layer without attention: llama.cpp takes the size of heads from it, so that this model"
      )
    }
    guard branches.layers.contains(where: \.mlp) else {
      throw .unsupported("a model without a single MLP in GGUF")
    }
    func list(_ size: Int, _ isThere: (LayerBranches.Layer) -> Bool) -> GGUFValue {
      .array(GGUFArray(branches.layers.map { isThere($0) ? Int32(size) : 0 }))
    }
    metadata[Self.headsKey] = list(heads, \.attention)
    metadata[Self.keyHeadsKey] = list(keyHeads, \.attention)
    let empty = branches.layers.indices.filter { !branches.layers[$0].mlp }
    metadata[Self.innerKey] = .array(
      GGUFArray(branches.layers.map { Int32($0.mlp ? inner : Self.emptyInner) }))
    if !empty.isEmpty { metadata[Self.emptyKey] = .array(GGUFArray(empty.map { Int32($0) })) }
  }
}

extension GGUFArchitecture {
  /// The tensors of the MLPs of zeros that layers with an attention alone get for llama.cpp, by their names in
  /// transformers: norms of ones, everything else zero.
  public static func emptyMLPs(
    of configuration: JSONValue
  ) throws(CheckpointError.Problem) -> [(name: String, shape: [Int], value: Float)] {
    guard let layers = configuration["num_hidden_layers"]?.integer,
      let width = configuration["hidden_size"]?.integer,
      let branches = try LayerBranches(configuration, layers: layers)
    else { return [] }
    let inner = GGUFLayerLists.emptyInner
    var tensors: [(name: String, shape: [Int], value: Float)] = []
    for layer in branches.layers.indices where !branches.layers[layer].mlp {
      let prefix = "model.layers.\(layer)."
      tensors += [
        (prefix + "post_attention_layernorm.weight", [width], 1),
        (prefix + "mlp.gate_proj.weight", [inner, width], 0),
        (prefix + "mlp.up_proj.weight", [inner, width], 0),
        (prefix + "mlp.down_proj.weight", [width, inner], 0),
      ]
    }
    return tensors
  }
}

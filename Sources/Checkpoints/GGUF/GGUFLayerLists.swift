// Sizes by layer of llama.cpp's architecture `deci`, where 0 stands for a branch that the layer does not have.
//
// Source   llama.cpp's src/models/deci.cpp. What it does not run: the size of a head comes from the first layer, which
//          must have an attention; behind a layer with an attention and no MLP the attention's output is lost
// Checked  BranchExportTests; llama.cpp's perplexity of such a file (docs/interop.md)

import JSONDocuments

/// The lists, of which every number but the zeros is the same.
struct GGUFLayerLists: Equatable {
  let heads: Int
  let keyHeads: Int
  let inner: Int
  let branches: LayerBranches

  private static let headsKey = "deci.attention.head_count"
  private static let keyHeadsKey = "deci.attention.head_count_kv"
  private static let innerKey = "deci.feed_forward_length"

  init(heads: Int, keyHeads: Int, inner: Int, branches: LayerBranches) {
    self.heads = heads
    self.keyHeads = keyHeads
    self.inner = inner
    self.branches = branches
  }

  /// Reads the lists of a file.
  init(_ metadata: GGUFMetadata, layers: Int) throws(CheckpointError.Problem) {
    /// One number a layer, 0 or the same; a single one stands for all layers.
    func list(_ key: String) throws(CheckpointError.Problem) -> (size: Int, isThere: [Bool]) {
      let expected = "\(layers) numbers, each 0 or the same"
      guard let value = metadata[key] else { throw .missing(key: key, expected: expected) }
      let numbers =
        value.array?.numbers?.map { Int(exactly: $0) ?? -1 } ?? value.integer.map { [$0] }
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
    let (inner, mlp) = try list(Self.innerKey)
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
      guard layer.mlp else {
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
    if let layer = branches.layers.firstIndex(where: { !$0.mlp }) {
      throw .unsupported(
        "layer \(layer) without an MLP: llama.cpp drops the attention of such a layer, so that this model"
      )
    }
    func list(_ size: Int, _ isThere: (LayerBranches.Layer) -> Bool) -> GGUFValue {
      .array(GGUFArray(branches.layers.map { isThere($0) ? Int32(size) : 0 }))
    }
    metadata[Self.headsKey] = list(heads, \.attention)
    metadata[Self.keyHeadsKey] = list(keyHeads, \.attention)
    metadata[Self.innerKey] = list(inner, \.mlp)
  }
}

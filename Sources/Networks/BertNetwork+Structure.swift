// The dimensions of a BERT encoder's tensors.

import Tensors

extension BertNetwork: StructuredNetwork {
  /// What can be cut: layers and channels of the MLPs.
  public var structure: NetworkStructure {
    let c = configuration, names = c.names
    let prefix = root + names.layer
    var places: [String: TensorPlace] = [:]
    for name in tensorNames {
      guard name.hasPrefix(prefix) else {
        places[name] = TensorPlace(.outside, [.fixed, .fixed])
        continue
      }
      let rest = name.dropFirst(prefix.count)
      guard let dot = rest.firstIndex(of: "."), let layer = Int(rest[..<dot]) else { continue }
      let part = rest[rest.index(after: dot)...]
      let axes: [StructuralAxis]? =
        if part.hasPrefix(names.inner + ".") {
          [.inner, .fixed]
        } else if part == names.outer + ".weight" {
          [.fixed, .inner]
        } else if part.hasPrefix(names.outer + ".") || part.hasPrefix(names.outputNorm + ".") {
          [.fixed, .fixed]
        } else { nil }
      places[name] =
        axes.map { TensorPlace(.mlp(layer: layer), $0) }
        ?? TensorPlace(.attention(layer: layer), [.fixed, .fixed])
    }
    return NetworkStructure(
      sizes: StructuralSizes(
        layers: c.layers, heads: c.heads, keyHeads: c.heads, inner: c.innerWidth, width: c.width),
      branches: (0..<c.layers).flatMap { layer -> [StructuralBranch] in
        [.attention(layer: layer), .mlp(layer: layer)]
      },
      headSize: c.width / c.heads, places: places, layerPrefix: prefix, layerLists: [],
      windowKey: nil,
      fixedHeads:
        "transformers takes the size of a BERT head from hidden_size / num_attention_heads",
      fixedWidth: "the width of an encoder is that of its embeddings, which others have stored",
      fixedLayers: nil,
      fixedBranches: "every layer of a BERT encoder has both", sizeKeys: names.sizeKeys)
  }
}

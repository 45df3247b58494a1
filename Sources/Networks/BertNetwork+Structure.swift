// The dimensions of a BERT encoder's tensors.

import Tensors

extension BertNetwork: StructuredNetwork {
  /// What can be cut: layers and channels of the MLPs.
  public var structure: NetworkStructure {
    let root = embedding.name.hasPrefix("bert.") ? "bert." : ""
    let prefix = root + "encoder.layer."
    var places: [String: TensorPlace] = [:]
    for name in tensorNames {
      guard name.hasPrefix(prefix) else {
        places[name] = TensorPlace(.outside, [.fixed, .fixed])
        continue
      }
      let rest = name.dropFirst(prefix.count)
      guard let dot = rest.firstIndex(of: "."), let layer = Int(rest[..<dot]) else { continue }
      let part = rest[rest.index(after: dot)...]
      if part.hasPrefix("attention.") {
        places[name] = TensorPlace(.attention(layer: layer), [.fixed, .fixed])
      } else {
        let axes: [StructuralAxis] =
          part.hasPrefix("intermediate.dense")
          ? [.inner, .fixed]
          : part == "output.dense.weight" ? [.fixed, .inner] : [.fixed, .fixed]
        places[name] = TensorPlace(.mlp(layer: layer), axes)
      }
    }
    return NetworkStructure(
      sizes: StructuralSizes(
        layers: sublayers.count / 2, heads: headLayout.heads, keyHeads: headLayout.keyHeads,
        inner: innerWidth, width: embedding.matrix.inputs),
      branches: (0..<sublayers.count / 2).flatMap { layer -> [StructuralBranch] in
        [.attention(layer: layer), .mlp(layer: layer)]
      },
      headSize: headLayout.size, places: places, layerPrefix: prefix, layerLists: [],
      windowKey: nil,
      fixedHeads:
        "transformers takes the size of a BERT head from hidden_size / num_attention_heads",
      fixedWidth: "the width of an encoder is that of its embeddings, which others have stored",
      fixedLayers: nil,
      fixedBranches: "every layer of a BERT encoder has both")
  }

  private var headLayout: HeadLayout {
    for source in sublayers.flatMap(\.sources) {
      if case .values(_, let heads) = source { return heads }
    }
    return HeadLayout(heads: 1, keyHeads: 1, size: embedding.matrix.inputs)
  }

  private var innerWidth: Int {
    sublayers.count > 1 ? sublayers[1].groups[0][0].matrix.outputs : 0
  }
}

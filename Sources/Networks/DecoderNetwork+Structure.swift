// The dimensions of a Llama-like model's tensors.

import Checkpoints

extension LlamaNetwork: StructuredNetwork {
  /// What can be cut: layers, groups of heads, channels of the MLPs and of the stream.
  public var structure: NetworkStructure {
    let c = configuration
    let layers = (c.layers.indices).map { c.branches(ofLayer: $0) }
    let branches = layers.enumerated().flatMap { layer, has -> [StructuralBranch] in
      (has.attention ? [.attention(layer: layer)] : []) + (has.mlp ? [.mlp(layer: layer)] : [])
    }
    var places: [String: TensorPlace] = [
      "model.embed_tokens.weight": TensorPlace(.outside, [.fixed, .width]),
      "lm_head.weight": TensorPlace(.outside, [.fixed, .width]),
      "model.norm.weight": TensorPlace(.outside, [.width]),
    ]
    for layer in c.layers.indices {
      let prefix = "model.layers.\(layer)."
      func add(_ branch: StructuralBranch, _ name: String, _ axes: [StructuralAxis]) {
        places[prefix + name] = TensorPlace(branch, axes)
      }
      func linear(
        _ branch: StructuralBranch, _ name: String, _ outputs: StructuralAxis,
        _ inputs: StructuralAxis
      ) {
        add(branch, name + ".weight", [outputs, inputs])
        add(branch, name + ".bias", [outputs])
      }
      let attention = StructuralBranch.attention(layer: layer),
        mlp = StructuralBranch.mlp(layer: layer)
      add(attention, "input_layernorm.weight", [.width])
      linear(attention, "self_attn.q_proj", .queryHeads, .width)
      linear(attention, "self_attn.k_proj", .keyHeads, .width)
      linear(attention, "self_attn.v_proj", .keyHeads, .width)
      linear(attention, "self_attn.o_proj", .width, .queryHeads)
      // Norms of single heads, and frequencies, which old checkpoints store: one for all heads.
      add(attention, "self_attn.q_norm.weight", [.fixed])
      add(attention, "self_attn.k_norm.weight", [.fixed])
      add(attention, "self_attn.rotary_emb.inv_freq", [.fixed])
      add(mlp, "post_attention_layernorm.weight", [.width])
      linear(mlp, "mlp.gate_proj", .inner, .width)
      linear(mlp, "mlp.up_proj", .inner, .width)
      linear(mlp, "mlp.down_proj", .width, .inner)
    }
    return NetworkStructure(
      sizes: StructuralSizes(
        layers: c.layers.count, heads: c.heads, keyHeads: c.keyHeads, inner: c.innerWidth,
        width: c.width,
        withoutAttention: layers.count { !$0.attention },
        withoutMLP: layers.count { !$0.mlp }),
      branches: branches, headSize: c.headSize,
      places: places.filter { tensorNames.contains($0.key) },
      layerPrefix: "model.layers.", layerLists: ["layer_types"], windowKey: "max_window_layers",
      fixedHeads: nil, fixedWidth: nil,
      fixedLayers: LayerBranches(layers).isWhole
        ? nil : "some of its layers lack a branch, so that branches go one by one (--branches)",
      fixedBranches: nil)
  }
}

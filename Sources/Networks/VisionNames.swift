// What the parts of a vision transformer are called, and what its checkpoint says of their sizes.

import Checkpoints
import JSONDocuments
import Tensors

/// The layout of a vision transformer's checkpoint.
struct VisionLayout {
  /// The names of tensors, without what stands before all of them.
  struct Names {
    /// Nil where every token is a patch.
    let classToken: String?
    let positions, patches: String
    /// The norm of the stream before the first branch; nil for none.
    let firstNorm: String?
    let layer: String
    let attentionNorm: String
    /// One matrix, or queries, keys and values.
    let projections: [String]
    let attentionOutput, innerNorm, inner, outer: String
    let finalNorm: String
  }

  let names: Names
  /// Before the names of the tower's tensors.
  let root: String
  /// The matrix behind the final norm, by its full name; nil where the vector itself is the result.
  let head: String?
  /// Prefixes of other towers and heads, which stay as they are.
  let others: [String]
  let picture: SampleShape
  let patch: Int
  let width, innerWidth, layers, heads: Int
  let headSize: Int
  let hasProjectionBias: Bool
  let hasPatchBias: Bool
  /// Whether the patches' weight is a convolution's, `[width, channels, rows, columns]`; otherwise it is the matrix
  /// `[width, rows * columns * channels]`.
  let storesConvolution: Bool
  let activation: Activation
  let epsilon: Float
  let output: SampleOutput
  let normalization: SampleNormalization

  /// Patches of a picture.
  var patchCount: Int { picture.rows / (patch * patch) }
  /// Tokens of a picture.
  var tokenCount: Int { patchCount + (names.classToken == nil ? 0 : 1) }
  /// Whether a learned query makes the picture's vector, and not the class token.
  var poolsByAttention: Bool { names.classToken == nil }
}

extension VisionLayout.Names {
  /// transformers 5 (and in brackets 4).
  static func vit(isOld: Bool) -> Self {
    Self(
      classToken: "embeddings.cls_token", positions: "embeddings.position_embeddings",
      patches: "embeddings.patch_embeddings.projection", firstNorm: nil,
      layer: isOld ? "encoder.layer." : "layers.", attentionNorm: "layernorm_before",
      projections: isOld
        ? ["query", "key", "value"].map { "attention.attention." + $0 }
        : ["q", "k", "v"].map { "attention.\($0)_proj" },
      attentionOutput: isOld ? "attention.output.dense" : "attention.o_proj",
      innerNorm: "layernorm_after", inner: isOld ? "intermediate.dense" : "mlp.fc1",
      outer: isOld ? "output.dense" : "mlp.fc2", finalNorm: "layernorm")
  }

  static let clip = Self(
    classToken: "embeddings.class_embedding", positions: "embeddings.position_embedding.weight",
    patches: "embeddings.patch_embedding", firstNorm: "pre_layrnorm", layer: "encoder.layers.",
    attentionNorm: "layer_norm1", projections: ["q", "k", "v"].map { "self_attn.\($0)_proj" },
    attentionOutput: "self_attn.out_proj", innerNorm: "layer_norm2", inner: "mlp.fc1",
    outer: "mlp.fc2", finalNorm: "post_layernorm")

  static let siglip = Self(
    classToken: nil, positions: "embeddings.position_embedding.weight",
    patches: "embeddings.patch_embedding", firstNorm: nil, layer: "encoder.layers.",
    attentionNorm: "layer_norm1", projections: ["q", "k", "v"].map { "self_attn.\($0)_proj" },
    attentionOutput: "self_attn.out_proj", innerNorm: "layer_norm2", inner: "mlp.fc1",
    outer: "mlp.fc2", finalNorm: "post_layernorm")

  /// The package vit-pytorch.
  static let vitPytorch = Self(
    classToken: "cls_token", positions: "pos_embedding", patches: "to_patch_embedding.1",
    firstNorm: nil, layer: "transformer.layers.", attentionNorm: "0.norm",
    projections: ["0.fn.to_qkv"], attentionOutput: "0.fn.to_out.0", innerNorm: "1.norm",
    inner: "1.fn.net.0", outer: "1.fn.net.3", finalNorm: "mlp_head.0")
}

extension VisionLayout {
  /// What a configuration of transformers says.
  init(configurationOf checkpoint: any Checkpoint) throws(CheckpointError) {
    let whole = ConfigurationReader(checkpoint)
    let type = try whole.text("model_type", default: "")
    let isClip = type.hasPrefix("clip"), isSiglip = type.hasPrefix("siglip")
    let isPart = type == "clip" || type == "siglip"
    let reader =
      isPart
      ? ConfigurationReader(
        path: whole.path, json: whole.value("vision_config") ?? .object(JSONObject())) : whole
    if isClip {
      names = .clip
      root = checkpoint.holds("vision_model.post_layernorm.weight") ? "vision_model." : ""
      head = checkpoint.holds("visual_projection.weight") ? "visual_projection" : nil
      others = isPart ? ["text_model.", "text_projection.", "logit_scale"] : []
    } else if isSiglip {
      names = .siglip
      root = checkpoint.holds("vision_model.post_layernorm.weight") ? "vision_model." : ""
      head = nil
      others = isPart ? ["text_model.", "logit_scale", "logit_bias"] : []
    } else {
      root = checkpoint.holds("vit.layernorm.weight") ? "vit." : ""
      names = .vit(
        isOld: checkpoint.holds(root + "encoder.layer.0.layernorm_before.weight"))
      head = checkpoint.holds("classifier.weight") ? "classifier" : nil
      others = [root + "pooler."]
    }
    let side = try reader.size("image_size", default: 224)
    patch = try reader.size("patch_size", default: isClip ? 32 : 16)
    guard patch <= side else {
      throw reader.wrong("patch_size", .integer(patch), expected: "at most image_size, \(side)")
    }
    // What does not fill a patch is not seen.
    let seen = side / patch * patch
    guard seen == side else {
      throw reader.wrong("image_size", .integer(side), expected: "a multiple of \(patch)")
    }
    let channels = try reader.size("num_channels", default: 3)
    picture = SampleShape([side, side, channels])
    width = try reader.size("hidden_size", default: 768)
    innerWidth = try reader.size("intermediate_size", default: 3072)
    layers = try reader.size("num_hidden_layers", default: 12)
    heads = try reader.size("num_attention_heads", default: 12)
    guard width % heads == 0 else {
      throw reader.wrong("hidden_size", .integer(width), expected: "a multiple of \(heads) heads")
    }
    headSize = width / heads
    hasProjectionBias = isClip || isSiglip ? true : try reader.flag("qkv_bias", default: true)
    hasPatchBias = !isClip
    storesConvolution = true
    activation = try reader.activation(
      "hidden_act", default: isClip ? "quick_gelu" : isSiglip ? "gelu_pytorch_tanh" : "gelu")
    epsilon = Float(
      try reader.number("layer_norm_eps", default: isClip ? 1e-5 : isSiglip ? 1e-6 : 1e-12))
    output = head == "classifier" ? .logits : .values
    normalization = try Self.normalization(checkpoint, channels: channels)
  }

  /// What `preprocessor_config.json` says of bytes; without it the halves that ViT is trained with.
  private static func normalization(
    _ checkpoint: any Checkpoint, channels: Int
  ) throws(CheckpointError) -> SampleNormalization {
    let name = "preprocessor_config.json"
    let half = SampleNormalization(mean: [0.5], deviation: [0.5])
    guard checkpoint.sideFileNames.contains(name) else { return half }
    let json = try checkpoint.sideJSON(name)
    guard json["do_normalize"]?.bool != false else { return SampleNormalization() }
    let mean = (json["image_mean"]?.array ?? []).compactMap(\.number).map { Float($0) }
    let deviation = (json["image_std"]?.array ?? []).compactMap(\.number).map { Float($0) }
    guard !mean.isEmpty || !deviation.isEmpty else { return half }
    guard mean.count == channels, deviation.count == channels, deviation.allSatisfy({ $0 > 0 })
    else {
      throw CheckpointError(
        path: checkpoint.path + "/" + name, tensor: "image_std",
        .badValue(
          found: json["image_std"]?.compactText ?? "nothing",
          expected: "\(channels) numbers above 0"))
    }
    return SampleNormalization(mean: mean, deviation: deviation)
  }

  /// A state dict of vit-pytorch, whose sizes are those of its tensors; nil for anything else.
  init?(stateDictOf checkpoint: any Checkpoint) {
    let names = Names.vitPytorch
    guard let positions = checkpoint.shape(names.positions), positions.count == 3,
      let patches = checkpoint.shape(names.patches + ".weight"), patches.count == 2,
      let projection = checkpoint.shape(names.layer + "0.0.fn.to_qkv.weight"),
      projection.count == 2, projection[0] % 3 == 0,
      let inner = checkpoint.shape(names.layer + "0.1.fn.net.0.weight"), inner.count == 2
    else { return nil }
    func root(_ value: Int) -> Int? {
      let root = Int(Double(value).squareRoot().rounded())
      return root > 0 && root * root == value ? root : nil
    }
    // Pictures are square; a patch has three channels where that makes it square, otherwise one.
    let channels = patches[1] % 3 == 0 && root(patches[1] / 3) != nil ? 3 : 1
    guard let patch = root(patches[1] / channels), let count = root(positions[1] - 1),
      patch * count <= 1 << 12
    else { return nil }
    // The package's heads have 64 channels unless someone says otherwise, which no tensor tells.
    let all = projection[0] / 3
    guard all % 64 == 0 else { return nil }
    self.names = names
    self.root = ""
    head = "mlp_head.1"
    others = []
    picture = SampleShape([patch * count, patch * count, channels])
    self.patch = patch
    width = positions[2]
    innerWidth = inner[0]
    layers = (0...).first { !checkpoint.holds(names.layer + "\($0).0.norm.weight") } ?? 0
    heads = all / 64
    headSize = 64
    hasProjectionBias = false
    hasPatchBias = true
    storesConvolution = false
    activation = .gelu
    epsilon = 1e-5
    output = .logits
    // Of one channel: the mean and the deviation of MNIST's digits.
    normalization =
      channels == 1 ? SampleNormalization(mean: [0.1307], deviation: [0.3081]) : .imageNet
  }
}

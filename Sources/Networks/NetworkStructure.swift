// What the dimensions of a model's tensors stand for: the description from which whole heads, channels and layers can
// be cut out of a checkpoint without knowing its family.

/// What one dimension of a tensor counts.
public enum StructuralAxis: Sendable, Equatable {
  /// Channels of the residual stream.
  case width
  /// Channels of the queries' heads, one head after the other.
  case queryHeads
  /// Channels of the heads of keys and values, one head after the other.
  case keyHeads
  /// Channels inside the MLP.
  case inner
  /// Anything else, which is never cut.
  case fixed
}

/// Which branch of the network a tensor belongs to.
public enum StructuralBranch: Sendable, Equatable, Hashable {
  /// A layer's attention with its norms.
  case attention(layer: Int)
  /// A layer's MLP with its norms.
  case mlp(layer: Int)
  /// Embeddings, the last norm, heads.
  case outside
}

extension StructuralBranch {
  /// Whether it is an attention branch.
  public var isAttention: Bool {
    if case .attention = self { return true }
    return false
  }

  /// The layer's number; nil outside of layers.
  public var layer: Int? {
    switch self {
    case .attention(let layer), .mlp(let layer): layer
    case .outside: nil
    }
  }
}

/// Where a tensor stands in the network.
public struct TensorPlace: Sendable, Equatable {
  /// The branch that owns it.
  public let branch: StructuralBranch
  /// What each of its dimensions counts.
  public let axes: [StructuralAxis]

  /// A place.
  init(_ branch: StructuralBranch, _ axes: [StructuralAxis]) {
    self.branch = branch
    self.axes = axes
  }
}

/// Sizes of a network that a cut changes.
public struct StructuralSizes: Sendable, Equatable, Hashable {
  /// Layers: an attention branch and an MLP, of which one may be missing.
  public var layers: Int
  /// Heads of the queries.
  public var heads: Int
  /// Heads of keys and values, which divide `heads`.
  public var keyHeads: Int
  /// Channels inside the MLP.
  public var inner: Int
  /// Channels of the residual stream.
  public var width: Int
  /// Layers that have no attention branch.
  public var withoutAttention: Int
  /// Layers that have no MLP.
  public var withoutMLP: Int

  /// Given sizes.
  public init(
    layers: Int, heads: Int, keyHeads: Int, inner: Int, width: Int, withoutAttention: Int = 0,
    withoutMLP: Int = 0
  ) {
    self.withoutAttention = withoutAttention
    self.withoutMLP = withoutMLP
    self.layers = layers
    self.heads = heads
    self.keyHeads = keyHeads
    self.inner = inner
    self.width = width
  }
}

/// What a configuration calls a network's sizes.
public struct StructuralSizeKeys: Sendable, Equatable {
  /// The key of the number of layers.
  public var layers = "num_hidden_layers"
  /// The key of the channels inside the MLP.
  public var inner = "intermediate_size"
  /// The key of the channels of the residual stream.
  public var width = "hidden_size"
  /// The key of the queries' heads.
  public var heads = "num_attention_heads"
}

/// The dimensions of a network and how its tensors and its configuration speak of them.
public struct NetworkStructure: Sendable {
  /// The sizes of the network.
  public let sizes: StructuralSizes
  /// The branches in the order of the network's sublayers.
  public let branches: [StructuralBranch]
  /// Channels of a head.
  public let headSize: Int
  /// Every tensor of `tensorNames` with its place.
  public let places: [String: TensorPlace]
  /// What stands before a layer's number in the names of its tensors, such as `model.layers.`.
  public let layerPrefix: String
  /// Keys of the configuration with one value for each layer's attention.
  public let layerLists: [String]
  /// The key whose value is the number of the first layer with a sliding window, where there is one.
  public let windowKey: String?
  /// Why heads cannot be cut from a model of this family; nil where they can.
  public let fixedHeads: String?
  /// Why channels of the stream cannot be cut; nil where they can.
  public let fixedWidth: String?
  /// Why whole layers cannot be cut; nil where they can.
  public let fixedLayers: String?
  /// Why single branches cannot be cut; nil where they can.
  public let fixedBranches: String?
  /// What the configuration calls the sizes.
  public internal(set) var sizeKeys = StructuralSizeKeys()

  /// A layer's tensor under another layer's number.
  public func name(_ name: String, inLayer layer: Int) -> String {
    guard name.hasPrefix(layerPrefix) else { return name }
    let rest = name.dropFirst(layerPrefix.count).drop { $0 != "." }
    return layerPrefix + String(layer) + rest
  }
}

/// A network whose heads, channels or layers can be cut out.
public protocol StructuredNetwork: TokenNetwork {
  /// Its structure.
  var structure: NetworkStructure { get }
}

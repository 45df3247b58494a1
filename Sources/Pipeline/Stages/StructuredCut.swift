// What is cut out of a network, as a value: which layers, heads, channels stay.

import Networks

/// The parts of a network that stay; everything in ascending order.
struct StructuredCut: Sendable, Equatable {
  /// A layer of the result: an attention branch and the MLP behind it, which may come from two layers of the source. One
  /// of them is nil where it went.
  struct Layer: Sendable, Equatable {
    let attention: Int?
    let mlp: Int?

    /// The layer of the source that it stands for in lists by layer: of its attention, which they speak of.
    var source: Int { attention ?? mlp ?? 0 }
  }

  var layers: [Layer]
  /// Heads of the queries that stay, for each layer of the source.
  var heads: [[Int]]
  /// Channels of the MLP that stay, for each layer of the source.
  var inner: [[Int]]
  /// Channels of the stream that stay.
  var width: [Int]

  /// Nothing is cut.
  init(all sizes: StructuralSizes) {
    layers = (0..<sizes.layers).map { Layer(attention: $0, mlp: $0) }
    heads = [[Int]](repeating: Array(0..<sizes.heads), count: sizes.layers)
    inner = [[Int]](repeating: Array(0..<sizes.inner), count: sizes.layers)
    width = Array(0..<sizes.width)
  }

  /// The branches that stay, by their places among the network's sublayers.
  func branches(in structure: NetworkStructure) -> [Int] {
    let places = Dictionary(
      uniqueKeysWithValues: structure.branches.enumerated().map { ($1, $0) })
    return layers.flatMap { layer -> [Int] in
      [
        layer.attention.flatMap { places[.attention(layer: $0)] },
        layer.mlp.flatMap { places[.mlp(layer: $0)] },
      ].compactMap { $0 }
    }
  }

  /// The layers of the branches that stay: an attention and the MLP that comes next are one layer, whatever layers of the
  /// source they come from, so that as few layers as possible lack a branch.
  static func layers(of branches: [Int], in structure: NetworkStructure) -> [Layer] {
    var layers: [Layer] = []
    for branch in branches {
      switch structure.branches[branch] {
      case .attention(let layer): layers.append(Layer(attention: layer, mlp: nil))
      case .mlp(let layer):
        if let last = layers.last, last.mlp == nil {
          layers[layers.count - 1] = Layer(attention: last.attention, mlp: layer)
        } else {
          layers.append(Layer(attention: nil, mlp: layer))
        }
      case .outside: break
      }
    }
    return layers
  }

  /// The heads of keys and values that stay in a layer.
  func keyHeads(_ layer: Int, of sizes: StructuralSizes) -> [Int] {
    let share = sizes.heads / sizes.keyHeads
    return Array(Set(heads[layer].map { $0 / share })).sorted()
  }

  /// The sizes of what stays.
  func sizes(of source: StructuralSizes) -> StructuralSizes {
    // Every layer has as many; where no branch is left, as many as it would have.
    let attention = layers.lazy.compactMap(\.attention).first ?? 0
    let mlp = layers.lazy.compactMap(\.mlp).first ?? 0
    return StructuralSizes(
      layers: layers.count, heads: heads[attention].count,
      keyHeads: keyHeads(attention, of: source).count, inner: inner[mlp].count, width: width.count,
      withoutAttention: layers.count { $0.attention == nil },
      withoutMLP: layers.count { $0.mlp == nil })
  }

  /// The indices that stay of a dimension; nil where all do.
  func kept(
    _ axis: StructuralAxis, layer: Int, in structure: NetworkStructure
  ) -> [Int]? {
    let sizes = structure.sizes, size = structure.headSize
    func channels(_ heads: [Int], of all: Int) -> [Int]? {
      heads.count == all ? nil : heads.flatMap { $0 * size..<($0 + 1) * size }
    }
    switch axis {
    case .fixed: return nil
    case .width: return width.count == sizes.width ? nil : width
    case .inner: return inner[layer].count == sizes.inner ? nil : inner[layer]
    case .queryHeads: return channels(heads[layer], of: sizes.heads)
    case .keyHeads: return channels(keyHeads(layer, of: sizes), of: sizes.keyHeads)
    }
  }
}

extension NetworkStructure {
  /// Elements of all tensors of the network when it has other sizes.
  ///
  /// - Parameter shapes: The source's tensors.
  func parameters(_ shapes: [(name: String, shape: [Int])], sizes new: StructuralSizes) -> Int {
    // All branches of a kind are alike: the first stands for those that stay.
    let attention = branches.first { $0.isAttention }, mlp = branches.first { !$0.isAttention }
    return shapes.reduce(0) { sum, tensor in
      guard let place = places[tensor.name] else { return sum + tensor.shape.reduce(1, *) }
      let times: Int
      switch place.branch {
      case .outside: times = 1
      case attention: times = new.layers - new.withoutAttention
      case mlp: times = new.layers - new.withoutMLP
      default: return sum
      }
      var count = 1
      for (axis, size) in zip(place.axes + [.fixed, .fixed], tensor.shape) {
        switch axis {
        case .fixed: count *= size
        case .width: count *= new.width
        case .inner: count *= new.inner
        case .queryHeads: count *= new.heads * headSize
        case .keyHeads: count *= new.keyHeads * headSize
        }
      }
      return sum + count * times
    }
  }
}

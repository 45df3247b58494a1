// What is cut out of a network, as a value: which layers, heads, channels stay.

import Networks

/// The parts of a network that stay; everything in ascending order.
struct StructuredCut: Sendable, Equatable {
  /// A layer of the result: an attention branch and the MLP behind it, which may come from two layers of the source.
  struct Layer: Sendable, Equatable {
    let attention: Int
    let mlp: Int
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

  /// The branches that stay, counted 2 a layer: attention 2 l, MLP 2 l + 1.
  var branches: [Int] { layers.flatMap { [2 * $0.attention, 2 * $0.mlp + 1] } }

  /// The layers of the branches that stay, which must alternate, attention first.
  static func layers(of branches: [Int]) -> [Layer] {
    stride(from: 0, to: branches.count, by: 2).map {
      Layer(attention: branches[$0] / 2, mlp: branches[$0 + 1] / 2)
    }
  }

  /// The heads of keys and values that stay in a layer.
  func keyHeads(_ layer: Int, of sizes: StructuralSizes) -> [Int] {
    let share = sizes.heads / sizes.keyHeads
    return Array(Set(heads[layer].map { $0 / share })).sorted()
  }

  /// The sizes of what stays.
  func sizes(of source: StructuralSizes) -> StructuralSizes {
    let first = layers.first
    return StructuralSizes(
      layers: layers.count, heads: first.map { heads[$0.attention].count } ?? 0,
      keyHeads: first.map { keyHeads($0.attention, of: source).count } ?? 0,
      inner: first.map { inner[$0.mlp].count } ?? 0, width: width.count)
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
    shapes.reduce(0) { sum, tensor in
      guard let place = places[tensor.name] else { return sum + tensor.shape.reduce(1, *) }
      switch place.branch {
      case .outside: break
      // All layers are alike: the first stands for those that stay.
      case .attention(let layer), .mlp(let layer): if layer > 0 { return sum }
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
      return sum + (place.branch == .outside ? count : count * new.layers)
    }
  }
}

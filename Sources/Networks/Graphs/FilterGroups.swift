// Which channels of a graph go together: the filters that make them, the vectors beside them, and the layers that read
// them. What is cut out of a network are channels of such groups.
//
// Source   Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710, sections 3.1 and 3.2; groups by
//          following channels through the graph: Fang et al., "DepGraph", CVPR 2023, arXiv:2301.12900, section 3
// Given    a graph whose layers say how the channels of their results follow from those of their inputs
// Result   channels that are one and the same, wherever they pass; neighbours that pass the same places make a group. What
//          touches the network's input, its result or a layer without such a relation is in no group
// Checked  FilterPruningTests, FilterGroupTests: a cut gives what layers give that do not look at the channels

import Checkpoints
public import JSONDocuments
import Tensors

/// How the channels of a layer's result follow from its inputs'.
enum ChannelRelation {
  /// Channel c of the result comes from channel c of every input.
  case same
  /// Channel c + n of the result comes from channel c of the input; the others are zeros.
  case moved(by: Int)
  /// In another way, so that none of them can be cut out.
  case other
}

/// Channels that stand side by side and pass the same places: what is cut out of a network are some of them.
public struct FilterGroup {
  /// Where they stand in a layer or a tensor.
  public struct Place<Owner> {
    /// The layer, or the tensor's name.
    public let owner: Owner
    /// The first of them.
    public let first: Int
    /// Channels that stand there in all.
    public let all: Int
  }

  /// The layer that makes them.
  public let name: String
  /// How many there are.
  public let count: Int
  /// Whether they are part of a sum of several layers, as a residual stream.
  public let isSummed: Bool
  /// Layers whose outputs they are: rows of their matrices.
  public let producers: [Place<Linear>]
  /// Layers that read them: columns of their matrices, position after position of a window, in each all channels.
  public let readers: [Place<Linear>]
  /// Tensors with a value for each, such as a norm's and a bias.
  public let vectors: [Place<String>]

  /// The columns of a reader's matrix for some of the group's channels.
  public static func columns(of reader: Place<Linear>, channels: [Int]) -> [Int] {
    stride(from: reader.first, to: reader.owner.matrix.inputs, by: reader.all).flatMap { start in
      channels.map { start + $0 }
    }
  }
}

/// A network over samples out of which channels can be cut.
public protocol FilterNetwork: SampleNetwork {
  /// The groups whose channels can go, in the order of the network.
  var filterGroups: [FilterGroup] { get }
  /// The configuration of the network with other numbers of outputs of its layers, by their names; nil where it has no
  /// place for them.
  func configuration(_ configuration: JSONValue, outputs: [String: Int]) -> JSONValue?
  /// Multiplications of its matrices for one sample.
  var multiplications: Int { get }
}

extension GraphNetwork: FilterNetwork {
  var filterGroups: [FilterGroup] {
    var sets = ChannelSets(nodes.map { $0.shape.channels })
    for node in inputs.indices { sets.fix(node) }
    for node in resultNodes { sets.fix(node) }
    for (index, node) in nodes.enumerated() {
      switch node.layer {
      case .input: break
      case .matrix(let layer):
        switch (layer as? SingleLinear)?.linear.channels(of: nodes[node.inputs[0]].shape.channels) {
        case .all: break
        case .each: sets.join(index, node.inputs[0], by: 0)
        case nil: for place in node.inputs + [index] { sets.fix(place) }
        }
      case .plain(let layer):
        switch layer.channelRelation {
        case .same: for input in node.inputs { sets.join(index, input, by: 0) }
        case .moved(let distance): sets.join(index, node.inputs[0], by: distance)
        case .other: for place in node.inputs + [index] { sets.fix(place) }
        }
      }
    }
    return sets.free.compactMap { group(of: $0.places, count: $0.count) }
  }

  func configuration(_ configuration: JSONValue, outputs: [String: Int]) -> JSONValue? {
    switch sizes {
    case .tensors: configuration
    case .configuration(let change): change(configuration, outputs)
    }
  }

  var multiplications: Int {
    nodes.reduce(0) { sum, node in
      guard case .matrix(let layer) = node.layer else { return sum }
      return layer.groups.joined().reduce(sum) {
        $0 + node.shape.rows * $1.matrix.outputs * $1.matrix.inputs
      }
    }
  }

  /// A group from the nodes that its channels pass and their first channels there.
  private func group(of places: [Int: Int], count: Int) -> FilterGroup? {
    var producers: [FilterGroup.Place<Linear>] = [], readers: [FilterGroup.Place<Linear>] = []
    var vectors: [FilterGroup.Place<String>] = []
    var isSummed = false
    for (index, node) in nodes.enumerated() {
      let first = places[index], all = node.shape.channels
      switch node.layer {
      case .input: break
      case .plain(let layer):
        guard let first else { continue }
        vectors += layer.channelVectors.map { .init(owner: $0, first: first, all: all) }
        isSummed = isSummed || node.inputs.count > 1
      case .matrix(let layer):
        guard let linear = (layer as? SingleLinear)?.linear else { continue }
        if let first {
          producers.append(.init(owner: linear, first: first, all: all))
          if linear.bias != nil {
            vectors.append(.init(owner: linear.biasName, first: first, all: all))
          }
        }
        // A layer may read the sum that it is part of.
        let read = nodes[node.inputs[0]].shape.channels
        if let first = places[node.inputs[0]], linear.channels(of: read) == .all {
          readers.append(.init(owner: linear, first: first, all: read))
        }
      }
    }
    guard let first = producers.first, !readers.isEmpty else { return nil }
    return FilterGroup(
      name: first.owner.name, count: count, isSummed: isSummed, producers: producers,
      readers: readers, vectors: vectors)
  }
}

extension Linear {
  /// Which inputs an output channel reads.
  fileprivate enum Reading {
    /// All channels.
    case all
    /// The channel of its own number.
    case each
  }

  /// How the layer reads that many channels; nil for groups of channels.
  fileprivate func channels(of count: Int) -> Reading? {
    guard let windows, windows.groups > 1 else { return .all }
    return windows.groups == count && matrix.outputs == count ? .each : nil
  }
}

/// Which channels of which nodes are one and the same.
private struct ChannelSets {
  /// The first element of each node.
  private let starts: [Int]
  private let counts: [Int]
  private var parents: [Int]
  private var isFixed: [Bool]

  init(_ counts: [Int]) {
    self.counts = counts
    var starts: [Int] = [], all = 0
    for count in counts {
      starts.append(all)
      all += count
    }
    self.starts = starts
    parents = Array(0..<all)
    isFixed = [Bool](repeating: false, count: all)
  }

  private func root(_ element: Int) -> Int {
    var element = element
    while parents[element] != element { element = parents[element] }
    return element
  }

  mutating func fix(_ node: Int) {
    for channel in 0..<counts[node] { isFixed[root(starts[node] + channel)] = true }
  }

  /// Channel c + distance of a node is channel c of another.
  mutating func join(_ node: Int, _ other: Int, by distance: Int) {
    for channel in 0..<counts[other] {
      let a = root(starts[node] + channel + distance), b = root(starts[other] + channel)
      parents[max(a, b)] = min(a, b)
      isFixed[min(a, b)] = isFixed[a] || isFixed[b]
    }
  }

  /// Runs of channels that are not fixed, with the nodes that they pass and the first channel in each.
  var free: [(places: [Int: Int], count: Int)] {
    var members: [Int: [Int: Int]] = [:]
    for node in starts.indices {
      for channel in 0..<counts[node] {
        let root = root(starts[node] + channel)
        if !isFixed[root] { members[root, default: [:]][node] = channel }
      }
    }
    var runs: [(places: [Int: Int], count: Int)] = []
    for root in members.keys.sorted() {
      guard let places = members[root] else { continue }
      if let last = runs.last, last.places.mapValues({ $0 + last.count }) == places {
        runs[runs.count - 1].count += 1
      } else {
        runs.append((places, 1))
      }
    }
    return runs
  }
}

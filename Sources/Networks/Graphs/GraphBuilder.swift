// Builds a graph from tensors in PyTorch's layout: `[outputs, channels, height, width]` for convolutions.

import Checkpoints
import Tensors

/// A graph in the making; functions add a node and give its number.
struct GraphBuilder {
  let checkpoint: any Checkpoint
  private(set) var nodes: [GraphNode]
  /// Tensors that the graph reads, or knows and leaves alone.
  var tensorNames: Set<String> = []
  /// Matrices whose rows are looked up.
  var tables: [Linear] = []
  /// The least number of rows of the tables that each input's ids are looked up in.
  private var idLimits: [Int: Int] = [:]

  init(_ checkpoint: any Checkpoint, input: SampleShape) {
    self.init(checkpoint, inputs: [("input", input)])
  }

  /// A graph of its inputs alone, which are the nodes 0, 1 …
  init(_ checkpoint: any Checkpoint, inputs: [(name: String, shape: SampleShape)]) {
    self.checkpoint = checkpoint
    nodes = inputs.map { GraphNode(name: $0.name, layer: .input, inputs: [], shape: $0.shape) }
  }

  /// What the graph reads.
  var inputs: [SampleInput] {
    nodes.enumerated().prefix { if case .input = $1.layer { true } else { false } }.map {
      SampleInput($1.name, $1.shape, idLimit: idLimits[$0])
    }
  }

  /// Notes that a node's numbers are ids.
  ///
  /// - Returns: Whether they are those of inputs, in whatever order.
  mutating func limitIds(of node: Int, to limit: Int) -> Bool {
    var open = [node], seen: Set<Int> = []
    while let node = open.popLast() {
      guard seen.insert(node).inserted else { continue }
      switch nodes[node].layer {
      case .input: idLimits[node] = min(limit, idLimits[node] ?? limit)
      case .plain(let layer) where layer.keepsNumbers: open += nodes[node].inputs
      case .plain, .matrix: return false
      }
    }
    return true
  }

  /// Says that the nodes from one on work on `count` samples for each of the graph's.
  mutating func repeatShapes(from first: Int, count: Int) {
    for index in first..<nodes.count {
      nodes[index].shape = SampleShape([count] + nodes[index].shape.dimensions)
    }
  }

  /// Runs nodes that are there once more, on another input of the same shape.
  ///
  /// - Parameters:
  ///   - range: Nodes that read each other, and one node before them.
  ///   - node: The last of them gives the result.
  mutating func again(_ range: Range<Int>, result node: Int, reading input: Int) -> Int {
    let offset = nodes.count - range.lowerBound
    for index in range {
      var copy = nodes[index]
      let layer: any PlainLayer =
        switch copy.layer {
        case .matrix(let layer): Again { layer.apply($0.removeFirst()) }
        case .plain(let layer): Again { layer.apply(&$0) }
        case .input: preconditionFailure("an input behind other nodes")
        }
      copy = GraphNode(
        name: copy.name, layer: .plain(layer),
        inputs: copy.inputs.map { range.contains($0) ? $0 + offset : input }, shape: copy.shape)
      nodes.append(copy)
    }
    return node + offset
  }

  /// Of a node's result.
  func shape(_ node: Int) -> SampleShape { nodes[node].shape }

  /// Adds a node.
  mutating func add(
    _ name: String, _ layer: GraphNode.Layer, _ inputs: [Int], _ shape: SampleShape
  ) -> Int {
    nodes.append(GraphNode(name: name, layer: layer, inputs: inputs, shape: shape))
    return nodes.count - 1
  }

  private func wrong(_ name: String, _ expected: String) -> CheckpointError {
    guard let found = checkpoint.shape(name) else {
      return CheckpointError(path: checkpoint.path, tensor: name, .tensorNotFound)
    }
    return CheckpointError(
      path: checkpoint.path, tensor: name,
      .badValue(found: "the shape \(found)", expected: expected))
  }

  private mutating func bias(_ name: String, count: Int) throws(CheckpointError) -> [Float]? {
    guard checkpoint.holds(name) else { return nil }
    tensorNames.insert(name)
    return try checkpoint.vector(name, count: count)
  }

  /// A square convolution with the sizes of its tensor, and its bias where there is one.
  mutating func convolution(
    _ name: String, of input: Int, stride: Int = 1, padding: Int
  ) throws(CheckpointError) -> Int {
    let shape = nodes[input].shape.dimensions, weight = name + ".weight"
    let sizes = checkpoint.shape(weight) ?? []
    guard sizes.count == 4, shape.count == 3, sizes[1] > 0, shape[2] % sizes[1] == 0,
      sizes.allSatisfy({ $0 > 0 }), sizes[0] % (shape[2] / sizes[1]) == 0,
      let geometry = PatchGeometry(
        height: shape[0], width: shape[1], channels: shape[2], kernel: (sizes[2], sizes[3]),
        stride: (stride, stride), padding: (padding, padding, padding, padding)),
      let layout = MatrixLayout(shape: sizes, axes: [0, 2, 3, 1])
    else {
      throw wrong(weight, "a convolution of \(nodes[input].shape)")
    }
    tensorNames.insert(weight)
    let linear = Linear(
      name: name, matrix: try checkpoint.weight(weight, layout: layout),
      bias: try bias(name + ".bias", count: sizes[0]), layout: layout,
      windows: ImageWindows(geometry, groups: shape[2] / sizes[1]))
    return add(
      name, .matrix(SingleLinear(linear)), [input],
      SampleShape([geometry.outHeight, geometry.outWidth, sizes[0]]))
  }

  /// A matrix that the channels go through.
  mutating func matrix(_ name: String, of input: Int) throws(CheckpointError) -> Int {
    let shape = nodes[input].shape, weight = name + ".weight"
    guard let sizes = checkpoint.shape(weight), sizes.count == 2, sizes[1] == shape.channels else {
      throw wrong(weight, "[outputs, \(shape.channels)]")
    }
    tensorNames.insert(weight)
    let linear = Linear(
      name: name,
      matrix: try checkpoint.weight(weight, outputs: sizes[0], inputs: sizes[1]),
      bias: try bias(name + ".bias", count: sizes[0]))
    return add(
      name, .matrix(SingleLinear(linear)), [input],
      SampleShape(shape.dimensions.dropLast() + [sizes[0]]))
  }

  /// Batch normalization; none where its vectors were folded into the convolution before it.
  mutating func norm(_ name: String, of input: Int, epsilon: Float) throws(CheckpointError) -> Int {
    let shape = nodes[input].shape, count = shape.channels
    guard checkpoint.holds(name + ".weight") || checkpoint.holds(name + ".running_mean") else {
      return input
    }
    func vector(_ part: String) throws(CheckpointError) -> [Float] {
      try checkpoint.vector(name + part, count: count)
    }
    tensorNames.formUnion(
      [".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"].map {
        name + $0
      })
    let norm = BatchNorm(
      names: .init(
        weight: name + ".weight", bias: name + ".bias", mean: name + ".running_mean",
        variance: name + ".running_var"), epsilon: epsilon, weight: try vector(".weight"),
      bias: try vector(".bias"), mean: try vector(".running_mean"),
      variance: try vector(".running_var"))
    if let value = norm.variance.first(where: { !($0 + epsilon > 0) }) {
      throw CheckpointError(
        path: checkpoint.path, tensor: name + ".running_var",
        .badValue(found: "the variance \(value)", expected: "at least 0"))
    }
    return add(name, .plain(norm), [input], shape)
  }

  /// A function of each value.
  mutating func activation(_ activation: Activation, of input: Int) -> Int {
    add(activation.rawValue, .plain(Elementwise(activation)), [input], nodes[input].shape)
  }

  /// The sum of results of one shape.
  mutating func sum(_ name: String, _ inputs: [Int]) throws(CheckpointError) -> Int {
    let shapes = inputs.map { nodes[$0].shape }
    guard shapes.allSatisfy({ $0 == shapes[0] }) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: name,
        .badValue(
          found: "a sum of " + shapes.map(\.description).joined(separator: " and "),
          expected: "equal shapes"))
    }
    return add(name, .plain(Sum()), inputs, shapes[0])
  }

  /// Pixels at a stride, with zero channels on both sides.
  mutating func paddedShortcut(
    _ name: String, from input: Int, stride: Int, like other: Int
  ) throws(CheckpointError) -> Int {
    let shape = nodes[input].shape.dimensions, goal = nodes[other].shape
    let missing = goal.channels - shape[2]
    guard missing >= 0,
      let geometry = PatchGeometry(
        height: shape[0], width: shape[1], channels: shape[2], kernel: (1, 1),
        stride: (stride, stride)),
      [geometry.outHeight, geometry.outWidth] == Array(goal.dimensions.prefix(2))
    else {
      throw CheckpointError(
        path: checkpoint.path, tensor: name,
        .badValue(
          found: "a shortcut from \(nodes[input].shape) to \(goal)",
          expected: "at least as many channels"))
    }
    return add(
      name, .plain(PaddedShortcut(geometry, before: missing / 2, after: missing - missing / 2)),
      [input], goal)
  }

  /// The mean over all pixels.
  mutating func meanOfPixels(of input: Int) throws(CheckpointError) -> Int {
    let shape = nodes[input].shape.dimensions
    guard
      let geometry = PatchGeometry(
        height: shape[0], width: shape[1], channels: shape[2], kernel: (shape[0], shape[1]))
    else { throw wrong("pooling", "an image") }
    return add(
      "pooling", .plain(WindowPooling(geometry, .mean(countsPadding: false))), [input],
      SampleShape([shape[2]]))
  }
}

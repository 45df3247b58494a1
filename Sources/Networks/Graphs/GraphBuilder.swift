// Builds a graph from tensors in PyTorch's layout: `[outputs, channels, height, width]` for convolutions.

import Checkpoints
import Tensors

/// A graph in the making; functions add a node and give its number.
struct GraphBuilder {
  let checkpoint: any Checkpoint
  private(set) var nodes: [GraphNode]
  /// Tensors that the graph reads, or knows and leaves alone.
  private(set) var tensorNames: Set<String> = []

  init(_ checkpoint: any Checkpoint, input: SampleShape) {
    self.checkpoint = checkpoint
    nodes = [GraphNode(name: "input", layer: .input, inputs: [], shape: input)]
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

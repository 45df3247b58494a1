// Keras's layers as nodes of a graph, over weights in Keras's layouts.

import Checkpoints
import JSONDocuments
import Tensors

/// Adds the layers of a Keras model to a graph.
struct KerasLayers {
  let checkpoint: any Checkpoint
  var graph: GraphBuilder
  private var tensorNames: Set<String> = []
  /// Whether the last layer's function was a softmax.
  private var endsInSoftmax = false

  /// Layers that pass their input on when a model is used.
  private static let passing: Set<String> = [
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout",
    "ActivityRegularization", "Identity",
  ]
  /// Every kind of layer that is known.
  static let kinds: Set<String> = passing.union([
    "InputLayer", "Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D",
    "Convolution2D",
    "BatchNormalization", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "MaxPooling1D",
    "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Flatten", "Reshape",
    "Permute", "Add", "Multiply", "Concatenate", "ZeroPadding1D", "ZeroPadding2D",
  ])

  init(_ checkpoint: any Checkpoint, input: SampleShape) {
    self.checkpoint = checkpoint
    graph = GraphBuilder(checkpoint, input: input)
  }

  /// The network whose result is a node, which is the last one.
  func network(output: Int, knownLayers: [String]) -> any Network {
    let prefixes = Set(knownLayers)
    // Layers that do not lead to the output keep their tensors.
    let others = checkpoint.logicalTensors.map(\.name).filter {
      prefixes.contains(String($0.prefix { $0 != "/" }))
    }
    return GraphNetwork(
      family: "keras", nodes: graph.nodes, normalization: SampleNormalization(),
      output: endsInSoftmax && graph.shape(output).rows == 1 ? .probabilities : .values,
      tensorNames: tensorNames.union(others),
      fixedSizes: "the sizes of a Keras model's layers stand in its model_config")
  }

  func wrong(_ layer: KerasLayer, _ found: String, _ expected: String) -> CheckpointError {
    CheckpointError(
      path: checkpoint.path, tensor: layer.name, .badValue(found: found, expected: expected))
  }

  // MARK: - Weights

  /// The full name of a layer's tensor, such as `dense/dense/kernel:0` for `kernel`.
  func find(_ part: String, of layer: KerasLayer) -> String? {
    checkpoint.logicalTensors.lazy.map(\.name).first { name in
      guard name.hasPrefix(layer.name + "/"), let last = name.split(separator: "/").last else {
        return false
      }
      return last == part || last == part + ":0"
    }
  }

  mutating func vector(
    _ part: String, of layer: KerasLayer, count: Int
  ) throws(CheckpointError) -> (name: String, values: [Float]) {
    guard let name = find(part, of: layer) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.name + "/" + part, .tensorNotFound)
    }
    tensorNames.insert(name)
    return (name, try checkpoint.vector(name, count: count))
  }

  /// A linear layer over a kernel of some shape.
  mutating func linear(
    _ layer: KerasLayer, kernel part: String = "kernel", shape: [Int], axes: [Int],
    rowAxes: Int = 1, biasCount: Int?, windows: ImageWindows? = nil
  ) throws(CheckpointError) -> SingleLinear {
    guard let name = find(part, of: layer) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.name + "/" + part, .tensorNotFound)
    }
    guard let layout = MatrixLayout(shape: shape, axes: axes, rowAxes: rowAxes) else {
      throw wrong(layer, "a kernel of \(shape)", "sizes that can be multiplied")
    }
    tensorNames.insert(name)
    var bias: (name: String, values: [Float])?
    if let biasCount, layer.configuration["use_bias"]?.bool ?? true {
      bias = try vector("bias", of: layer, count: biasCount)
    }
    return SingleLinear(
      Linear(
        name: layer.name + (part == "kernel" ? "" : "/" + part),
        matrix: try checkpoint.weight(name, layout: layout), bias: bias?.values, weightName: name,
        biasName: bias?.name, layout: layout, windows: windows))
  }

  // MARK: - Layers

  /// Adds a layer and what its own activation does.
  mutating func add(_ layer: KerasLayer, _ inputs: [Int]) throws(CheckpointError) -> Int {
    endsInSoftmax = false
    guard let input = inputs.first else { throw wrong(layer, "no input", "at least one") }
    if let format = layer.configuration["data_format"]?.string, format != "channels_last" {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.name, .unsupported("the data_format '\(format)'"))
    }
    let several = ["Add", "Multiply", "Concatenate"].contains(layer.kind)
    guard several == (inputs.count > 1) || several else {
      throw wrong(layer, "\(inputs.count) inputs", "one")
    }
    if Self.passing.contains(layer.kind) { return input }
    switch layer.kind {
    case "Dense": return try activated(layer, try dense(layer, input))
    case "Conv1D", "Conv2D", "Convolution2D":
      return try activated(layer, try convolution(layer, input))
    case "DepthwiseConv2D", "SeparableConv2D":
      return try activated(layer, try depthwise(layer, input))
    case "BatchNormalization": return try norm(layer, input)
    case "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax": return try activated(layer, input)
    case "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D",
      "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D",
      "GlobalMaxPooling2D":
      return try pooling(layer, input)
    case "Add": return try graph.sum(layer.name, inputs)
    case "Multiply", "Concatenate": return try combined(layer, inputs)
    default: return try rearranged(layer, input)
    }
  }

  mutating func activated(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(input)
    func number(_ keys: String..., default standard: Double) -> Float {
      Float(keys.lazy.compactMap { layer.configuration[$0]?.number }.first ?? standard)
    }
    let node: any PlainLayer
    switch layer.kind {
    case "ReLU":
      guard number("threshold", default: 0) == 0 else {
        throw wrong(layer, "a threshold", "0")
      }
      node = ValueFunction.clamped(
        slope: number("negative_slope", default: 0),
        maximum: number("max_value", default: .infinity))
    case "LeakyReLU":
      node = ValueFunction.clamped(
        slope: number("negative_slope", "alpha", default: 0.3), maximum: .infinity)
    case "ELU": node = ValueFunction.elu(alpha: number("alpha", default: 1))
    default:
      let standard = layer.kind == "Softmax" ? "softmax" : "linear"
      let name = layer.configuration["activation"]?.string ?? standard
      if name == "linear" { return input }
      if name == "softmax" {
        endsInSoftmax = true
        node = RowSoftmax()
      } else if let function = ValueFunction.named(name) {
        node = function
      } else {
        throw CheckpointError(
          path: checkpoint.path, tensor: layer.name, .unsupported("the activation '\(name)'"))
      }
    }
    return graph.add(layer.name + "/activation", .plain(node), [input], shape)
  }

  func size(_ layer: KerasLayer, _ key: String) throws(CheckpointError) -> Int {
    guard let value = layer.configuration[key]?.integer, (1...1 << 20).contains(value) else {
      throw wrong(
        layer, "\(key) \(layer.configuration[key]?.compactText ?? "nothing")", "1 to 1048576")
    }
    return value
  }

  /// One or two sizes, as (y, x); for signals y is 1.
  func pair(
    _ layer: KerasLayer, _ key: String, default standard: (y: Int, x: Int) = (1, 1)
  ) throws(CheckpointError) -> (y: Int, x: Int) {
    guard let value = layer.configuration[key], !value.isNull else { return standard }
    let sizes = value.array?.compactMap(\.integer) ?? [value.integer].compactMap { $0 }
    guard (1...2).contains(sizes.count), sizes.allSatisfy({ (1...1 << 20).contains($0) }) else {
      throw wrong(layer, "\(key) \(value.compactText)", "one or two sizes")
    }
    if layer.kind.hasSuffix("1D") { return (1, sizes[0]) }
    return (sizes[0], sizes[sizes.count - 1])
  }

  /// A window over a layer's input: an image, or a signal as an image of one row.
  func geometry(
    _ layer: KerasLayer, _ input: Int, kernel: (y: Int, x: Int), stride: (y: Int, x: Int),
    dilation: (y: Int, x: Int) = (1, 1)
  ) throws(CheckpointError) -> PatchGeometry {
    let isSignal = layer.kind.hasSuffix("1D"), shape = graph.shape(input).dimensions
    guard shape.count == (isSignal ? 2 : 3) else {
      throw wrong(layer, "an input of \(graph.shape(input))", isSignal ? "2 sizes" : "3 sizes")
    }
    let height = isSignal ? 1 : shape[0], width = shape[shape.count - 2]
    var padding = (top: 0, bottom: 0, left: 0, right: 0)
    switch layer.configuration["padding"]?.string ?? "valid" {
    case "valid": break
    case "same":
      let y = PatchGeometry.samePadding(
        height, kernel: kernel.y, stride: stride.y, dilation: dilation.y)
      let x = PatchGeometry.samePadding(
        width, kernel: kernel.x, stride: stride.x, dilation: dilation.x)
      padding = (y.before, y.after, x.before, x.after)
    case "causal" where isSignal: padding.left = (kernel.x - 1) * dilation.x
    case let other: throw wrong(layer, "the padding '\(other)'", "valid or same")
    }
    guard
      let geometry = PatchGeometry(
        height: height, width: width, channels: shape[shape.count - 1], kernel: kernel,
        stride: stride, dilation: dilation, padding: padding)
    else {
      throw wrong(
        layer, "a window of \(kernel.y) x \(kernel.x) on \(graph.shape(input))", "one that fits")
    }
    return geometry
  }

  func shape(_ layer: KerasLayer, _ geometry: PatchGeometry, _ channels: Int) -> SampleShape {
    layer.kind.hasSuffix("1D")
      ? SampleShape([geometry.outWidth, channels])
      : SampleShape([geometry.outHeight, geometry.outWidth, channels])
  }

  mutating func dense(_ layer: KerasLayer, _ input: Int) throws(CheckpointError) -> Int {
    let shape = graph.shape(input), units = try size(layer, "units")
    let linear = try linear(
      layer, shape: [shape.channels, units], axes: [1, 0], biasCount: units)
    return graph.add(
      layer.name, .matrix(linear), [input], SampleShape(shape.dimensions.dropLast() + [units]))
  }

  mutating func convolution(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let filters = try size(layer, "filters"), kernel = try pair(layer, "kernel_size")
    let geometry = try geometry(
      layer, input, kernel: kernel, stride: try pair(layer, "strides"),
      dilation: try pair(layer, "dilation_rate"))
    let groups = layer.configuration["groups"]?.integer ?? 1
    guard groups >= 1, geometry.channels % groups == 0, filters % groups == 0 else {
      throw wrong(layer, "\(groups) groups", "a divisor of channels and filters")
    }
    let isSignal = layer.kind.hasSuffix("1D"), own = geometry.channels / groups
    let linear = try linear(
      layer, shape: isSignal ? [kernel.x, own, filters] : [kernel.y, kernel.x, own, filters],
      axes: isSignal ? [2, 0, 1] : [3, 0, 1, 2], biasCount: filters,
      windows: ImageWindows(geometry, groups: groups))
    return graph.add(layer.name, .matrix(linear), [input], shape(layer, geometry, filters))
  }

  /// One window a channel, and for separable convolutions the matrix behind it.
  mutating func depthwise(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let isSeparable = layer.kind == "SeparableConv2D", kernel = try pair(layer, "kernel_size")
    let geometry = try geometry(
      layer, input, kernel: kernel, stride: try pair(layer, "strides"),
      dilation: try pair(layer, "dilation_rate"))
    let multiplier = layer.configuration["depth_multiplier"]?.integer ?? 1
    guard (1...1 << 10).contains(multiplier) else {
      throw wrong(layer, "depth_multiplier \(multiplier)", "1 to 1024")
    }
    let inner = geometry.channels * multiplier
    let part =
      isSeparable || find("depthwise_kernel", of: layer) != nil ? "depthwise_kernel" : "kernel"
    let linear = try linear(
      layer, kernel: part, shape: [kernel.y, kernel.x, geometry.channels, multiplier],
      axes: [2, 3, 0, 1], rowAxes: 2, biasCount: isSeparable ? nil : inner,
      windows: ImageWindows(geometry, groups: geometry.channels))
    let windows = graph.add(layer.name, .matrix(linear), [input], shape(layer, geometry, inner))
    guard isSeparable else { return windows }
    let filters = try size(layer, "filters")
    let pointwise = try self.linear(
      layer, kernel: "pointwise_kernel", shape: [1, 1, inner, filters], axes: [3, 0, 1, 2],
      biasCount: filters)
    return graph.add(
      layer.name + "/pointwise", .matrix(pointwise), [windows], shape(layer, geometry, filters))
  }

  mutating func norm(_ layer: KerasLayer, _ input: Int) throws(CheckpointError) -> Int {
    let shape = graph.shape(input), count = shape.channels
    let axis = layer.configuration["axis"]
    let place = axis?.integer ?? axis?.array?.first?.integer ?? -1
    guard place == -1 || place == shape.dimensions.count else {
      throw wrong(layer, "the axis \(place)", "the last one")
    }
    let gamma =
      layer.configuration["scale"]?.bool ?? true
      ? try vector("gamma", of: layer, count: count) : nil
    let beta =
      layer.configuration["center"]?.bool ?? true
      ? try vector("beta", of: layer, count: count) : nil
    let mean = try vector("moving_mean", of: layer, count: count)
    let variance = try vector("moving_variance", of: layer, count: count)
    let epsilon = Float(layer.configuration["epsilon"]?.number ?? 1e-3)
    guard variance.values.allSatisfy({ $0 + epsilon > 0 }) else {
      throw wrong(layer, "a negative variance", "at least 0")
    }
    let norm = BatchNorm(
      names: .init(weight: gamma?.name, bias: beta?.name, mean: mean.name, variance: variance.name),
      epsilon: epsilon, weight: gamma?.values ?? [Float](repeating: 1, count: count),
      bias: beta?.values ?? [Float](repeating: 0, count: count), mean: mean.values,
      variance: variance.values)
    return graph.add(layer.name, .plain(norm), [input], shape)
  }

  mutating func pooling(_ layer: KerasLayer, _ input: Int) throws(CheckpointError) -> Int {
    let kind: Pooling = layer.kind.contains("Max") ? .largest : .mean(countsPadding: false)
    let sizes = graph.shape(input).dimensions, isSignal = layer.kind.hasSuffix("1D")
    if layer.kind.hasPrefix("Global") {
      let whole = isSignal ? (y: 1, x: sizes[0]) : (y: sizes[0], x: sizes.count > 1 ? sizes[1] : 1)
      let geometry = try geometry(layer, input, kernel: whole, stride: (1, 1))
      let keeps = layer.configuration["keepdims"]?.bool ?? false
      return graph.add(
        layer.name, .plain(WindowPooling(geometry, kind)), [input],
        keeps ? shape(layer, geometry, geometry.channels) : SampleShape([geometry.channels]))
    }
    let window = try pair(layer, "pool_size", default: isSignal ? (1, 2) : (2, 2))
    let geometry = try geometry(
      layer, input, kernel: window, stride: try pair(layer, "strides", default: window))
    return graph.add(
      layer.name, .plain(WindowPooling(geometry, kind)), [input],
      shape(layer, geometry, geometry.channels))
  }
}

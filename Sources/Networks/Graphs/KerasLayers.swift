// Keras's layers as nodes of a graph, over weights in Keras's layouts.

import Checkpoints
import JSONDocuments
import Tensors

/// Adds the layers of a Keras model to a graph.
struct KerasLayers {
  let checkpoint: any Checkpoint
  var graph: GraphBuilder
  let weights: KerasWeights
  /// The mask of the rows of a node's result, a node too.
  var masks: [Int: Int] = [:]
  /// The number that the layer that is added next is given beside its inputs.
  var number: Double?
  /// Whether the file is of Keras 3.
  let isKeras3: Bool

  /// Numbers of one result of a sample.
  static let valueLimit = 1 << 26

  /// Layers that pass their input on when a model is used.
  private static let passing: Set<String> = [
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout",
    "ActivityRegularization", "Identity",
  ]
  /// Layers that go over time.
  static let recurrentKinds: Set<String> = ["LSTM", "GRU", "SimpleRNN"]
  /// Layers whose weights all uses share.
  static let weightedKinds: Set<String> = recurrentKinds.union([
    "Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Convolution2D",
    "BatchNormalization", "LayerNormalization", "Embedding", "Bidirectional", "TimeDistributed",
  ])
  /// Every kind of layer that is known.
  static let kinds: Set<String> = passing.union(weightedKinds).union([
    "InputLayer", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "MaxPooling1D",
    "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Flatten", "Reshape",
    "Masking", "NotEqual", "Any", "Permute", "Add", "Average", "Multiply", "Concatenate",
    "ZeroPadding1D",
    "ZeroPadding2D",
  ])

  init(_ checkpoint: any Checkpoint, inputs: [(name: String, shape: SampleShape)]) {
    self.checkpoint = checkpoint
    graph = GraphBuilder(checkpoint, inputs: inputs)
    weights = KerasWeights(checkpoint)
    let version = checkpoint.configuration["keras_version"]?.string
    isKeras3 = version.map { !$0.hasPrefix("1") && !$0.hasPrefix("2") } ?? true
  }

  /// The network of some results.
  func network(outputs: [(name: String, node: Int)], knownLayers: [String]) -> any Network {
    GraphNetwork(
      family: "keras", graph, normalization: SampleNormalization(),
      results: outputs.map { name, node in
        var isSoftmax = false
        if case .plain(let layer) = graph.nodes[node].layer { isSoftmax = layer is RowSoftmax }
        return GraphResult(
          name: name, node: node,
          kind: isSoftmax && graph.shape(node).rows == 1 ? .probabilities : .values)
      },
      // Layers that do not lead to an output keep their tensors.
      others: Set(weights.known(layers: knownLayers)),
      sizes: .configuration(KerasNetwork.resized))
  }

  func wrong(_ layer: KerasLayer, _ found: String, _ expected: String) -> CheckpointError {
    CheckpointError(
      path: checkpoint.path, tensor: layer.fullName, .badValue(found: found, expected: expected))
  }

  // MARK: - What cannot run

  /// The kind of a layer, or of what it wraps, where it is not known.
  static func unknownKind(_ item: JSONValue) -> String? {
    let kind = item["class_name"]?.string ?? "nothing"
    guard kinds.contains(kind) else { return kind }
    switch kind {
    case "TimeDistributed", "Bidirectional":
      let inner = item["config"]?["layer"]?["class_name"]?.string ?? "nothing"
      let isKnown =
        kind == "Bidirectional"
        ? recurrentKinds.contains(inner) : kinds.contains(inner) && inner != "InputLayer"
      return isKnown ? nil : "\(kind) of \(inner)"
    default: return nil
    }
  }

  /// A setting of a known layer that cannot be run, and what it does.
  static func unknownSetting(_ item: JSONValue) -> String? {
    let configuration = item["config"]
    func isOn(_ key: String) -> Bool { configuration?[key]?.bool ?? false }
    switch item["class_name"]?.string {
    case "LayerNormalization" where isOn("rms_scaling"): return "that scales only (rms_scaling)"
    case "Bidirectional" where configuration?["merge_mode"]?.string == nil:
      return "whose directions are not merged (merge_mode)"
    case "Bidirectional", "TimeDistributed":
      return configuration?["layer"].flatMap(unknownSetting)
    case let kind where recurrentKinds.contains(kind ?? ""):
      if isOn("stateful") { return "whose state goes from one batch to the next (stateful)" }
      if isOn("return_state") { return "that gives its state as well (return_state)" }
      if isOn("time_major") { return "whose first axis is time (time_major)" }
      return nil
    default: return nil
    }
  }

  // MARK: - Weights

  /// The full name of a layer's weight; its name without a file where there is none.
  mutating func name(
    _ part: String, of layer: KerasLayer, direction: String? = nil
  ) throws(CheckpointError) -> String {
    guard let name = weights.find(part, of: layer, direction: direction) else {
      throw CheckpointError(
        path: checkpoint.path,
        tensor: layer.fullName + (direction.map { "/\($0)" } ?? "") + "/" + part, .tensorNotFound)
    }
    graph.tensorNames.insert(name)
    return name
  }

  mutating func vector(
    _ part: String, of layer: KerasLayer, count: Int, direction: String? = nil
  ) throws(CheckpointError) -> (name: String, values: [Float]) {
    let name = try name(part, of: layer, direction: direction)
    return (name, try checkpoint.vector(name, count: count))
  }

  /// A linear layer over a kernel of some shape.
  ///
  /// - Parameter biasCount: Values of its bias, where it may have one.
  mutating func linear(
    _ layer: KerasLayer, kernel part: String = "kernel", shape: [Int], axes: [Int],
    rowAxes: Int = 1, biasCount: Int?, windows: ImageWindows? = nil, direction: String? = nil
  ) throws(CheckpointError) -> Linear {
    let name = try name(part, of: layer, direction: direction)
    guard let layout = MatrixLayout(shape: shape, axes: axes, rowAxes: rowAxes) else {
      throw wrong(layer, "a kernel of \(shape)", "sizes that can be multiplied")
    }
    var bias: (name: String, values: [Float])?
    if let biasCount, layer.configuration["use_bias"]?.bool ?? true {
      bias = try vector("bias", of: layer, count: biasCount, direction: direction)
    }
    return Linear(
      name: layer.fullName + (direction.map { "/\($0)" } ?? "")
        + (part == "kernel" ? "" : "/" + part),
      matrix: try checkpoint.weight(name, layout: layout), bias: bias?.values, weightName: name,
      biasName: bias?.name, layout: layout, windows: windows)
  }

  // MARK: - Layers

  /// Adds a layer and what its own activation does; the mask of its input goes on where rows stay rows.
  mutating func add(_ layer: KerasLayer, _ inputs: [Int]) throws(CheckpointError) -> Int {
    let result = try addUnmasked(layer, inputs)
    // A configuration may ask for any size; what a sample takes is limited before anything runs.
    guard graph.shape(result).values <= Self.valueLimit else {
      throw wrong(
        layer, "a result of \(graph.shape(result))", "at most \(Self.valueLimit) numbers a sample")
    }
    guard let mask = inputs.first.flatMap({ masks[$0] }) else { return result }
    if inputs.count > 1 {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.fullName,
        .unsupported("a \(layer.kind) of steps that are masked"))
    }
    let inner = layer.inner("layer")
    let isSequence = (inner ?? layer).configuration["return_sequences"]?.bool ?? false
    switch layer.kind {
    case "Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "BatchNormalization",
      "LayerNormalization":
      masks[result] = mask
    case "TimeDistributed" where inner?.kind == "Dense" || inner?.kind == "Activation":
      masks[result] = mask
    case "LSTM", "GRU", "SimpleRNN", "Bidirectional":
      if isSequence { masks[result] = mask }
    // Others lose it, as in Keras.
    default: break
    }
    return result
  }

  private mutating func addUnmasked(
    _ layer: KerasLayer, _ inputs: [Int]
  ) throws(CheckpointError) -> Int {
    guard let input = inputs.first else { throw wrong(layer, "no input", "at least one") }
    if let format = layer.configuration["data_format"]?.string, format != "channels_last" {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.fullName, .unsupported("the data_format '\(format)'"))
    }
    let several = ["Add", "Average", "Multiply", "Concatenate"].contains(layer.kind)
    guard inputs.count == 1 || several else {
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
    case "LayerNormalization": return try layerNorm(layer, input)
    case "Masking": return try masking(layer, input)
    case "NotEqual", "Any": return try comparison(layer, input)
    case "Embedding": return try embedding(layer, input)
    case "LSTM", "GRU", "SimpleRNN", "Bidirectional": return try recurrent(layer, input)
    case "TimeDistributed": return try timeDistributed(layer, input)
    case "Add", "Average": return try added(layer, inputs)
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
      if name == "softmax" {
        node = RowSoftmax()
      } else if let function = try function(layer, name) {
        node = function
      } else {
        return input
      }
    }
    return graph.add(layer.name + "/activation", .plain(node), [input], shape)
  }

  /// A function of values by its name; nil for the one that changes nothing.
  func function(
    _ layer: KerasLayer, _ name: String
  ) throws(CheckpointError) -> ValueFunction? {
    if name == "linear" { return nil }
    guard let function = ValueFunction.named(name, isKeras3: isKeras3) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.fullName, .unsupported("the activation '\(name)'"))
    }
    return function
  }

  func size(
    _ layer: KerasLayer, _ key: String, limit: Int = 1 << 20
  ) throws(CheckpointError) -> Int {
    guard let value = layer.configuration[key]?.integer, (1...limit).contains(value) else {
      throw wrong(
        layer, "\(key) \(layer.configuration[key]?.compactText ?? "nothing")", "1 to \(limit)")
    }
    return value
  }

  mutating func dense(_ layer: KerasLayer, _ input: Int) throws(CheckpointError) -> Int {
    let shape = graph.shape(input), units = try size(layer, "units")
    let linear = try linear(
      layer, shape: [shape.channels, units], axes: [1, 0], biasCount: units)
    return graph.add(
      layer.name, .matrix(SingleLinear(linear)), [input],
      SampleShape(shape.dimensions.dropLast() + [units]))
  }

  mutating func norm(_ layer: KerasLayer, _ input: Int) throws(CheckpointError) -> Int {
    let shape = graph.shape(input), count = shape.channels
    try checkLastAxis(layer, shape)
    let (gamma, beta) = try scaleAndCenter(layer, count: count)
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

  /// A norm's factors and summands, each where the layer has them.
  mutating func scaleAndCenter(
    _ layer: KerasLayer, count: Int
  ) throws(CheckpointError) -> (
    gamma: (name: String, values: [Float])?, beta: (name: String, values: [Float])?
  ) {
    let gamma =
      layer.configuration["scale"]?.bool ?? true
      ? try vector("gamma", of: layer, count: count) : nil
    let beta =
      layer.configuration["center"]?.bool ?? true
      ? try vector("beta", of: layer, count: count) : nil
    return (gamma, beta)
  }

  /// A norm is over the channels.
  func checkLastAxis(_ layer: KerasLayer, _ shape: SampleShape) throws(CheckpointError) {
    let axis = layer.configuration["axis"], list = axis?.array
    let place = axis?.integer ?? list?.first?.integer ?? -1
    guard place == -1 || place == shape.dimensions.count, list?.count ?? 1 == 1 else {
      throw wrong(layer, "the axis \(axis?.compactText ?? "")", "the last one")
    }
  }

}

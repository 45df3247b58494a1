// Keras's layers over sequences, and layers that are used for several samples at once.

import Checkpoints
import JSONDocuments
import Tensors

extension KerasLayer {
  /// Whether all uses of the layer share weights.
  var hasWeights: Bool { KerasLayers.weightedKinds.contains(kind) }
}

extension KerasLayers {
  mutating func layerNorm(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(input), count = shape.channels
    try checkLastAxis(layer, shape)
    let (gamma, beta) = try scaleAndCenter(layer, count: count)
    let norm = LayerNorm(
      weightName: gamma?.name, biasName: beta?.name,
      weight: gamma?.values ?? [Float](repeating: 1, count: count),
      bias: beta?.values ?? [Float](repeating: 0, count: count),
      epsilon: Float(layer.configuration["epsilon"]?.number ?? 1e-3))
    return graph.add(layer.name, .plain(RowNorm(norm)), [input], shape)
  }

  /// Rows of a table `[input_dim, output_dim]`.
  mutating func embedding(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let rows = try size(layer, "input_dim", limit: 1 << 24), width = try size(layer, "output_dim")
    let shape = graph.shape(input)
    guard graph.limitIds(of: input, to: rows) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.fullName,
        .unsupported("an Embedding of computed values (of the model's inputs it is)"))
    }
    let name = try name("embeddings", of: layer)
    let table = Linear(
      name: layer.fullName,
      matrix: try checkpoint.weight(name, outputs: rows, inputs: width), bias: nil,
      weightName: name)
    graph.tables.append(table)
    let result = graph.add(
      layer.name, .plain(Lookup(table)), [input], SampleShape(shape.dimensions + [width]))
    if layer.configuration["mask_zero"]?.bool ?? false {
      masks[result] = graph.add(
        layer.name + "/mask", .plain(IdMask()), [input], SampleShape(shape.dimensions + [1]))
    }
    return result
  }

  /// Steps all of whose channels have one value count no more.
  mutating func masking(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(input)
    let mask = graph.add(
      layer.name + "/mask",
      .plain(RowMask(Float(layer.configuration["mask_value"]?.number ?? 0))), [input],
      SampleShape(shape.dimensions.dropLast() + [1]))
    let result = graph.add(layer.name, .plain(MaskedRows()), [input, mask], shape)
    masks[result] = mask
    return result
  }

  /// The operations by which Keras 3 writes down what a mask is.
  mutating func comparison(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(input)
    if layer.kind == "NotEqual" {
      guard let number else { throw wrong(layer, "no number to compare with", "one") }
      return graph.add(layer.name, .plain(Difference(Float(number))), [input], shape)
    }
    let axis = layer.configuration["axis"]?.integer
    guard axis == -1 || axis == shape.dimensions.count, shape.dimensions.count > 1,
      layer.configuration["keepdims"]?.bool != true
    else { throw wrong(layer, "Any over another axis", "the last one") }
    let rows = graph.add(
      layer.name, .plain(RowMask(0)), [input], SampleShape(shape.dimensions.dropLast() + [1]))
    let result = SampleShape(Array(shape.dimensions.dropLast()))
    return graph.add(
      layer.name + "/rows", .plain(Reshaping(from: graph.shape(rows), to: result)), [rows], result)
  }

  /// A mask of the shape of a layer's steps as a column beside its rows.
  mutating func column(
    _ mask: Int, of layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(mask), rows = graph.shape(input).dimensions.dropLast()
    guard shape.dimensions == Array(rows) else {
      throw wrong(layer, "a mask of \(shape)", "one of \(graph.shape(input)) without channels")
    }
    let column = SampleShape(shape.dimensions + [1])
    return graph.add(
      layer.name + "/mask", .plain(Reshaping(from: shape, to: column)), [mask], column)
  }

  // MARK: - Recurrent layers

  /// LSTM, GRU or SimpleRNN, or two of them in both directions.
  mutating func recurrent(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(input)
    guard shape.dimensions.count == 2 else {
      throw wrong(layer, "an input of \(shape)", "steps of time and channels")
    }
    var directions: [RecurrentDirection] = []
    var merge = RecurrentLayer.Merge.concatenation
    var isSequence = layer.configuration["return_sequences"]?.bool ?? false
    if layer.kind == "Bidirectional", let forward = layer.inner("layer") {
      let backward = layer.inner("backward_layer")
      let name = layer.configuration["merge_mode"]?.string ?? ""
      guard let own = RecurrentLayer.Merge(rawValue: name) else {
        throw wrong(layer, "the merge_mode '\(name)'", "concat, sum, mul or ave")
      }
      merge = own
      isSequence = forward.configuration["return_sequences"]?.bool ?? false
      let isBackward = forward.configuration["go_backwards"]?.bool ?? false
      for (part, name, goesBack) in [
        (forward, "forward", isBackward), (backward ?? forward, "backward", !isBackward),
      ] {
        directions.append(try direction(part, shape, name: name, isBackward: goesBack))
      }
      guard directions[0].units == directions[1].units || merge == .concatenation else {
        throw wrong(
          layer, "\(directions[0].units) and \(directions[1].units) units", "equal numbers")
      }
    } else {
      directions = [
        try direction(
          layer, shape, name: nil,
          isBackward: layer.configuration["go_backwards"]?.bool ?? false)
      ]
    }
    let mask = masks[input]
    let masked = mask.map { mask in
      graph.add(
        layer.name + "/masked", .plain(Concatenation()), [input, mask],
        SampleShape([shape.dimensions[0], shape.channels + 1]))
    }
    let channels =
      merge == .concatenation ? directions.reduce(0) { $0 + $1.units } : directions[0].units
    let node = RecurrentLayer(
      directions, steps: shape.dimensions[0], returnsSequences: isSequence, merge: merge,
      isMasked: mask != nil)
    return graph.add(
      layer.name, .matrix(node), [masked ?? input],
      SampleShape(isSequence ? [shape.dimensions[0], channels] : [channels]))
  }

  /// - Parameter name: `forward` or `backward` of a layer with both; nil of one that goes one way.
  private mutating func direction(
    _ layer: KerasLayer, _ shape: SampleShape, name: String?, isBackward: Bool
  ) throws(CheckpointError) -> RecurrentDirection {
    let units = try size(layer, "units"), configuration = layer.configuration
    let cell: RecurrentCell =
      switch layer.kind {
      case "LSTM": .lstm
      // Keras 2 before TensorFlow 2 knew no other GRU than the first, and wrote no word of it.
      case "GRU": .gru(resetsAfter: configuration["reset_after"]?.bool ?? false)
      default: .simple
      }
    let width = cell.gates * units
    let hasTwoBiases =
      cell == .gru(resetsAfter: true) && configuration["use_bias"]?.bool ?? true
    let kernel = try linear(
      layer, shape: [shape.channels, width], axes: [1, 0], biasCount: hasTwoBiases ? nil : width,
      direction: name)
    let recurrent = try linear(
      layer, kernel: "recurrent_kernel", shape: [units, width], axes: [1, 0], biasCount: nil,
      direction: name)
    var biases: (name: String, values: [Float])?
    if hasTwoBiases {
      let own = try self.name("bias", of: layer, direction: name)
      biases = (own, try checkpoint.floats(own, shape: [2, width]))
    }
    func function(
      _ key: String, _ standard: String
    ) throws(CheckpointError) -> ValueFunction? {
      try self.function(layer, configuration[key]?.string ?? standard)
    }
    return RecurrentDirection(
      cell, kernel: kernel, recurrent: recurrent, isBackward: isBackward,
      zeroesMasked: name == nil
        ? configuration["zero_output_for_mask"]?.bool ?? false
        : configuration["return_sequences"]?.bool ?? false,
      activation: try function("activation", "tanh"),
      gateActivation: cell == .simple ? nil : try function("recurrent_activation", "sigmoid"),
      biases: biases)
  }

  // MARK: - Several samples for one

  /// A layer for each step of time.
  mutating func timeDistributed(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let shape = graph.shape(input)
    guard shape.dimensions.count >= 2, let inner = layer.inner("layer") else {
      throw wrong(layer, "an input of \(shape)", "steps of time and more")
    }
    let own = SampleShape(Array(shape.dimensions.dropFirst()))
    return try onSamples(
      of: own, count: shape.dimensions[0], named: layer.name,
      .plain(Reshaping(from: own, to: own)), [input]
    ) { layers, node throws(CheckpointError) in try layers.add(inner, [node]) }
  }

  /// All uses of a layer at once.
  ///
  /// - Returns: The node of each use.
  mutating func addShared(
    _ layer: KerasLayer, _ inputs: [Int]
  ) throws(CheckpointError) -> [Int] {
    let shape = graph.shape(inputs[0]), count = inputs.count
    try checkSameShapes(layer, inputs)
    let whole = try onSamples(
      of: shape, count: count, named: layer.name + "/uses", .plain(Stacking(shape)), inputs
    ) { layers, node throws(CheckpointError) in try layers.add(layer, [node]) }
    return inputs.indices.map { place in
      let result = pick(place, of: count, whole, named: layer.name)
      if let mask = masks[whole] {
        masks[result] = pick(place, of: count, mask, named: layer.name + "/mask")
      }
      return result
    }
  }

  private mutating func pick(_ place: Int, of count: Int, _ node: Int, named name: String) -> Int {
    let shape = SampleShape(Array(graph.shape(node).dimensions.dropFirst()))
    return graph.add(
      "\(name)/\(place)", .plain(Picking(place, of: count, shape)), [node], shape)
  }

  /// A use of a layer that reads the result of another one.
  mutating func addAgain(
    _ layer: KerasLayer, _ range: Range<Int>, result: Int, reading inputs: [Int]
  ) throws(CheckpointError) -> Int {
    try checkSameShapes(layer, [graph.nodes[range.lowerBound].inputs[0], inputs[0]])
    guard masks[inputs[0]] == nil else {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.fullName,
        .unsupported("a layer that reads its own result, of steps that are masked"))
    }
    return graph.again(range, result: result, reading: inputs[0])
  }

  private func checkSameShapes(
    _ layer: KerasLayer, _ inputs: [Int]
  ) throws(CheckpointError) {
    let shapes = inputs.map { graph.shape($0) }
    guard shapes.allSatisfy({ $0 == shapes[0] }) else {
      throw CheckpointError(
        path: checkpoint.path, tensor: layer.fullName,
        .unsupported(
          "a layer that is used with inputs of "
            + shapes.map(\.description).joined(separator: " and ")))
    }
  }

  /// Adds nodes that work on several samples for each of the graph's.
  ///
  /// - Parameters:
  ///   - shape: Of one of them.
  ///   - first: Makes them of `inputs`.
  private mutating func onSamples(
    of shape: SampleShape, count: Int, named name: String, _ first: GraphNode.Layer,
    _ inputs: [Int],
    _ add: (inout KerasLayers, Int) throws(CheckpointError) -> Int
  ) throws(CheckpointError) -> Int {
    let start = graph.add(name, first, inputs, shape)
    let own = inputs.compactMap { masks[$0] }
    if case .plain(let layer) = first, layer is Stacking, !own.isEmpty {
      guard own.count == count else {
        throw CheckpointError(
          path: checkpoint.path, tensor: name, .unsupported("uses of which some are masked"))
      }
      let shape = graph.shape(own[0])
      masks[start] = graph.add(name + "/mask", .plain(Stacking(shape)), own, shape)
    }
    let result = try add(&self, start)
    graph.repeatShapes(from: start, count: count)
    return result
  }
}

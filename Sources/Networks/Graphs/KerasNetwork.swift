// Keras models as graphs: the `model_config` of an HDF5 file or of an archive, Sequential or Functional, over the file's
// own weights.
//
// Given    layers of known kinds, channels last, inputs of known sizes
// Checked  KerasNetworkTests: outputs of Keras on random models

import Checkpoints
import JSONDocuments
import Tensors

/// The family of Keras models.
enum KerasNetwork: ModelFamily {
  /// None: the configuration says it otherwise.
  static let modelTypes = ["keras"]

  /// A model whose layers are all known.
  static func recognizes(_ checkpoint: any Checkpoint) -> Bool {
    checkpoint.configuration["model_config"] != nil && obstacle(checkpoint) == nil
  }

  /// The kinds of layers that are not known, and settings that none of them can have, in one line.
  static func obstacle(_ checkpoint: any Checkpoint) -> String? {
    guard let model = checkpoint.configuration["model_config"] else { return nil }
    var unknown: [String] = [], settings: [String] = []
    func visit(_ model: JSONValue, depth: Int) {
      for layer in KerasDescription.items(of: model) where depth < 16 {
        let kind = layer["class_name"]?.string ?? "nothing"
        if KerasDescription.models.contains(kind) {
          visit(layer, depth: depth + 1)
        } else if let own = KerasLayers.unknownKind(layer) {
          if !unknown.contains(own) { unknown.append(own) }
        } else if let setting = KerasLayers.unknownSetting(layer) {
          let name = layer["config"]?["name"]?.string ?? kind
          settings.append("\(kind) '\(name)', \(setting)")
        }
      }
    }
    visit(model, depth: 0)
    var parts: [String] = []
    if !unknown.isEmpty { parts.append("layers of the kinds " + unknown.joined(separator: ", ")) }
    parts += settings
    guard parts.isEmpty else { return "a Keras model with " + parts.joined(separator: "; ") }
    do throws(CheckpointError) {
      _ = try KerasDescription(checkpoint)
    } catch {
      if case .unsupported(let what) = error.problem { return what }
    }
    return nil
  }

  /// Inputs, layers and outputs.
  static func summary(_ checkpoint: any Checkpoint) -> String? {
    guard let description = try? KerasDescription(checkpoint) else { return nil }
    let inputs = description.inputs.map { "'\($0.name)' (\($0.shape))" }
    var kinds: [(name: String, count: Int)] = []
    for layer in description.layers {
      let inner = layer.inner("layer").map { " of \($0.kind)" } ?? ""
      if let place = kinds.firstIndex(where: { $0.name == layer.kind + inner }) {
        kinds[place].count += 1
      } else {
        kinds.append((layer.kind + inner, 1))
      }
    }
    return "reads " + inputs.joined(separator: ", ") + "; "
      + kinds.map { "\($0.count) \($0.name)" }.joined(separator: ", ") + "; gives "
      + description.outputs.map { "'\($0.name)'" }.joined(separator: ", ")
  }

  /// A configuration in which layers, by the names of their matrices, have other numbers of outputs; nil for layers inside
  /// of others, whose sizes stand elsewhere.
  static func resized(_ configuration: JSONValue, _ outputs: [String: Int]) -> JSONValue? {
    guard var whole = configuration.object, var model = whole["model_config"]?.object else {
      return nil
    }
    let isList = model["config"]?.array != nil
    var items = KerasDescription.items(of: .object(model))
    for (name, count) in outputs {
      // A depthwise kernel has as many as its input.
      if name.hasSuffix("/depthwise_kernel") { continue }
      let layer =
        name.hasSuffix("/pointwise_kernel")
        ? String(name.dropLast("/pointwise_kernel".count)) : name
      guard
        let place = items.firstIndex(where: { $0["config"]?["name"]?.string == layer }),
        var item = items[place].object, var own = item["config"]?.object
      else { return nil }
      if item["class_name"]?.string == "DepthwiseConv2D" { continue }
      guard let key = ["units", "filters"].first(where: { own[$0] != nil }) else { return nil }
      own[key] = .integer(count)
      item["config"] = .object(own)
      items[place] = .object(item)
    }
    if isList {
      model["config"] = .array(items)
    } else if var inner = model["config"]?.object {
      inner["layers"] = .array(items)
      model["config"] = .object(inner)
    }
    whole["model_config"] = .object(model)
    return .object(whole)
  }

  /// Builds the network of a checkpoint.
  static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    let description = try KerasDescription(checkpoint)
    var layers = KerasLayers(checkpoint, inputs: description.inputs)
    var nodes: [KerasValue: Int] = [:]
    for index in description.inputs.indices { nodes[.input(index)] = index }
    /// What the first use of a layer became.
    var built: [Int: (range: Range<Int>, result: Int)] = [:]
    for unit in KerasUnits(description).inOrder {
      let layer = description.layers[unit.layer]
      let inputs = unit.calls.map { call in
        description.calls[call].inputs.compactMap { nodes[$0] }
      }
      for (call, own) in zip(unit.calls, inputs) {
        if let mask = description.calls[call].mask.flatMap({ nodes[$0] }) {
          layers.masks[own[0]] = try layers.column(mask, of: layer, own[0])
        }
      }
      layers.number = description.calls[unit.calls[0]].number
      let start = layers.graph.nodes.count
      if unit.calls.count > 1 {
        for (call, node) in zip(unit.calls, try layers.addShared(layer, inputs.map { $0[0] })) {
          nodes[.call(call)] = node
        }
      } else if let first = built[unit.layer], layer.hasWeights {
        nodes[.call(unit.calls[0])] = try layers.addAgain(
          layer, first.range, result: first.result, reading: inputs[0])
      } else {
        let result = try layers.add(layer, inputs[0])
        nodes[.call(unit.calls[0])] = result
        built[unit.layer] = (start..<layers.graph.nodes.count, result)
      }
    }
    return layers.network(
      outputs: description.outputs.compactMap { output in
        nodes[output.value].map { (output.name, $0) }
      }, knownLayers: description.layerNames)
  }
}

/// The order of the work: a layer that is used several times runs once over all that it reads, where no use reads
/// another's result.
private struct KerasUnits {
  struct Unit {
    let layer: Int
    let calls: [Int]
  }

  private(set) var inOrder: [Unit] = []

  init(_ description: KerasDescription) {
    let calls = description.calls
    var uses: [Int: [Int]] = [:]
    for (index, call) in calls.enumerated() { uses[call.layer, default: []].append(index) }
    var shared = Set(uses.filter { $1.count > 1 && description.layers[$0].hasWeights }.keys)
    var done = [Bool](repeating: false, count: calls.count)
    func isReady(_ call: Int) -> Bool {
      (calls[call].inputs + [calls[call].mask].compactMap { $0 }).allSatisfy {
        if case .call(let other) = $0 { done[other] } else { true }
      }
    }
    var left = Array(calls.indices)
    while !left.isEmpty {
      var progressed = false
      for call in left where !done[call] {
        let layer = calls[call].layer
        let together = shared.contains(layer) ? uses[layer] ?? [] : [call]
        guard together.allSatisfy(isReady) else { continue }
        inOrder.append(Unit(layer: layer, calls: together))
        for call in together { done[call] = true }
        progressed = true
      }
      left.removeAll { done[$0] }
      // Uses that wait for each other come one by one.
      if !progressed, let stuck = left.first(where: { shared.contains(calls[$0].layer) }) {
        shared.remove(calls[stuck].layer)
      } else if !progressed {
        preconditionFailure("calls in no order")
      }
    }
  }
}

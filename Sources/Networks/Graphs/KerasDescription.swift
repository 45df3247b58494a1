// The layers of a Keras model and their calls, out of its `model_config`.
//
// Source   keras/src/models/functional.py and sequential.py of Keras 3.15; the older forms that Keras 1 and 2 wrote of
//          inbound_nodes and input shapes
// Result   models inside models are laid open: what is left are layers, each with its calls

import Checkpoints
import JSONDocuments
import Tensors

/// One layer.
struct KerasLayer {
  let name, kind: String
  let configuration: JSONValue
  /// The names of the models that hold the layer, the outermost first, and its own: where its weights are.
  let path: [String]

  /// As messages name it.
  var fullName: String { path.joined(separator: "/") }

  /// A layer that wraps another one: it has the wrapper's path.
  func inner(_ key: String) -> KerasLayer? {
    guard let item = configuration[key], let kind = item["class_name"]?.string else { return nil }
    return KerasLayer(
      name: name, kind: kind, configuration: item["config"] ?? .null, path: path)
  }
}

/// What a layer reads.
enum KerasValue: Hashable {
  case input(Int)
  case call(Int)
}

/// The use of a layer.
struct KerasCall {
  /// The layer's place in the description.
  let layer: Int
  let inputs: [KerasValue]
  /// The steps that count, where the model says it itself.
  var mask: KerasValue?
  /// The first number among the arguments.
  var number: Double?
}

/// A Keras model.
struct KerasDescription {
  private(set) var inputs: [(name: String, shape: SampleShape)] = []
  private(set) var layers: [KerasLayer] = []
  /// Each stands behind those that it reads.
  private(set) var calls: [KerasCall] = []
  private(set) var outputs: [(name: String, value: KerasValue)] = []
  /// Names of the outermost layers.
  private(set) var layerNames: [String] = []

  private let path: String
  private var places: [String: Int] = [:]

  static let models: Set<String> = ["Functional", "Model", "Sequential"]
  private static let callLimit = 10_000, depthLimit = 16

  init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    path = checkpoint.path
    guard let model = checkpoint.configuration["model_config"] else {
      throw wrong("model_config", "none", "a model")
    }
    layerNames = Self.items(of: model).compactMap(Self.name(of:))
    guard Set(layerNames).count == layerNames.count else {
      throw wrong("model_config", "two layers of one name", "different names")
    }
    let found =
      model["class_name"]?.string == "Sequential"
      ? try chain(model, path: [], argument: nil) : try graph(model, path: [], arguments: nil)
    var names: Set<String> = []
    for (name, value) in found {
      var own = name, number = 1
      while !names.insert(own).inserted {
        own = "\(name)_\(number)"
        number += 1
      }
      outputs.append((own, value))
    }
    guard !outputs.isEmpty else { throw wrong("output_layers", "none", "at least one") }
  }

  /// The layers that a model says it has.
  static func items(of model: JSONValue) -> [JSONValue] {
    (model["config"]?["layers"] ?? model["config"])?.array ?? []
  }

  private static func name(of item: JSONValue) -> String? {
    item["name"]?.string ?? item["config"]?["name"]?.string
  }

  private func wrong(_ layer: String, _ found: String, _ expected: String) -> CheckpointError {
    CheckpointError(path: path, tensor: layer, .badValue(found: found, expected: expected))
  }

  private func checked(
    _ model: JSONValue, path: [String]
  ) throws(CheckpointError) -> [(name: String, kind: String, item: JSONValue)] {
    let items = Self.items(of: model)
    guard !items.isEmpty, items.count <= Self.callLimit, path.count <= Self.depthLimit else {
      throw wrong(
        path.joined(separator: "/"), "a model of \(items.count) layers, \(path.count) deep",
        "1 to \(Self.callLimit), at most \(Self.depthLimit) deep")
    }
    var checked: [(name: String, kind: String, item: JSONValue)] = []
    for item in items {
      guard let kind = item["class_name"]?.string, let name = Self.name(of: item) else {
        throw wrong("model_config", "a layer without class or name", "both")
      }
      checked.append((name, kind, item))
    }
    return checked
  }

  // MARK: - Calls

  /// Uses a layer, or all that a model holds.
  private mutating func call(
    _ name: String, _ kind: String, _ item: JSONValue, path: [String], _ inputs: [KerasValue],
    mask: KerasValue? = nil, number: Double? = nil
  ) throws(CheckpointError) -> [KerasValue] {
    let path = path + [name], key = path.joined(separator: "/")
    if Self.models.contains(kind) {
      guard kind == "Sequential" else {
        return try graph(item, path: path, arguments: inputs).map(\.value)
      }
      guard inputs.count == 1 else { throw wrong(key, "\(inputs.count) inputs", "one") }
      return try chain(item, path: path, argument: inputs[0]).map(\.value)
    }
    guard calls.count < Self.callLimit else {
      throw wrong(key, "more than \(Self.callLimit) uses of layers", "fewer")
    }
    guard !inputs.isEmpty else { throw wrong(key, "no input", "at least one") }
    let place = places[key] ?? layers.count
    if place == layers.count {
      places[key] = place
      layers.append(
        KerasLayer(name: name, kind: kind, configuration: item["config"] ?? .null, path: path))
    }
    calls.append(KerasCall(layer: place, inputs: inputs, mask: mask, number: number))
    return [.call(calls.count - 1)]
  }

  private mutating func addInput(
    _ name: String, shape: JSONValue?
  ) throws(CheckpointError) -> KerasValue {
    if let shape, shape.array?.dropFirst().contains(where: \.isNull) == true {
      throw CheckpointError(
        path: path, tensor: name,
        .unsupported(
          "a Keras model whose input '\(name)' leaves a size open, \(shape.compactText): `condense convert MODEL "
            + "FOLDER --steps N` gives it one"))
    }
    let sizes = shape?.array?.dropFirst().map { $0.integer ?? 0 } ?? []
    guard (1...4).contains(sizes.count), sizes.allSatisfy({ (1...1 << 20).contains($0) }),
      elementCount(of: Array(sizes)).map({ $0 <= 1 << 26 }) == true
    else {
      throw wrong(
        name, "the input shape \(shape?.compactText ?? "nothing")",
        "one to four known sizes behind the batch")
    }
    inputs.append((name, SampleShape(Array(sizes))))
    return .input(inputs.count - 1)
  }

  /// A Sequential model, which may begin with a layer that says the shape of its input itself.
  private mutating func chain(
    _ model: JSONValue, path: [String], argument: KerasValue?
  ) throws(CheckpointError) -> [(name: String, value: KerasValue)] {
    var layers = try checked(model, path: path)
    let start = layers[0].kind == "InputLayer" ? layers.removeFirst() : nil
    var current: KerasValue
    if let argument {
      current = argument
    } else {
      let shape =
        start.map { Self.shape(of: $0.item) } ?? Self.inputShape(of: layers[0].item)
        ?? model["config"]?["build_input_shape"]
      current = try addInput(start?.name ?? "input", shape: shape)
    }
    for (name, kind, item) in layers {
      let results = try call(name, kind, item, path: path, [current])
      guard results.count == 1 else { throw wrong(name, "\(results.count) results", "one") }
      current = results[0]
    }
    return [(layers.last?.name ?? "output", current)]
  }

  private static func shape(of layer: JSONValue) -> JSONValue? {
    let configuration = layer["config"]
    return configuration?["batch_shape"] ?? configuration?["batch_input_shape"]
  }

  /// What a layer or a model says of its input.
  private static func inputShape(of layer: JSONValue, depth: Int = 0) -> JSONValue? {
    if let shape = shape(of: layer) { return shape }
    guard models.contains(layer["class_name"]?.string ?? ""), depth < depthLimit,
      let first = items(of: layer).first
    else { return nil }
    return inputShape(of: first, depth: depth + 1)
  }

  // MARK: - Graphs

  /// A result of a use of a layer, as a graph refers to it.
  private struct Reference: Hashable {
    let name: String
    let use: Int
    var result = 0

    var node: Reference { Reference(name: name, use: use) }
  }

  /// A Functional model.
  private mutating func graph(
    _ model: JSONValue, path: [String], arguments: [KerasValue]?
  ) throws(CheckpointError) -> [(name: String, value: KerasValue)] {
    let layers = try checked(model, path: path)
    let byName = Dictionary(layers.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    guard byName.count == layers.count else {
      throw wrong(path.joined(separator: "/"), "two layers of one name", "different names")
    }
    let starts = Self.references(in: model["config"]?["input_layers"] ?? .null)
    let ends = Self.references(in: model["config"]?["output_layers"] ?? .null)
    if let arguments, arguments.count != starts.count {
      throw wrong(
        path.joined(separator: "/"), "\(arguments.count) inputs", "\(starts.count) of them")
    }
    var results: [Reference: [KerasValue]] = [:]
    for (index, start) in starts.enumerated() {
      guard let layer = byName[start.name], layer.kind == "InputLayer" else {
        throw wrong(start.name, "an input that is no InputLayer", "one of the model")
      }
      if let arguments {
        results[start.node] = [arguments[index]]
      } else {
        results[start.node] = [try addInput(start.name, shape: Self.shape(of: layer.item))]
      }
    }
    // Depth first, without recursion: a node is done when all that it reads is.
    var entered: Set<Reference> = []
    var open = ends.reversed().map { (node: $0.node, isDone: false) }
    while let (node, isDone) = open.popLast() {
      guard results[node] == nil else { continue }
      guard let layer = byName[node.name] else {
        throw wrong(node.name, "no such layer", "one of the model")
      }
      guard let uses = layer.item["inbound_nodes"]?.array, uses.indices.contains(node.use) else {
        throw wrong(
          node.name, "use \(node.use) of the layer, which reads nothing",
          "a layer that reads others, or one of input_layers")
      }
      // Keras 3 says in each use which steps count; the mask is no input like others.
      let use = uses[node.use]
      let masks = Self.references(in: use["kwargs"]?["mask"] ?? .null)
      let read = Self.references(in: use).filter { !masks.contains($0) } + masks
      if isDone {
        var inputs: [KerasValue] = []
        for reference in read {
          guard let values = results[reference.node], values.indices.contains(reference.result)
          else {
            throw CheckpointError(
              path: self.path, tensor: node.name,
              .unsupported("result \(reference.result) of '\(reference.name)'"))
          }
          inputs.append(values[reference.result])
        }
        let mask = masks.count == 1 ? inputs.popLast() : nil
        guard masks.count < 2 else {
          throw CheckpointError(
            path: self.path, tensor: node.name, .unsupported("a layer with several masks"))
        }
        results[node] = try call(
          node.name, layer.kind, layer.item, path: path, inputs, mask: mask,
          number: use["args"]?.array?.lazy.compactMap(\.number).first)
      } else {
        guard entered.insert(node).inserted else {
          throw wrong(node.name, "a cycle of layers through it", "a graph without cycles")
        }
        open.append((node, true))
        open += read.reversed().map { ($0.node, false) }
      }
    }
    var found: [(name: String, value: KerasValue)] = []
    for end in ends {
      guard let values = results[end.node], values.indices.contains(end.result) else {
        throw CheckpointError(
          path: self.path, tensor: end.name, .unsupported("result \(end.result) of '\(end.name)'"))
      }
      found.append((end.name, values[end.result]))
    }
    return found
  }

  /// Lists that begin with a name and two numbers, in any lists and objects.
  private static func references(in value: JSONValue) -> [Reference] {
    var found: [Reference] = []
    func search(_ value: JSONValue, depth: Int) {
      guard depth < depthLimit else { return }
      if let list = value.array {
        if list.count >= 3, let name = list[0].string, let use = list[1].integer,
          let result = list[2].integer
        {
          found.append(Reference(name: name, use: use, result: result))
          return
        }
        for element in list { search(element, depth: depth + 1) }
      } else if let members = value.object?.members {
        for member in members { search(member.value, depth: depth + 1) }
      }
    }
    search(value, depth: 0)
    return found
  }
}

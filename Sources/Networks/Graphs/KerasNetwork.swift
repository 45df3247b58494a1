// Keras models as graphs: the `model_config` of an HDF5 file, Sequential or Functional, over the file's own weights.
//
// Source   keras/src/models/functional.py and sequential.py, keras/src/layers of Keras 3.15; the older forms that
//          Keras 1 and 2 wrote of inbound_nodes and input shapes
// Given    layers with one call each, channels last, one input of known size, one output
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

  /// The kinds of layers that are not known, in one line.
  static func obstacle(_ checkpoint: any Checkpoint) -> String? {
    guard let model = checkpoint.configuration["model_config"] else { return nil }
    let layers = (model["config"]?["layers"] ?? model["config"])?.array ?? []
    var unknown: [String] = []
    for layer in layers {
      let kind = layer["class_name"]?.string ?? "nothing"
      if !KerasLayers.kinds.contains(kind), !unknown.contains(kind) { unknown.append(kind) }
    }
    guard !unknown.isEmpty else { return nil }
    return "a Keras model with layers of the kinds " + unknown.joined(separator: ", ")
  }

  /// Builds the network of a checkpoint.
  static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    let description = try KerasDescription(checkpoint)
    var layers = KerasLayers(checkpoint, input: description.input)
    var results = [description.inputName: 0]
    var last = 0
    for layer in description.layers {
      let inputs = layer.inputs.compactMap { results[$0] }
      last = try layers.add(layer, inputs)
      results[layer.name] = last
    }
    return layers.network(output: last, knownLayers: description.layerNames)
  }
}

/// One layer of a description.
struct KerasLayer {
  let name, kind: String
  let configuration: JSONValue
  /// Names of the layers that it reads.
  var inputs: [String]
}

/// The layers of a `model_config` in the order of their work.
struct KerasDescription {
  let inputName: String
  let input: SampleShape
  /// Those that lead to the output, the output last, without the input.
  let layers: [KerasLayer]
  /// Of all layers.
  let layerNames: [String]

  private static let layerLimit = 10_000

  init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    func wrong(_ layer: String, _ found: String, _ expected: String) -> CheckpointError {
      CheckpointError(
        path: checkpoint.path, tensor: layer, .badValue(found: found, expected: expected))
    }
    guard let model = checkpoint.configuration["model_config"],
      let list = (model["config"]?["layers"] ?? model["config"])?.array, !list.isEmpty,
      list.count <= Self.layerLimit
    else { throw wrong("model_config", "no layers", "1 to \(Self.layerLimit)") }
    let isSequential = model["class_name"]?.string == "Sequential"
    var all: [KerasLayer] = [], last: String?
    for item in list {
      let configuration = item["config"] ?? .null
      guard let kind = item["class_name"]?.string,
        let name = item["name"]?.string ?? configuration["name"]?.string
      else { throw wrong("model_config", "a layer without class or name", "both") }
      var inputs: [String] = []
      if isSequential {
        inputs = last.map { [$0] } ?? []
      } else if let nodes = item["inbound_nodes"]?.array {
        guard nodes.count <= 1 else {
          throw CheckpointError(
            path: checkpoint.path, tensor: name,
            .unsupported("a layer that is used \(nodes.count) times"))
        }
        for node in nodes { Self.findInputs(node, &inputs) }
      }
      last = name
      all.append(KerasLayer(name: name, kind: kind, configuration: configuration, inputs: inputs))
    }
    layerNames = all.map(\.name)
    guard Set(layerNames).count == all.count else {
      throw wrong("model_config", "two layers of one name", "different names")
    }
    // A Sequential model may begin with a layer that says the shape of its input itself.
    if isSequential, all[0].kind != "InputLayer" {
      let shape =
        all[0].configuration["batch_input_shape"] ?? model["config"]?["build_input_shape"] ?? .null
      all[0].inputs = ["input"]
      all.insert(
        KerasLayer(
          name: "input", kind: "InputLayer",
          configuration: .object(JSONObject([.init(key: "batch_shape", value: shape)])), inputs: []),
        at: 0)
    }
    var output = all[all.count - 1].name
    if !isSequential {
      var outputs: [String] = []
      Self.findInputs(model["config"]?["output_layers"] ?? .null, &outputs)
      guard outputs.count == 1 else {
        throw CheckpointError(
          path: checkpoint.path,
          .unsupported("a Keras model with \(outputs.count) outputs (one is)"))
      }
      output = outputs[0]
    }
    let ordered = try Self.order(all, leadingTo: output, wrong)
    let starts = ordered.filter { $0.inputs.isEmpty }
    guard starts.count == 1, starts[0].kind == "InputLayer" else {
      throw CheckpointError(
        path: checkpoint.path,
        .unsupported("a Keras model with \(starts.count) inputs (one InputLayer is)"))
    }
    inputName = starts[0].name
    let shape =
      starts[0].configuration["batch_shape"] ?? starts[0].configuration["batch_input_shape"]
    let sizes = shape?.array?.dropFirst().map { $0.integer ?? 0 } ?? []
    guard (1...3).contains(sizes.count), sizes.allSatisfy({ (1...1 << 20).contains($0) }),
      elementCount(of: Array(sizes)).map({ $0 <= 1 << 26 }) == true
    else {
      throw wrong(
        inputName, "the input shape \(shape?.compactText ?? "nothing")",
        "one to three known sizes behind the batch")
    }
    input = SampleShape(Array(sizes))
    layers = ordered.filter { !$0.inputs.isEmpty }
  }

  /// The names of layers in a value: lists that begin with a name and two numbers.
  private static func findInputs(_ value: JSONValue, _ names: inout [String], depth: Int = 0) {
    guard depth < 16 else { return }
    if let list = value.array {
      if list.count >= 3, let name = list[0].string, list[1].integer != nil, list[2].integer != nil
      {
        names.append(name)
        return
      }
      for element in list { findInputs(element, &names, depth: depth + 1) }
    } else if let members = value.object?.members {
      for member in members { findInputs(member.value, &names, depth: depth + 1) }
    }
  }

  /// The layers that lead to one of them, each behind its inputs.
  private static func order(
    _ all: [KerasLayer], leadingTo output: String,
    _ wrong: (String, String, String) -> CheckpointError
  ) throws(CheckpointError) -> [KerasLayer] {
    let byName = Dictionary(all.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
    var needed: Set<String> = [], open = [output]
    while let name = open.popLast() {
      guard let layer = byName[name] else { throw wrong(name, "no such layer", "one of the model") }
      if needed.insert(name).inserted { open += layer.inputs }
    }
    var left = all.filter { needed.contains($0.name) }, done: Set<String> = []
    var ordered: [KerasLayer] = []
    while !left.isEmpty {
      let ready = left.filter { $0.inputs.allSatisfy(done.contains) }
      guard !ready.isEmpty else {
        throw wrong(left[0].name, "a cycle of layers through it", "a graph without cycles")
      }
      ordered += ready
      done.formUnion(ready.map(\.name))
      left.removeAll { done.contains($0.name) }
    }
    return ordered
  }
}

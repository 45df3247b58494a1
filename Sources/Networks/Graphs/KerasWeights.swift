// Where the weights of a Keras layer stand in a file.
//
// Layout   HDF5 of Keras 1 to 3: the group of the outermost layer, any models and wrappers between, and the weight's own
//          name: `model_1/dense/kernel:0`, `bidirectional/forward_lstm/lstm_cell/kernel`
//          Archives of Keras 3: by class and number, `layers/bidirectional_1/forward_layer/cell/vars/0`
// Source   keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py of Keras 3.15
// Checked  KerasNetworkTests: files of Keras 3 in both layouts, names of Keras 2

import Checkpoints
import JSONDocuments

/// Finds tensors by layer and weight.
struct KerasWeights {
  /// Names of tensors and their parts, by the first part.
  private var tensors: [Substring: [(name: String, parts: [Substring])]] = [:]
  /// By a layer's path: the folder of its variables in an archive.
  private var folders: [String: String] = [:]

  init(_ checkpoint: any Checkpoint) {
    for tensor in checkpoint.logicalTensors {
      let parts = tensor.name.split(separator: "/")
      if let first = parts.first { tensors[first, default: []].append((tensor.name, parts)) }
    }
    if let model = checkpoint.configuration["model_config"] {
      addFolders(of: model, path: [], folder: "", depth: 0)
    }
  }

  /// The full name of a layer's weight, such as `dense/dense/kernel:0` for `kernel`.
  ///
  /// - Parameter direction: Of a layer with two: `forward` or `backward`.
  func find(_ part: String, of layer: KerasLayer, direction: String? = nil) -> String? {
    let path = layer.path.map { $0.split(separator: "/") }
    guard let outermost = path.first, let first = outermost.first else { return nil }
    // Files of Keras 2 leave out the models between the outermost and the layer.
    let own = [Array(path.dropFirst()), Array(path.dropFirst().suffix(1))].lazy.compactMap {
      inner in
      tensors[first]?.first { _, parts in
        guard let last = parts.last, last == part || last == part + ":0",
          parts.starts(with: outermost)
        else { return false }
        var rest = parts.dropFirst(outermost.count).dropLast()
        for name in inner {
          guard let place = rest.firstRange(of: name) else { return false }
          rest = rest[place.upperBound...]
        }
        return direction.map { own in rest.contains { $0.hasPrefix(own + "_") } } ?? true
      }
    }.first
    return own?.name ?? archived(part, of: layer, direction)
  }

  /// The tensors of the outermost layers of these names, and of an archive.
  func known(layers: [String]) -> [String] {
    let firsts = Set(layers.compactMap { $0.split(separator: "/").first } + ["layers"])
    return firsts.flatMap { (tensors[$0] ?? []).map(\.name) }
  }

  // MARK: - Archives

  private mutating func addFolders(
    of model: JSONValue, path: [String], folder: String, depth: Int
  ) {
    guard depth < 16 else { return }
    var numbers: [String: Int] = [:]
    for item in KerasDescription.items(of: model) {
      guard let kind = item["class_name"]?.string,
        let name = item["name"]?.string ?? item["config"]?["name"]?.string
      else { continue }
      let stem = Self.snakeCase(kind), number = numbers[stem, default: 0]
      numbers[stem] = number + 1
      let own = folder + "layers/" + stem + (number > 0 ? "_\(number)" : "")
      folders[(path + [name]).joined(separator: "/")] = own
      if KerasDescription.models.contains(kind) {
        addFolders(of: item, path: path + [name], folder: own + "/", depth: depth + 1)
      }
    }
  }

  /// `SeparableConv2D` as `separable_conv2d`: an underscore before a capital that begins a word.
  ///
  /// Source: `to_snake_case` in keras/src/utils/naming.py.
  private static func snakeCase(_ name: String) -> String {
    let letters = Array(name)
    var result = ""
    for (index, letter) in letters.enumerated()
    where letter.isLetter || letter.isNumber || letter == "_" {
      if index > 0, letter.isUppercase {
        let before = letters[index - 1]
        let beginsWord = index + 1 < letters.count && letters[index + 1].isLowercase
        if before.isLowercase || before.isNumber && beginsWord || before.isUppercase && beginsWord {
          result += "_"
        }
      }
      result += letter.lowercased()
    }
    return result
  }

  private func archived(_ part: String, of layer: KerasLayer, _ direction: String?) -> String? {
    guard let folder = folders[layer.fullName] else { return nil }
    let isRecurrent = KerasLayers.recurrentKinds.contains(layer.kind)
    guard let index = Self.variables(of: layer).firstIndex(of: part) else { return nil }
    // A wrapper's own layer stands in a folder of the wrapper.
    let places = [
      direction.map { "\($0)_layer/" } ?? "", direction == nil ? "layer/" : "",
    ].map { "\(folder)/\($0)\(isRecurrent ? "cell/" : "")vars/\(index)" }
    return places.first { place in
      tensors["layers"]?.contains { $0.name == place } == true
    }
  }

  /// The variables of a layer in the order in which it makes them.
  private static func variables(of layer: KerasLayer) -> [String] {
    func has(_ key: String) -> Bool { layer.configuration[key]?.bool ?? true }
    let bias = has("use_bias") ? ["bias"] : []
    let affine = (has("scale") ? ["gamma"] : []) + (has("center") ? ["beta"] : [])
    switch layer.kind {
    case "SeparableConv2D": return ["depthwise_kernel", "pointwise_kernel"] + bias
    case "BatchNormalization": return affine + ["moving_mean", "moving_variance"]
    case "LayerNormalization": return affine
    case "Embedding": return ["embeddings"]
    case let kind where KerasLayers.recurrentKinds.contains(kind):
      return ["kernel", "recurrent_kernel"] + bias
    default: return ["kernel"] + bias
    }
  }
}

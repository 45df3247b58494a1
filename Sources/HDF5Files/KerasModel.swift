// How Keras lays a model out in HDF5.
//
// Layout   Keras 1 and 2: `model_weights/LAYER/…` (whole models) or `LAYER/…` (weights only), attributes
//          `layer_names` of that group and `weight_names` of each layer in the model's order, `model_config`
//          (JSON) of the root; `optimizer_weights` is no part of the model
//          Keras 3: `layers/LAYER/vars/0` …, `optimizer/vars/0` …; the configuration lies beside the file
// Source   keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py of Keras 3.12

import Checkpoints
import JSONDocuments
import Tensors

enum KerasModel {
  /// The model in a tree of datasets; a tree that is not Keras's keeps its paths as they are.
  ///
  /// - Parameters:
  ///   - configuration: `config.json` of an archive.
  ///   - version: The version of Keras that an archive names.
  static func file(
    of tree: HDF5Tree, byteCount: Int, configuration: JSONValue? = nil, version: String? = nil
  ) throws(CheckpointError) -> TensorFile {
    var tensors = tree.tensors
    var skipped = tree.skipped
    let isArchive = configuration != nil || version != nil
    let root = tree.texts("layer_names", of: "model_weights") != nil ? "model_weights" : ""
    let layers = tree.texts("layer_names", of: root)
    let optimizer = layers != nil ? "optimizer_weights/" : "optimizer/"
    if layers != nil || isArchive || tree.path.hasSuffix(".weights.h5") {
      skipped += tensors.filter { $0.name.hasPrefix(optimizer) }.map(\.name)
      tensors.removeAll { $0.name.hasPrefix(optimizer) }
    }
    var names: KerasWeightNames?
    if let layers {
      let own = KerasWeightNames(
        layers.map {
          .init(
            name: $0,
            weights: tree.texts("weight_names", of: root.isEmpty ? $0 : root + "/" + $0) ?? [])
        })
      tensors = try inModelOrder(tensors, own, root: root, of: tree)
      names = own
    }
    guard !tensors.isEmpty else {
      throw CheckpointError(path: tree.path, .missing(key: "a dataset", expected: "numbers"))
    }
    var model = configuration
    if let text = tree.text("model_config") {
      do throws(JSONError) {
        model = try JSONValue(parsing: text)
      } catch {
        throw CheckpointError(path: tree.path, tensor: "model_config", .badHeader(error))
      }
    }
    var members: [JSONObject.Member] = []
    if let model {
      members.append(.init(key: "architecture", value: .string(architecture(model))))
    } else if let layers {
      members.append(
        .init(key: "architecture", value: .string("Keras weights of \(layers.count) layers")))
    }
    for (key, text) in [
      ("keras_version", version ?? tree.text("keras_version", of: "")),
      ("backend", tree.text("backend")),
    ] {
      if let text { members.append(.init(key: key, value: .string(text))) }
    }
    if let model { members.append(.init(key: "model_config", value: model)) }
    if let text = tree.text("training_config"), let training = try? JSONValue(parsing: text) {
      members.append(.init(key: "training_config", value: training))
    }
    if let names { members.append(.init(key: KerasWeightNames.key, value: names.json)) }
    return try TensorFile(
      path: tree.path, formatName: name(model != nil, layers != nil, isArchive),
      configuration: .object(JSONObject(members)), tensors: tensors, skipped: skipped,
      byteCount: byteCount)
  }

  private static func name(_ isModel: Bool, _ isWeights: Bool, _ isArchive: Bool) -> String {
    if isArchive { return KerasFormat.formatName }
    return isModel ? "Keras model" : isWeights ? "Keras weights" : HDF5Format.formatName
  }

  /// `Keras Functional mini_xception`: the class and the name that the configuration gives.
  private static func architecture(_ model: JSONValue) -> String {
    let parts = ["Keras", model["class_name"]?.string, model["config"]?["name"]?.string]
    return parts.compactMap { $0 }.joined(separator: " ")
  }

  /// The weights of the layers in the order of the model, without the group that holds them all.
  private static func inModelOrder(
    _ tensors: [FoundTensor], _ names: KerasWeightNames, root: String, of tree: HDF5Tree
  ) throws(CheckpointError) -> [FoundTensor] {
    let prefix = root.isEmpty ? "" : root + "/"
    var rest: [String: FoundTensor] = [:]
    for tensor in tensors {
      if rest.updateValue(tensor, forKey: tensor.name) != nil {
        throw CheckpointError(
          path: tree.path, tensor: tensor.name, .duplicateTensor(other: tree.path))
      }
    }
    var ordered: [FoundTensor] = []
    for layer in names.layers {
      for weight in layer.weights {
        let name = layer.name + "/" + weight
        guard let tensor = rest.removeValue(forKey: prefix + name) else {
          throw CheckpointError(path: tree.path, tensor: name, .tensorNotFound)
        }
        ordered.append(tensor.named(name))
      }
    }
    // What no list names stands behind, under its path.
    for tensor in tensors where rest[tensor.name] != nil {
      ordered.append(
        tensor.name.hasPrefix(prefix)
          ? tensor.named(String(tensor.name.dropFirst(prefix.count))) : tensor)
    }
    return ordered
  }
}

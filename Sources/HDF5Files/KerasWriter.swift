// Writes the weights of a Keras model where the model had them, so that Keras loads them.
//
// Layout   that of Keras 1 and 2, which Keras 3 still reads: see KerasModel
// Source   keras/src/legacy/saving/legacy_h5_format.py of Keras 3.15: `load_model_from_hdf5` reads `model_config` and
//          `model_weights`, and takes the weights of each layer in the order of its list
// Checked  KerasExportTests; Tests/interop/keras.sh: Keras loads the files and gives our outputs

public import Checkpoints
public import JSONDocuments
public import Tensors

/// Which weights a Keras file has, by layer, in its order.
public struct KerasWeightNames: Sendable, Equatable {
  /// A layer and its weights, whose tensors are called `LAYER/WEIGHT`.
  public struct Layer: Sendable, Equatable {
    /// The group's name.
    public let name: String
    /// The weights' names.
    public let weights: [String]
  }

  /// In the order of the model.
  public let layers: [Layer]

  /// Where a configuration keeps them.
  static let key = "weight_names"

  /// `[["dense", "dense/kernel:0", "dense/bias:0"], …]`.
  var json: JSONValue {
    .array(layers.map { .array(([$0.name] + $0.weights).map { .string($0) }) })
  }

  init(_ layers: [Layer]) { self.layers = layers }

  /// What the configuration of a model that was read from a Keras file says; nil for others.
  public init?(configuration: JSONValue) {
    guard let list = configuration[Self.key]?.array, !list.isEmpty else { return nil }
    var layers: [Layer] = []
    for item in list {
      let names = item.array?.compactMap(\.string) ?? []
      guard !names.isEmpty, names.count == item.array?.count else { return nil }
      layers.append(Layer(name: names[0], weights: Array(names.dropFirst())))
    }
    self.layers = layers
  }
}

/// Writes a Keras 3 archive, tensor after tensor.
public struct KerasArchiveWriter: ~Copyable {
  private let path: String
  private let weightsPath: String
  private let configuration: JSONValue
  private let output: HDF5Output

  /// Starts an archive, which appears under its name when it is finished.
  ///
  /// - Parameter configuration: What reading the original gave.
  public init(path: String, configuration: JSONValue) throws(CheckpointError) {
    self.path = path
    self.configuration = configuration
    weightsPath = path + ".weights"
    output = try HDF5Output(path: weightsPath)
  }

  /// Writes a weight, such as `layers/dense/vars/0`.
  public func write(_ name: String, _ tensor: Tensor) throws(CheckpointError) {
    try output.dataset("/" + name, tensor, named: name)
  }

  /// Completes the file under its name.
  public consuming func finish() throws {
    let path = path, weightsPath = weightsPath, configuration = configuration
    try output.finish()
    defer { try? FilePath.remove(weightsPath) }
    var archive = try ZipWriter(path: path)
    func bytes(_ bytes: [UInt8]) -> Tensor { Tensor(.uint8, shape: [bytes.count], copying: bytes) }
    var metadata = JSONObject()
    metadata["keras_version"] = configuration["keras_version"]
    for (name, json) in [
      ("metadata.json", .object(metadata)),
      ("config.json", configuration["model_config"] ?? .null),
    ] {
      try archive.write(name, bytes(Array(json.compactText.utf8)))
    }
    try archive.write(KerasFormat.weightsName, bytes(try FilePath.read(weightsPath)))
    try archive.finish()
  }
}

/// Writes one file, layer after layer.
public struct KerasWriter: ~Copyable {
  private let output: HDF5Output
  private let root: String

  /// Starts a file, which appears under its name when it is finished.
  ///
  /// - Parameters:
  ///   - configuration: What reading the original gave: with `model_config` the file is a whole model, without it the
  ///     weights alone.
  ///   - names: Every layer of the model.
  public init(
    path: String, configuration: JSONValue, names: KerasWeightNames
  ) throws(CheckpointError) {
    let output = try HDF5Output(path: path)
    let model = configuration["model_config"]
    let root = model == nil ? "" : "/model_weights"
    if let model {
      try output.attribute("model_config", model.compactText)
      try output.group(root)
    }
    for key in ["keras_version", "backend"] {
      guard let text = configuration[key]?.string else { continue }
      try output.attribute(key, text)
      if model != nil { try output.attribute(key, text, of: root) }
    }
    if let training = configuration["training_config"] {
      try output.attribute("training_config", training.compactText)
    }
    try output.attribute(
      "layer_names", texts: names.layers.map(\.name), of: root.isEmpty ? "/" : root)
    for layer in names.layers {
      try output.group(root + "/" + layer.name)
      try output.attribute(
        "weight_names", texts: layer.weights, of: root + "/" + layer.name)
    }
    self.root = root
    self.output = output
  }

  /// Writes a weight.
  public func write(
    _ weight: String, of layer: KerasWeightNames.Layer, _ tensor: Tensor
  ) throws(CheckpointError) {
    try output.dataset(
      root + "/" + layer.name + "/" + weight, tensor, named: layer.name + "/" + weight)
  }

  /// Completes the file under its name.
  public consuming func finish() throws { try output.finish() }
}

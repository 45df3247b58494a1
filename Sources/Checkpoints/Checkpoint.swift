public import Encodings
public import JSONDocuments
public import Tensors

/// A model on disk, whatever the format: named tensors, their encodings, a configuration, side files.
public protocol Checkpoint: Sendable {
  /// The folder or file, as the caller named it.
  var path: String { get }
  /// What the format is called in messages.
  var formatName: String { get }
  /// `config.json`, or the format's own configuration in its words.
  var configuration: JSONValue { get }
  /// How the encoded weights are stored; weights that are not named are plain tensors.
  var manifest: WeightManifest { get }
  /// Stored tensors in the order of the files, parts of encoded weights included.
  var tensorNames: [String] { get }
  /// A view of one stored tensor; nil when there is none of this name.
  func tensor(_ name: String) -> Tensor?
  /// Type and shape of a stored tensor, without the work that its elements may take.
  func tensorType(_ name: String) -> (dtype: DType, shape: [Int])?
  /// Files beside the weights, by their relative path, sorted.
  var sideFileNames: [String] { get }
  /// The bytes of a side file.
  func sideFile(_ name: String) throws -> [UInt8]
  /// Bytes of everything.
  var byteCount: Int { get }
}

/// A weight or another tensor as a model names it, in whatever parts it is stored.
public struct LogicalTensor: Sendable, Equatable {
  /// The name, such as `model.layers.0.mlp.up_proj.weight`.
  public let name: String
  /// The encoding's name, such as `int4-g32`, `bf16` or `i64`.
  public let encoding: String
  /// The dimensions of the decoded tensor.
  public let shape: [Int]
  /// Stored bytes of all parts.
  public let byteCount: Int
  /// The method that chose the stored numbers; nil when they are the source's own.
  public let method: String?

  /// Stored bits over elements.
  public var bitsPerWeight: Double {
    Double(8 * byteCount) / Double(max(1, shape.reduce(1, *)))
  }
}

extension Checkpoint {
  /// What the tensor itself says.
  public func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? {
    tensor(name).map { ($0.dtype, $0.shape) }
  }

  /// The tensors as the model names them, in the order of the files.
  public var logicalTensors: [LogicalTensor] {
    var owners: [String: WeightManifest.Entry] = [:]
    var parts: Set<String> = []
    for entry in manifest.entries {
      let layout = entry.encoding.parts(outputs: entry.outputs, inputs: entry.inputs)
      for (index, part) in layout.enumerated() {
        if index == 0 { owners[entry.name + part.suffix] = entry }
        parts.insert(entry.name + part.suffix)
      }
    }
    return tensorNames.compactMap { name in
      if let entry = owners[name] {
        return LogicalTensor(
          name: entry.name, encoding: entry.encoding.name, shape: entry.tensorShape,
          byteCount: entry.encoding.byteCount(outputs: entry.outputs, inputs: entry.inputs),
          method: entry.method)
      }
      guard !parts.contains(name), let type = tensorType(name) else { return nil }
      return LogicalTensor(
        name: name, encoding: type.dtype.rawValue.lowercased(), shape: type.shape,
        byteCount: type.shape.reduce(type.dtype.byteCount, *), method: nil)
    }
  }

  /// Whether the model has a tensor of this name, in whatever encoding.
  public func holds(_ name: String) -> Bool { manifest[name] != nil || tensorType(name) != nil }

  /// A weight matrix `[outputs, inputs]` in its encoding.
  ///
  /// - Throws: `CheckpointError` when it is absent or has another shape.
  public func weight(
    _ name: String, outputs: Int, inputs: Int
  ) throws(CheckpointError) -> any LinearOperator {
    if let entry = manifest[name] {
      guard entry.tensorShape == [outputs, inputs] else {
        throw CheckpointError(
          path: path, tensor: name,
          .shapeMismatch(found: entry.tensorShape, expected: [outputs, inputs]))
      }
      return try encodedMatrix(entry).matrix
    }
    let tensor = try tensor(name, shape: [outputs, inputs])
    guard tensor.dtype.isFloat else {
      throw CheckpointError(
        path: path, tensor: name, .typeMismatch(found: tensor.dtype, expected: "floats"))
    }
    return FloatMatrix(tensor)
  }

  /// An encoded weight with its stored parts, each checked against the encoding's layout.
  public func encodedMatrix(
    _ entry: WeightManifest.Entry
  ) throws(CheckpointError) -> EncodedMatrix {
    var tensors: [Tensor] = []
    for part in entry.encoding.parts(outputs: entry.outputs, inputs: entry.inputs) {
      let tensor = try tensor(entry.name + part.suffix, shape: part.shape)
      guard tensor.dtype == part.dtype else {
        throw CheckpointError(
          path: path, tensor: entry.name + part.suffix,
          .typeMismatch(found: tensor.dtype, expected: part.dtype.rawValue))
      }
      tensors.append(tensor)
    }
    if let problem = entry.encoding.problem(
      outputs: entry.outputs, inputs: entry.inputs, parts: tensors)
    {
      throw CheckpointError(
        path: path, tensor: entry.name,
        .badValue(found: problem, expected: "a stream of \(entry.encoding.name)"))
    }
    return EncodedMatrix(
      encoding: entry.encoding, outputs: entry.outputs, inputs: entry.inputs, parts: tensors)
  }

  /// A vector of floats, such as a norm's weight or a bias.
  public func vector(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
    try floats(name, shape: [count])
  }

  /// The floats of a plain tensor of some shape.
  public func floats(_ name: String, shape: [Int]) throws(CheckpointError) -> [Float] {
    let tensor = try tensor(name, shape: shape)
    guard tensor.dtype.isFloat else {
      throw CheckpointError(
        path: path, tensor: name, .typeMismatch(found: tensor.dtype, expected: "floats"))
    }
    return tensor.floats()
  }

  private func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    guard let tensor = tensor(name) else {
      throw CheckpointError(path: path, tensor: name, .tensorNotFound)
    }
    guard tensor.shape == shape else {
      throw CheckpointError(
        path: path, tensor: name, .shapeMismatch(found: tensor.shape, expected: shape))
    }
    return tensor
  }
}

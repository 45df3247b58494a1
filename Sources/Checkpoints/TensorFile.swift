// What the readers of other programs' files give: plain tensors, found in one file.

public import JSONDocuments
public import Tensors

/// A tensor that was found in a file, and how to get at it.
public struct FoundTensor: Sendable {
  /// The name.
  public let name: String
  /// The element type.
  public let dtype: DType
  /// The dimensions.
  public let shape: [Int]
  private let load: @Sendable () -> Tensor

  /// A tensor of this type and shape, made by `load` each time that it is asked for.
  public init(
    name: String, dtype: DType, shape: [Int], load: @escaping @Sendable () -> Tensor
  ) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.load = load
  }

  /// A tensor at hand.
  public init(name: String, _ tensor: Tensor) {
    self.init(name: name, dtype: tensor.dtype, shape: tensor.shape) { tensor }
  }

  /// A strided view, copied into row-major order when it is asked for, if it is not that already.
  public init(name: String, _ view: StridedView) {
    self.init(name: name, dtype: view.dtype, shape: view.shape) { view.tensor() }
  }

  /// The tensor.
  public func tensor() -> Tensor { load() }

  /// The same tensor by another name.
  public func named(_ name: String) -> FoundTensor {
    FoundTensor(name: name, dtype: dtype, shape: shape, load: load)
  }
}

/// Plain tensors in one file of another program.
public struct TensorFile: Checkpoint {
  /// The file, as the caller named it.
  public let path: String
  /// What the format is called in messages.
  public let formatName: String
  /// What the file says about the model, in the words of `config.json` where it can.
  public let configuration: JSONValue
  /// The names, in the order of the file.
  public let tensorNames: [String]
  /// What the file holds besides, left out: optimizer state, counters, texts.
  public let skipped: [String]
  /// Bytes of the file.
  public let byteCount: Int
  private let tensors: [String: FoundTensor]

  /// A file's tensors.
  ///
  /// - Throws: `CheckpointError` when two have one name.
  public init(
    path: String, formatName: String, configuration: JSONValue = .object(JSONObject()),
    tensors: [FoundTensor], skipped: [String] = [], byteCount: Int
  ) throws(CheckpointError) {
    self.path = path
    self.formatName = formatName
    self.configuration = configuration
    self.skipped = skipped
    self.byteCount = byteCount
    tensorNames = tensors.map(\.name)
    var named: [String: FoundTensor] = [:]
    for tensor in tensors {
      if named.updateValue(tensor, forKey: tensor.name) != nil {
        throw CheckpointError(path: path, tensor: tensor.name, .duplicateTensor(other: path))
      }
    }
    self.tensors = named
  }

  /// None: all tensors are plain.
  public var manifest: WeightManifest { WeightManifest() }
  /// One tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? { tensors[name]?.tensor() }
  /// What was found about a tensor, whose elements are not touched.
  public func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? {
    tensors[name].map { ($0.dtype, $0.shape) }
  }
  /// None.
  public var sideFileNames: [String] { [] }
  /// None.
  public func sideFile(_ name: String) throws -> [UInt8] {
    throw CheckpointError(path: path, .missingFile(name))
  }
}

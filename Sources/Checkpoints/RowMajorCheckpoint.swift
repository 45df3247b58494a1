// Checkpoints whose linear layers are stored as [inputs, outputs]: GPT-2's `Conv1D`.
//
// Everything here holds a weight as [outputs, inputs], a row an output. So such a checkpoint is turned when it is
// opened, and what stages write of it is turned too. Programs that know only the old order must not read that as it is:
// the `model_type` becomes one that they refuse. Plain safetensors that are packed for them are turned back.

public import JSONDocuments
public import Tensors

/// A checkpoint with the weights of its linear layers turned.
public struct RowMajorCheckpoint: Checkpoint {
  /// What is added to a `model_type` whose linear layers are rows of outputs, against that type's own order.
  public static let suffix = "-rows"
  /// The types that store inputs first, and the ends of such weights' names.
  private static let turned: [String: [String]] = [
    "gpt2": [
      ".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight",
    ]
  ]

  /// The checkpoint in the other order.
  public let source: any Checkpoint
  /// The configuration, with the other `model_type`.
  public let configuration: JSONValue
  private let endings: [String]

  /// The checkpoint turned to rows where its type needs it; otherwise itself.
  public static func of(_ checkpoint: any Checkpoint) -> any Checkpoint {
    guard let type = checkpoint.configuration["model_type"]?.string, let endings = turned[type]
    else { return checkpoint }
    return RowMajorCheckpoint(checkpoint, type: type + suffix, endings)
  }

  /// The plain type of a checkpoint that was turned to rows, and the ends of its turned weights' names.
  private static func plain(
    _ checkpoint: any Checkpoint
  ) -> (type: String, endings: [String])? {
    guard let type = checkpoint.configuration["model_type"]?.string, type.hasSuffix(suffix)
    else { return nil }
    let plain = String(type.dropLast(suffix.count))
    return turned[plain].map { (plain, $0) }
  }

  /// The weights that other programs want turned back.
  public static func namesToTurnBack(_ checkpoint: any Checkpoint) -> Set<String> {
    guard let (_, endings) = plain(checkpoint) else { return [] }
    return Set(
      checkpoint.logicalTensors.map(\.name).filter { name in
        endings.contains { name.hasSuffix($0) }
      })
  }

  /// The configuration that goes with the weights turned back.
  public static func configurationTurnedBack(_ checkpoint: any Checkpoint) -> JSONValue {
    guard let (type, _) = plain(checkpoint), var object = checkpoint.configuration.object else {
      return checkpoint.configuration
    }
    object["model_type"] = .string(type)
    return .object(object)
  }

  private init(_ source: any Checkpoint, type: String, _ endings: [String]) {
    self.source = source
    self.endings = endings
    var object = source.configuration.object ?? JSONObject()
    object["model_type"] = .string(type)
    configuration = .object(object)
  }

  private func isTurned(_ name: String) -> Bool { endings.contains { name.hasSuffix($0) } }

  /// The folder or file, as the caller named it.
  public var path: String { source.path }
  /// What the format is called in messages.
  public var formatName: String { source.formatName }
  /// The encoded weights.
  public var manifest: WeightManifest { source.manifest }
  /// The stored tensors.
  public var tensorNames: [String] { source.tensorNames }
  /// Files beside the weights.
  public var sideFileNames: [String] { source.sideFileNames }
  /// Bytes of everything.
  public var byteCount: Int { source.byteCount }

  /// The bytes of a side file.
  public func sideFile(_ name: String) throws -> [UInt8] {
    name == "config.json"
      ? Array((configuration.indentedText + "\n").utf8) : try source.sideFile(name)
  }

  /// Type and shape of a stored tensor.
  public func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? {
    guard let (dtype, shape) = source.tensorType(name) else { return nil }
    return (dtype, isTurned(name) ? shape.reversed() : shape)
  }

  /// A stored tensor; a turned one is a copy.
  public func tensor(_ name: String) -> Tensor? {
    guard let tensor = source.tensor(name), isTurned(name), tensor.shape.count == 2 else {
      return source.tensor(name)
    }
    return tensor.transposed()
  }
}

extension Tensor {
  /// A matrix with rows and columns exchanged, in its own type.
  public func transposed() -> Tensor {
    precondition(shape.count == 2)
    let rows = shape[0], columns = shape[1], size = dtype.byteCount
    let source = withBytes { unsafe $0.withUnsafeBytes { unsafe [UInt8]($0) } }
    var target = [UInt8](repeating: 0, count: source.count)
    // Squares of a few cache lines: neither side strides through memory for long.
    let block = 32
    for top in stride(from: 0, to: rows, by: block) {
      for left in stride(from: 0, to: columns, by: block) {
        for row in top..<min(top + block, rows) {
          for column in left..<min(left + block, columns) {
            let from = (row * columns + column) * size, to = (column * rows + row) * size
            for byte in 0..<size { target[to + byte] = source[from + byte] }
          }
        }
      }
    }
    return Tensor(dtype, shape: [columns, rows], copying: target)
  }
}

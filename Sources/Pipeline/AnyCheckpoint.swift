// Opening a model of any format, with a tokenizer from elsewhere where the format has none.

import Bundles
public import Checkpoints
import HDF5Files
import Networks
public import JSONDocuments
public import Tensors

/// Opens a model of any format that this program knows.
public enum AnyCheckpoint {
  /// Opens a checkpoint folder, a bundle or another program's file.
  public static func open(_ path: String) throws -> any Checkpoint {
    try CheckpointOpener.open(path, adding: formats)
  }

  /// Opens a checkpoint, with a tokenizer that it did not bring, and as one of its towers.
  public static func open(
    _ path: String, tokenizer: String? = nil, tower: String?
  ) throws -> any Checkpoint {
    var checkpoint = try open(path)
    if let tokenizer { checkpoint = try CheckpointWithTokenizer(checkpoint, tokenizer: tokenizer) }
    return try tower.map { try TowerCheckpoint(checkpoint, tower: $0) } ?? checkpoint
  }

  /// The format of a file; nil for a folder, and for a file that begins like none.
  public static func formatName(of path: String) throws -> String? {
    guard FilePath.kind(of: path) == .file else { return nil }
    return try CheckpointOpener.format(of: path, adding: formats)?.formatName
  }

  /// Formats whose libraries the inference library does not link.
  private static var formats: [any CheckpointFormat.Type] {
    [KerasFormat.self, HDF5Format.self]
  }
}

/// A checkpoint with a tokenizer that it did not bring.
public struct CheckpointWithTokenizer: Checkpoint {
  /// The checkpoint itself.
  let source: any Checkpoint
  let tokenizerName: String
  private let tokenizer: [UInt8]

  /// - Parameter tokenizer: A tokenizer.json or a SentencePiece model.
  public init(_ source: any Checkpoint, tokenizer path: String) throws {
    self.source = source
    tokenizer = try FilePath.read(path)
    tokenizerName =
      tokenizer.first(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) == UInt8(ascii: "{")
      ? "tokenizer.json" : "tokenizer.model"
  }

  /// The file, as the caller named it.
  public var path: String { source.path }
  /// What the format is called in messages.
  public var formatName: String { source.formatName }
  /// The model's configuration.
  public var configuration: JSONValue { source.configuration }
  /// The encoded weights.
  public var manifest: WeightManifest { source.manifest }
  /// The stored tensors.
  public var tensorNames: [String] { source.tensorNames }
  /// A view of one stored tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? { source.tensor(name) }
  /// The source's files and the tokenizer.
  public var sideFileNames: [String] {
    (source.sideFileNames.filter { !["tokenizer.json", "tokenizer.model"].contains($0) }
      + [tokenizerName]).sorted()
  }
  /// The bytes of a side file.
  public func sideFile(_ name: String) throws -> [UInt8] {
    name == tokenizerName ? tokenizer : try source.sideFile(name)
  }
  /// Bytes of everything.
  public var byteCount: Int { source.byteCount + tokenizer.count }
}

// Writing a checkpoint in other programs' formats. A new one is a file and a line here.

public import Checkpoints
import Encodings
public import JSONDocuments
public import Tensors

/// What a writer is asked for.
public struct ExportOptions: Sendable, Equatable {
  /// The type of matrices that are stored as floats; nil keeps each tensor's own.
  public var dtype: DType?
  /// Files are split so that none has more bytes of tensors; nil writes one file.
  public var shardBytes: Int?
  /// Where weights in encodings that the format lacks may be written as floats.
  public var decodes = false

  /// The options.
  public init(dtype: DType? = nil, shardBytes: Int? = nil, decodes: Bool = false) {
    self.dtype = dtype
    self.shardBytes = shardBytes
    self.decodes = decodes
  }

  /// What the lineage says.
  var json: JSONValue {
    [
      "dtype": .string(dtype?.rawValue.lowercased() ?? "keep"),
      "max-shard-size": shardBytes.map { .integer($0) } ?? .null, "decode": .bool(decodes),
    ]
  }
}

/// What a writer did.
public struct ExportReport: Sendable {
  /// The files, in the order of writing.
  public var files: [String] = []
  /// Bytes of all files.
  public var byteCount = 0
  /// Words to the user: what was left out, and what was written as something else.
  public var notes: [String] = []

  /// Nothing yet.
  public init() {}
}

/// A format that checkpoints are written in.
public protocol ExportFormat {
  /// The name on the command line.
  static var name: String { get }
  /// What the file's or folder's name ends with.
  static var suffix: String { get }
  /// Whether the weights can be split into several files.
  static var isSplittable: Bool { get }
  /// Writes a checkpoint. The output appears under its name only when it is complete.
  ///
  /// - Parameter lineage: How the output came to be.
  static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport
  /// Checks what was written, before anyone is told that it is good.
  static func readBack(_ path: String) throws
}

extension ExportFormat {
  /// One file, unless a format says otherwise.
  public static var isSplittable: Bool { false }

  /// Opens what was written; a known architecture must give finite numbers.
  public static func readBack(_ path: String) throws { try ReadBack.check(path) }
}

/// The formats.
public enum ExportFormats {
  /// All but the bundle, which `PackRun` writes.
  public static var all: [any ExportFormat.Type] {
    [
      GGUFExport.self,
      CompressedTensorsExport.self,
      SafetensorsExport.self,
      KerasExport.self,
      KerasArchiveExport.self,
      HDF5Export.self,
      NumPyExport.self,
    ]
  }

  /// The format of a name.
  public static func named(_ name: String) -> (any ExportFormat.Type)? {
    all.first { $0.name == name }
  }
}

/// Why a checkpoint cannot be written in a format.
public struct ExportError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The checkpoint.
  public let path: String
  /// The tensor at fault; nil when it is the whole.
  public let tensor: String?
  /// What is wrong, and what to do.
  public let problem: String

  init(path: String, tensor: String? = nil, _ problem: String) {
    self.path = path
    self.tensor = tensor
    self.problem = problem
  }

  /// One line without a full stop.
  public var description: String {
    path + ": " + (tensor.map { "'\($0)': " } ?? "") + problem
  }
}

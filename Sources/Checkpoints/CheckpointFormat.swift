// The file formats that hold a model. A new one is a file and a line here.

import JSONDocuments

/// A file format that holds a model.
public protocol CheckpointFormat {
  /// What messages call the format, such as `GGUF file`.
  static var formatName: String { get }
  /// Whether a file is of this format. Its content decides; the name only where content cannot.
  ///
  /// - Parameter start: The first `CheckpointFormats.startBytes` bytes, or all of a shorter file.
  static func recognizes(_ start: [UInt8], path: String) -> Bool
  /// Opens a file: headers are read and checked, weights stay where they are.
  static func open(_ path: String) throws -> any Checkpoint
}

/// Names of files that hold weights.
public enum WeightFileNames {
  /// Weights in other formats beside a checkpoint's own: an output replaces them and leaves them out.
  public static let suffixes = [
    ".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".tflite",
  ]
}

extension Checkpoint {
  /// The side files that an output leaves out: the same weights in other formats. Weights in a folder that
  /// `modules.json` of sentence-transformers names are a layer of the model, and no such file.
  public var otherWeightFiles: Set<String> {
    let modules =
      sideFileNames.contains("modules.json")
      ? (try? JSONValue(parsing: sideFile("modules.json")))?.array ?? [] : []
    let folders = modules.compactMap { $0["path"]?.string }.filter { !$0.isEmpty }
    return Set(
      sideFileNames.filter { name in
        WeightFileNames.suffixes.contains { name.hasSuffix($0) }
          && !folders.contains { name == $0 + "/" + CheckpointFolder.weightsName }
      })
  }
}

/// The formats that need nothing but this module, in the order in which they are asked.
public enum CheckpointFormats {
  /// Bytes that `recognizes` gets to see.
  public static let startBytes = 4096

  /// The formats.
  public static var all: [any CheckpointFormat.Type] {
    [
      SafetensorsFormat.self,
      GGUFFormat.self,
      NumPyArrayFormat.self,
      NumPyArchiveFormat.self,
      LlamaCFormat.self,
      PyTorchFormat.self,
    ]
  }
}

// The tensors of a checkpoint as a NumPy archive.

public import Checkpoints
public import JSONDocuments
import Tensors

/// An `.npz` archive: dense tensors alone, without a configuration or a tokenizer.
public enum NumPyExport: ExportFormat {
  /// `npz`.
  public static let name = "npz"
  /// `.npz`.
  public static let suffix = ".npz"

  /// Writes the archive.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    var report = ExportReport()
    let tensors = try DenseTensors(of: source, options: options, &report)
    var writer = try NumPyArchiveWriter(path: path)
    for name in tensors.names {
      let tensor = try tensors.tensor(name)
      let dtype = tensors.dtype(name)
      try writer.write(name, tensor.dtype.isFloat ? tensor.converted(to: dtype) : tensor)
    }
    try writer.finish()
    if !source.sideFileNames.isEmpty {
      report.notes.append(
        "left out: \(source.sideFileNames.joined(separator: ", ")): an npz archive holds arrays alone"
      )
    }
    report.files = [path]
    report.byteCount = FilePath.byteCount(of: path) ?? 0
    return report
  }
}

// A checkpoint as one HDF5 file: tensors as datasets, configuration, manifest and side files beside them.
//
// Checked  ExportTests: there and back gives the same tensors, bit for bit; h5py reads the datasets

public import Checkpoints
import Encodings
import HDF5Files
public import JSONDocuments
import Tensors

/// HDF5.
public enum HDF5Export: ExportFormat {
  /// `hdf5`.
  public static let name = "hdf5"
  /// `.h5`.
  public static let suffix = ".h5"

  /// Writes the file. Weights in encodings keep them: their parts are datasets too.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    var report = ExportReport()
    let parts = Set(
      source.manifest.entries.flatMap { entry in
        entry.encoding.parts(outputs: entry.outputs, inputs: entry.inputs).map {
          entry.name + $0.suffix
        }
      })
    var writer = try HDF5Writer(
      path: path, configuration: source.configuration, manifest: source.manifest)
    for name in source.tensorNames {
      guard let tensor = source.tensor(name) else { continue }
      let converts = tensor.dtype.isFloat && !parts.contains(name)
      try writer.write(
        name, converts ? tensor.converted(to: options.dtype ?? tensor.dtype) : tensor)
    }
    let others = source.otherWeightFiles
    for name in source.sideFileNames {
      if others.contains(name) {
        report.notes.append("left out: '\(name)', weights in another format")
      } else {
        try writer.writeFile(name, try source.sideFile(name))
      }
    }
    if !lineage.isNull {
      try writer.writeFile("lineage.json", Array((lineage.indentedText + "\n").utf8))
    }
    try writer.finish()
    report.files = [path]
    report.byteCount = FilePath.byteCount(of: path) ?? 0
    return report
  }
}

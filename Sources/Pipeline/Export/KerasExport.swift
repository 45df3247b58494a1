// A Keras model with the values of its weights as they have become: what `keras.models.load_model` opens.
//
// Checked  KerasExportTests; Tests/interop/keras.sh: outputs of the file in Keras equal ours

public import Checkpoints
import HDF5Files
public import JSONDocuments
import Tensors

/// HDF5 in Keras's layout.
public enum KerasExport: ExportFormat {
  /// `keras-h5`.
  public static let name = "keras-h5"
  /// `.keras.h5`, beside our own layout; `.h5` where a Keras model is converted.
  public static let suffix = ".keras.h5"

  /// Whether a checkpoint came from a file of Keras's.
  static func fits(_ source: any Checkpoint) -> Bool {
    KerasWeightNames(configuration: source.configuration) != nil
  }

  /// Writes the file. Weights in encodings are written as the floats that they stand for.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    guard let names = KerasWeightNames(configuration: source.configuration) else {
      throw ExportError(
        path: source.path,
        "no weights of a Keras .h5 file; write it as hdf5 or safetensors")
    }
    try checkType(options, path: path)
    var report = ExportReport()
    let tensors = try DenseTensors(of: source, options: options, &report)
    var left = Set(tensors.names)
    let writer = try KerasWriter(path: path, configuration: source.configuration, names: names)
    for layer in names.layers {
      for weight in layer.weights {
        let name = layer.name + "/" + weight
        guard left.remove(name) != nil else {
          throw CheckpointError(path: source.path, tensor: name, .tensorNotFound)
        }
        try writer.write(
          weight, of: layer, try tensors.tensor(name).converted(to: tensors.dtype(name)))
      }
    }
    if let name = left.min() {
      throw ExportError(
        path: source.path, tensor: name, "a tensor that no layer of the Keras model has")
    }
    try writer.finish()
    noteSideFiles(of: source, &report)
    report.files = [path]
    report.byteCount = FilePath.byteCount(of: path) ?? 0
    return report
  }
}

/// A Keras 3 archive.
public enum KerasArchiveExport: ExportFormat {
  /// `keras`.
  public static let name = "keras"
  /// `.keras`.
  public static let suffix = ".keras"

  /// Writes the archive. Weights in encodings are written as the floats that they stand for.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    guard source.configuration["model_config"] != nil, !KerasExport.fits(source) else {
      throw ExportError(
        path: source.path,
        KerasExport.fits(source)
          ? "the weights of a Keras .h5 file, which have other names than an archive's; write NAME.h5"
          : "no model of a Keras archive; write it as hdf5 or safetensors")
    }
    try KerasExport.checkType(options, path: path)
    var report = ExportReport()
    let tensors = try DenseTensors(of: source, options: options, &report)
    let writer = try KerasArchiveWriter(path: path, configuration: source.configuration)
    for name in tensors.names {
      try writer.write(name, try tensors.tensor(name).converted(to: tensors.dtype(name)))
    }
    try writer.finish()
    KerasExport.noteSideFiles(of: source, &report)
    report.files = [path]
    report.byteCount = FilePath.byteCount(of: path) ?? 0
    return report
  }
}

extension KerasExport {
  /// HDF5 has no such type of its own, and Keras knows none.
  fileprivate static func checkType(_ options: ExportOptions, path: String) throws(ExportError) {
    guard options.dtype == .bfloat16 else { return }
    throw ExportError(path: path, "--dtype bf16 is nothing that Keras reads; give f32 or f16")
  }

  fileprivate static func noteSideFiles(of source: any Checkpoint, _ report: inout ExportReport) {
    guard !source.sideFileNames.isEmpty else { return }
    report.notes.append(
      "left out: " + source.sideFileNames.map { "'\($0)'" }.joined(separator: ", ")
        + ", for which a Keras file has no place")
  }
}

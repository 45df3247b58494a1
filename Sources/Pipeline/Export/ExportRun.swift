// `pack` and `convert`: one checkpoint, written in one or several formats, each read back.

import Bundles
public import Checkpoints
import JSONDocuments
import Networks
import Tensors

/// One output.
public struct ExportedOutput: Sendable {
  /// The file or folder.
  public let path: String
  /// What the writer did.
  public let report: ExportReport
}

/// Writes a checkpoint in some formats.
public struct ExportRun {
  let input: any Checkpoint
  let formats: [String]
  let options: ExportOptions
  let pack: PackRequest
  let stage: String

  /// The name of our own format.
  static let bundleName = "condensed"
  /// The names of all formats.
  public static var formatNames: [String] { [bundleName] + ExportFormats.all.map { $0.name } }

  /// A run.
  ///
  /// - Parameter stage: What the lineage calls it: `pack` or `convert`.
  public init(
    input: any Checkpoint, formats: [String], options: ExportOptions, pack: PackRequest,
    stage: String
  ) {
    self.input = input
    self.formats = formats
    self.options = options
    self.pack = pack
    self.stage = stage
  }

  /// The format that an output's name asks for: its ending, or a checkpoint folder. A Keras model's `.h5` is Keras's.
  public static func formatName(ofOutput path: String, from input: any Checkpoint) -> String {
    if path.hasSuffix(".condensed") { return bundleName }
    if path.hasSuffix(HDF5Export.suffix), KerasExport.fits(input) { return KerasExport.name }
    return ExportFormats.all.first { !$0.suffix.isEmpty && path.hasSuffix($0.suffix) }?.name
      ?? SafetensorsExport.name
  }

  /// Writes the outputs, one after the other.
  public func run(output path: String, force: Bool) throws -> [ExportedOutput] {
    // An option that would do nothing is a mistake of the caller.
    if options.shardBytes != nil {
      for format in formats where ExportFormats.named(format)?.isSplittable != true {
        throw ExportError(
          path: path, "--max-shard-size does nothing for \(format), which is not split")
      }
      if path.hasSuffix(".safetensors") {
        throw ExportError(
          path: path, "--max-shard-size needs a folder for safetensors; leave out the ending")
      }
    }
    let outputs = formats.map { ($0, self.path(path, for: $0)) }
    for (_, own) in outputs where !force && FilePath.kind(of: own) != nil {
      throw CheckpointError(path: own, .outputExists)
    }
    return try outputs.map { try write($0, to: $1, force: force) }
  }

  /// With one format the name is taken as it is; with several it is a stem.
  private func path(_ path: String, for format: String) -> String {
    guard formats.count > 1 else { return FilePath.withoutTrailingSlash(path) }
    var stem = FilePath.withoutTrailingSlash(path)
    for suffix in [".condensed"] + ExportFormats.all.map({ $0.suffix })
    where !suffix.isEmpty && stem.hasSuffix(suffix) {
      stem = String(stem.dropLast(suffix.count))
      break
    }
    let suffix = ExportFormats.named(format)?.suffix ?? ".condensed"
    return stem + (suffix.isEmpty ? "." + format : suffix)
  }

  private func write(_ name: String, to path: String, force: Bool) throws -> ExportedOutput {
    guard let format = ExportFormats.named(name) else {
      let result = try PackRun(input: input, request: pack).run(output: path, force: force)
      var report = ExportReport()
      report.files = [path]
      report.byteCount = result.byteCount
      report.notes = result.droppedFiles.map { "left out: '\($0)', weights in another format" }
      return ExportedOutput(path: path, report: report)
    }
    if force { try FilePath.remove(path) }
    let parent = try Lineage.parent(of: input)
    // A conversion changes no value: it carries the lineage on.
    let lineage =
      stage == "convert"
      ? parent
      : Lineage.entry(
        stage: stage, options: options.json, seed: 0, inputName: FilePath.name(of: input.path),
        inputHash: try contentHash(of: input), calibration: .null, work: .null, parent: parent)
    let report = try format.write(input, to: path, options: options, lineage: lineage)
    do {
      try format.readBack(readable(path, report))
    } catch {
      for file in report.files { try? FilePath.remove(file) }
      try? FilePath.remove(path)
      throw error
    }
    return ExportedOutput(path: path, report: report)
  }

  /// What opens the output: the folder or file itself, or the first part of a split one.
  private func readable(_ path: String, _ report: ExportReport) -> String {
    FilePath.kind(of: path) != nil ? path : report.files.first ?? path
  }
}

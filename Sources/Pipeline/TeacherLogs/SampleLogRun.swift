// Runs a teacher over samples in their views and logs what it gives. An interrupted run goes on from its last chunk and
// ends in the same bytes.

import CondenseInference
public import Checkpoints
import Drift
public import HDF5Files
public import JSONDocuments
public import Networks
import Tensors

/// What is logged, of which samples.
public struct SampleLogRequest: Sendable, Equatable {
  /// Arrays of samples.
  public var images: [String]
  /// How views differ from them.
  public var augmentation = SampleAugmentation()
  /// Views of each sample, the sample itself among them.
  public var views = 1
  /// Of the views.
  public var seed = 0

  /// A request for the samples as they are.
  public init(images: [String]) { self.images = images }
}

/// Logs a teacher over samples.
public struct SampleLogRun {
  private let teacher: Model
  private let request: SampleLogRequest

  /// A run over a checkpoint of a network over samples.
  public init(teacher: any Checkpoint, request: SampleLogRequest) throws {
    self.teacher = try Model(teacher)
    self.request = request
  }

  /// Rows that a crash may lose.
  private static let chunkRows = 4096

  /// Runs the teacher and writes the log.
  public func run(
    output: String, force: Bool, progress: (String, Double) -> Void = { _, _ in }
  ) throws -> SampleLogSummary {
    let network = try teacher.sampleNetwork()
    let samples = try LabelledSamples(request.images, for: network)
    let views = try SampleViews(
      samples.arrays, request.augmentation, seed: UInt64(request.seed))
    let manifest = SampleLogManifest(
      teacher: FilePath.name(of: teacher.checkpoint.path),
      teacherHash: try contentHash(of: teacher.checkpoint),
      samplesHash: try LabelledSamples.hash(request.images), samples: views.count,
      outputs: network.outputCount, areLogits: network.isClassifier, views: request.views,
      augmentation: request.augmentation.description, seed: request.seed)
    let writer = try SampleLogWriter(
      path: output, manifest: manifest, key: toolVersion, force: force)
    guard !writer.isFinished else {
      return try SampleLogSummary(path: output, resumedRows: manifest.rows)
    }
    let resumed = writer.rowCount, step = network.batchSamples
    do {
      for start in stride(from: resumed, to: manifest.rows, by: Self.chunkRows) {
        let end = min(start + Self.chunkRows, manifest.rows)
        var parts: [Matrix] = []
        for first in stride(from: start, to: end, by: step) {
          let rows = (first..<min(first + step, end)).map {
            SampleView(sample: $0 % views.count, view: $0 / views.count)
          }
          let outputs = network.outputs(
            network.batch(views.features(rows, network.normalization)))
          if let place = outputs.values.firstIndex(where: { !$0.isFinite }) {
            throw DriftError.sampleNotFinite(sample: rows[place / outputs.columns].sample)
          }
          parts.append(network.isClassifier ? network.logits(outputs) : outputs)
          progress("teacher", Double(first + rows.count) / Double(manifest.rows))
        }
        try writer.append(Matrix.stack(parts))
      }
      try writer.finish()
    } catch let error as DriftError {
      writer.abandon()
      throw error
    }
    return try SampleLogSummary(path: output, resumedRows: resumed)
  }
}

/// What is said of a log of samples: after writing one, and by `condense inspect`.
public struct SampleLogSummary: Sendable {
  /// What the log says of itself.
  public let manifest: SampleLogManifest
  /// Bytes of the file, and of its numbers before deflating.
  public let byteCount, columnBytes: Int
  /// Rows that an interrupted run had left; nil where nothing was written.
  public let resumedRows: Int?

  init(path: String, resumedRows: Int?) throws {
    let log = try SampleLog(path: path)
    manifest = log.manifest
    byteCount = log.byteCount
    columnBytes = log.columnBytes
    self.resumedRows = resumedRows
  }

  /// Looks at a log; nil when the file is none, so that it may be something else.
  public init?(path: String) throws {
    guard try SampleLog.isLog(path) else { return nil }
    try self.init(path: path, resumedRows: nil)
  }

  /// What `--json` prints.
  public var json: JSONValue {
    var object = JSONObject()
    object["schema"] = 1
    object["format"] = "teacher log of samples"
    for member in manifest.json.object?.members ?? [] { object[member.key] = member.value }
    if let resumedRows { object["resumed_rows"] = .integer(resumedRows) }
    object["rows"] = .integer(manifest.rows)
    object["bytes"] = .integer(byteCount)
    object["column_bytes"] = .integer(columnBytes)
    return .object(object)
  }

  /// Lines for people.
  public var text: String {
    let m = manifest
    func hash(_ digits: String) -> String { String(digits.prefix(16)) }
    var lines = [
      "format        teacher log of samples, version \(SampleLogManifest.currentVersion)",
      "teacher       \(m.teacher) (sha256 \(hash(m.teacherHash))…)",
      "samples       \(m.samples) (sha256 \(hash(m.samplesHash))…)",
      "views         \(m.views), \(m.augmentation), seed \(m.seed)",
      "a row         \(m.outputs) \(m.areLogits ? "logits" : "values")",
    ]
    if let resumedRows, resumedRows > 0 {
      lines.append("resumed       \(resumedRows) rows were there")
    }
    lines.append(TeacherLogInspection.sizes(byteCount, columnBytes, rows: m.rows))
    return lines.joined(separator: "\n")
  }
}

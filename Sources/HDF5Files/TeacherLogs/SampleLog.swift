// A teacher's log of samples: one dataset, `outputs`, with a row a view and a sample. docs/teacher-logs.md specifies it.

public import Checkpoints
import JSONDocuments
public import Tensors

/// A log of samples that is open. Rows are read by any number of threads.
public final class SampleLog: Sendable {
  static let manifestAttribute = "condense_sample_log", outputsName = "outputs"
  /// Logits are multiples of 1 over this, less the row's largest.
  static let logitSteps: Float = 1024

  /// What the log says of itself.
  public let manifest: SampleLogManifest
  private let file: HDF5ColumnFile
  private let column: HDF5Column

  /// The file, as the caller named it.
  public var path: String { file.path }
  /// Bytes of the file.
  public var byteCount: Int { file.bytes.count }
  /// Bytes of the numbers before they were deflated.
  public var columnBytes: Int { file.columnBytes }

  /// Whether a file is a log of samples, sound or not; false for everything that is no HDF5 file.
  public static func isLog(_ path: String) throws -> Bool {
    try HDF5ColumnFile.has(manifestAttribute, path)
  }

  /// Opens a log and checks its structure; rows are checked as they are read.
  ///
  /// - Throws: `CheckpointError` for a file that is damaged or no log of samples, `FileError` when it cannot be opened.
  public init(path: String) throws {
    file = try HDF5ColumnFile(path: path)
    manifest = try file.manifest(
      Self.manifestAttribute,
      expected: "a log of samples; write one with condense teacher-log --images",
      read: SampleLogManifest.init(json:))
    guard let column = file.columns[Self.outputsName] else {
      throw CheckpointError(path: path, tensor: Self.outputsName, .tensorNotFound)
    }
    guard column.dtype == .float32 else {
      throw CheckpointError(
        path: path, tensor: Self.outputsName,
        .typeMismatch(found: column.dtype, expected: DType.float32.rawValue))
    }
    let shape = [manifest.rows, manifest.outputs]
    guard column.shape == shape else {
      throw CheckpointError(
        path: path, tensor: Self.outputsName,
        .shapeMismatch(found: column.shape, expected: shape))
    }
    self.column = column
  }

  /// The row of a sample in one of its views.
  public func row(ofSample sample: Int, view: Int) -> Int {
    precondition(sample < manifest.samples && view < manifest.views, "\(sample) in view \(view)")
    return view * manifest.samples + sample
  }

  /// What the teacher gave, `[rows, outputs]`.
  ///
  /// - Throws: `CheckpointError` for a chunk that is damaged, or numbers that are infinite or NaN.
  public func outputs(rows: [Int]) throws -> Matrix {
    file.prepare(rows.map { .init(column: column, rows: $0..<$0 + 1) })
    var values: [Float] = []
    values.reserveCapacity(rows.count * manifest.outputs)
    for row in rows {
      let bytes = try file.read(column, row..<row + 1)
      let numbers = Tensor(.float32, shape: [manifest.outputs], copying: bytes).floats()
      guard numbers.allSatisfy(\.isFinite) else {
        throw CheckpointError(
          path: path, tensor: "\(Self.outputsName), row \(row)",
          .notFinite(count: numbers.count { !$0.isFinite }, total: numbers.count))
      }
      values += numbers
    }
    return Matrix(rows: rows.count, columns: manifest.outputs, values: values)
  }

  /// Compares what was written.
  func check(_ hashes: [String: String]) throws { try file.check(hashes) }

  /// Checks that this log speaks of some samples and of as many numbers.
  ///
  /// - Throws: `CheckpointError` that names the log, what it has, what was expected and the cure.
  public func requireMatch(samplesHash: String, samples: Int, outputs: Int) throws(CheckpointError)
  {
    func check(
      _ what: String, _ found: String, _ expected: String, cure: String
    ) throws(CheckpointError) {
      guard found != expected else { return }
      throw CheckpointError(
        path: path, tensor: what,
        .badValue(
          found: String(found.prefix(16)), expected: String(expected.prefix(16)) + "; " + cure))
    }
    let cure = "log the samples that are given, in the same files"
    try check("samples", "\(manifest.samples)", "\(samples)", cure: cure)
    try check("samples_sha256", manifest.samplesHash, samplesHash, cure: cure)
    try check(
      "outputs", "\(manifest.outputs)", "\(outputs)",
      cure: "the student must give as many numbers as the teacher")
  }
}

/// Writes a log of samples, which appears under its name when it is finished.
public final class SampleLogWriter {
  /// Whether an interrupted run of the same work came to its end: the log stands under its name.
  public var isFinished: Bool { work.isFinished }
  /// Rows so far: those of an interrupted run, and those that were appended.
  public private(set) var rowCount = 0
  private let work: LogWork
  private let manifest: SampleLogManifest

  /// Starts a log, or goes on with one that was interrupted.
  ///
  /// - Parameters:
  ///   - key: What the log depends on besides the manifest; only the same work is resumed.
  ///   - force: Replace an existing output.
  public init(path: String, manifest: SampleLogManifest, key: String, force: Bool) throws {
    self.manifest = manifest
    work = try LogWork(path: path, key: manifest.json.compactText + "\n" + key, force: force)
    for index in 0..<work.chunkCount {
      rowCount += try Self.chunk(work.chunkPath(index)).shape[0]
    }
  }

  private static func chunk(_ path: String) throws -> Tensor {
    guard let tensor = try SafetensorsFile(path: path).tensor(SampleLog.outputsName) else {
      throw CheckpointError(path: path, tensor: SampleLog.outputsName, .tensorNotFound)
    }
    return tensor
  }

  /// Appends rows as a chunk, which is on disk before the call returns.
  ///
  /// - Parameter outputs: `[rows, outputs]`; of logits only their differences are kept, to 1/1024.
  public func append(_ outputs: Matrix) throws {
    precondition(outputs.columns == manifest.outputs)
    var outputs = outputs
    if manifest.areLogits {
      for row in 0..<outputs.rows {
        let range = outputs.range(ofRow: row)
        let largest = outputs.values[range].max() ?? 0
        for i in range {
          outputs.values[i] =
            ((outputs.values[i] - largest) * SampleLog.logitSteps).rounded() / SampleLog.logitSteps
        }
      }
    }
    let tensor = Tensor(
      .float32, shape: [outputs.rows, outputs.columns], copying: outputs.values)
    try work.add { path in
      var writer = try SafetensorsWriter(
        path: path,
        layout: SafetensorsLayout(
          items: [.init(name: SampleLog.outputsName, dtype: .float32, shape: tensor.shape)],
          metadata: []))
      try writer.write(tensor)
      try writer.finish()
    }
    rowCount += outputs.rows
  }

  /// Removes all traces of work that failed for good: bad input leaves nothing behind.
  public func abandon() { work.abandon() }

  /// Makes the log of its chunks, reads it back and gives it its name.
  public func finish() throws {
    precondition(rowCount == manifest.rows, "\(rowCount) of \(manifest.rows) rows")
    let rowBytes = 4 * manifest.outputs
    var writer = try HDF5ColumnWriter(
      path: work.resultPath,
      columns: [
        .init(
          name: SampleLog.outputsName, dtype: .float32, width: [manifest.outputs],
          // Small chunks for samples in random order, but no more than some thousand of them.
          chunkRows: max(1, min(manifest.rows, max((64 << 10) / rowBytes, manifest.rows / 4096))))
      ],
      attributes: [(SampleLog.manifestAttribute, manifest.json.compactText)])
    for index in 0..<work.chunkCount {
      let tensor = try Self.chunk(work.chunkPath(index))
      try writer.append([SampleLog.outputsName: tensor.storedBytes])
    }
    let hashes = try writer.finish()
    try SampleLog(path: work.resultPath).check(hashes)
    try work.publish()
  }
}

extension Tensor {
  /// The stored bytes, little-endian.
  fileprivate var storedBytes: [UInt8] {
    withBytes { span in unsafe span.withUnsafeBytes { unsafe [UInt8]($0) } }
  }
}

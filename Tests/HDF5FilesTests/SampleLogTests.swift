import Checkpoints
import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import HDF5Files

/// Logs of samples: what was written is read, interrupted runs go on, and strangers' files are errors in one line.
@Suite(.serialized) struct SampleLogTests {
  static func manifest(views: Int = 3, samples: Int = 40, outputs: Int = 7) -> SampleLogManifest {
    SampleLogManifest(
      teacher: "teacher", teacherHash: "a", samplesHash: "b", samples: samples, outputs: outputs,
      areLogits: true, views: views, augmentation: "flip", seed: 4)
  }

  static func rows(_ count: Int, _ name: String) -> Matrix {
    var stream = RandomStream(test: name)
    return Matrix(
      rows: count, columns: 7, values: (0..<count * 7).map { _ in Float(8 * stream.gaussian()) })
  }

  static func write(_ parts: [Matrix], to path: String) throws {
    let writer = try SampleLogWriter(path: path, manifest: manifest(), key: "k", force: false)
    for part in parts { try writer.append(part) }
    try writer.finish()
  }

  @Test func logitsAreKeptToTheirSteps() throws {
    let folder = try TemporaryFolder(), path = folder.file("l.h5")
    let parts = [Self.rows(64, "first"), Self.rows(56, "second")]
    try Self.write(parts, to: path)
    #expect(try SampleLog.isLog(path))
    #expect(try !TeacherLog.isLog(path))
    let log = try SampleLog(path: path)
    #expect(log.manifest == Self.manifest())
    let all = Matrix.stack(parts)
    let rows = [0, 119, 64, 63, 80].map { ($0 % 40, $0 / 40) }
    let found = try log.outputs(rows: rows.map { log.row(ofSample: $0.0, view: $0.1) })
    for (index, place) in rows.enumerated() {
      let row = place.1 * 40 + place.0
      let own = Array(all.values[all.range(ofRow: row)]), largest = own.max() ?? 0
      let read = Array(found.values[found.range(ofRow: index)])
      #expect(read.max() == 0)
      #expect(zip(read, own).allSatisfy { abs($0 - ($1 - largest)) <= 0.5 / 1024 + 1e-5 })
    }
    try log.requireMatch(samplesHash: "b", samples: 40, outputs: 7)
    for (hash, samples, outputs) in [("c", 40, 7), ("b", 41, 7), ("b", 40, 8)] {
      #expect(throws: CheckpointError.self) {
        try log.requireMatch(samplesHash: hash, samples: samples, outputs: outputs)
      }
    }
  }

  /// Interrupted behind a chunk, the run ends in the same bytes.
  @Test func runsGoOn() throws {
    let folder = try TemporaryFolder()
    let parts = [Self.rows(64, "first"), Self.rows(56, "second")]
    try Self.write(parts, to: folder.file("whole.h5"))
    let path = folder.file("resumed.h5")
    do {
      let writer = try SampleLogWriter(
        path: path, manifest: Self.manifest(), key: "k", force: false)
      try writer.append(parts[0])
    }
    let writer = try SampleLogWriter(path: path, manifest: Self.manifest(), key: "k", force: false)
    #expect(writer.rowCount == 64)
    try writer.append(parts[1])
    try writer.finish()
    #expect(
      try Data(contentsOf: URL(filePath: path))
        == Data(contentsOf: URL(filePath: folder.file("whole.h5"))))
    #expect(FilePath.kind(of: path + ".partial") == nil)
    // Another work begins anew, and what stands there is not replaced unasked.
    #expect(throws: CheckpointError.self) {
      _ = try SampleLogWriter(path: path, manifest: Self.manifest(), key: "k", force: false)
    }
    let other = try SampleLogWriter(path: path, manifest: Self.manifest(), key: "x", force: true)
    #expect(other.rowCount == 0)
    other.abandon()
  }

  @Test func liesAreNamed() throws {
    let folder = try TemporaryFolder()
    func problem(
      _ manifest: String, _ columns: [HDF5ColumnWriter.Column], _ values: [Float]
    ) throws -> String {
      let path = folder.file("x\(values.count)\(manifest.count).h5")
      var writer = try HDF5ColumnWriter(
        path: path, columns: columns, attributes: [(SampleLog.manifestAttribute, manifest)])
      let bytes = values.flatMap { value in
        (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) }
      }
      try writer.append(["outputs": bytes])
      _ = try writer.finish()
      do {
        let log = try SampleLog(path: path)
        _ = try log.outputs(rows: Array(0..<log.manifest.rows))
        return "nothing"
      } catch {
        return "\(error)"
      }
    }
    let text = Self.manifest(views: 1, samples: 2).json.compactText
    let column = HDF5ColumnWriter.Column(name: "outputs", dtype: .float32, width: [7], chunkRows: 2)
    let numbers = [Float](repeating: 1, count: 14)
    #expect(try problem(text, [column], numbers) == "nothing")
    #expect(
      try problem(text, [column], numbers.dropLast() + [.nan]).contains("'outputs, row 1'"))
    #expect(try problem(text, [column], Array(numbers.prefix(7))).contains("has shape [1, 7]"))
    #expect(
      try problem(text.replacing("\"outputs\":7", with: "\"outputs\":8"), [column], numbers)
        .contains("has shape"))
    #expect(
      try problem(text.replacing("\"version\":1", with: "\"version\":9"), [column], numbers)
        .contains("version 9"))
    #expect(
      try problem(text.replacing("\"samples\":2", with: "\"samples\":0"), [column], numbers)
        .contains("samples 0"))
    #expect(try problem("{", [column], numbers).contains("condense_sample_log"))
    // Cut and changed files: an error or the right answer, never a crash.
    let path = folder.file("l.h5")
    try Self.write([Self.rows(64, "first"), Self.rows(56, "second")], to: path)
    let bytes = try FilePath.read(path)
    var stream = RandomStream(test: "log mutations")
    for index in 0..<60 {
      var changed = bytes
      if index % 3 == 0 {
        changed.removeLast(stream.integer(below: bytes.count))
      } else {
        for _ in 0..<3 {
          changed[stream.integer(below: bytes.count)] = UInt8(stream.integer(below: 256))
        }
      }
      let broken = folder.file("broken.h5")
      try Data(changed).write(to: URL(filePath: broken))
      guard let log = try? SampleLog(path: broken) else { continue }
      _ = try? log.outputs(rows: Array(0..<min(log.manifest.rows, 120)))
    }
  }
}

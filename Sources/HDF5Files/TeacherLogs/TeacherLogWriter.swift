// Writes teacher logs. Windows come in chunks, each a file of the work folder that appears when it is complete: a
// crash loses at most the chunk that was being filled. At the end the log is made of the chunks, read back, and
// given its name.
//
//   LOG.h5.partial/  lock, key, chunks/000000.safetensors …, result, finished

import Checkpoints
import Glibc
import JSONDocuments
import Tensors

/// Writes one log, which appears under its name when it is finished.
public final class TeacherLogWriter {
  /// The output.
  public let path: String
  /// Whether an interrupted run of the same work came to its end: the log stands under its name.
  public let isFinished: Bool
  /// Whether chunks of an interrupted run were found.
  public var wasResumed: Bool { resumedWindows > 0 }
  /// Windows so far: those of an interrupted run, and those that were appended.
  public private(set) var windowCount = 0

  private let manifest: TeacherLogManifest
  private let windowsPerChunk: Int
  private let force: Bool
  private let workPath: String
  private var lock: Int32 = -1
  private var chunkCount = 0
  private var resumedWindows = 0
  private var pending: [TeacherLogWindow] = []

  private var resultPath: String { FilePath.join(workPath, "result") }
  private var finishedPath: String { FilePath.join(workPath, "finished") }

  /// Starts a log, or goes on with one that was interrupted.
  ///
  /// - Parameters:
  ///   - key: The hash of everything that the log depends on besides the manifest; only the same work is resumed.
  ///   - windowsPerChunk: What a crash may lose.
  ///   - force: Replace an existing output.
  public init(
    path: String, manifest: TeacherLogManifest, key: String, windowsPerChunk: Int,
    force: Bool = false
  ) throws {
    precondition(windowsPerChunk > 0)
    self.path = path
    self.manifest = manifest
    self.windowsPerChunk = windowsPerChunk
    self.force = force
    workPath = path + ".partial"
    let parent = FilePath.folder(of: path)
    guard FilePath.kind(of: parent) == .folder else {
      throw FileError(path: parent, operation: "create", code: ENOENT)
    }
    let wholeKey = ContentHash.of(
      Array((manifest.json.compactText + "\n\(key)\n\(windowsPerChunk)").utf8))
    let keyPath = FilePath.join(workPath, "key")
    let storedKey = (try? FilePath.read(keyPath)).map { String(decoding: $0, as: UTF8.self) }
    if FilePath.kind(of: path) != nil {
      // The rename is the last step but one: the work folder without its result says that it happened.
      if storedKey == wholeKey, FilePath.kind(of: FilePath.join(workPath, "finished")) != nil,
        FilePath.kind(of: FilePath.join(workPath, "result")) == nil
      {
        isFinished = true
        try FilePath.remove(workPath)
        return
      }
      guard force else { throw CheckpointError(path: path, .outputExists) }
    }
    isFinished = false
    try FilePath.makeFolder(workPath)
    lock = unsafe open(
      FilePath.join(workPath, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0o644 as mode_t)
    guard lock >= 0 else { throw FileError(path: workPath, operation: "create", code: errno) }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      throw CheckpointError(path: path, .outputBusy)
    }
    if storedKey != wholeKey {
      for name in try FilePath.names(in: workPath) where name != "lock" {
        try FilePath.remove(FilePath.join(workPath, name))
      }
      try OutputFile.write(wholeKey, to: keyPath)
    }
    try FilePath.makeFolder(FilePath.join(workPath, "chunks"))
    try FilePath.remove(resultPath)
    try FilePath.remove(finishedPath)
    while FilePath.kind(of: chunkPath(chunkCount)) == .file {
      windowCount += try TeacherLogBlock.windowCount(of: chunkPath(chunkCount))
      chunkCount += 1
    }
    resumedWindows = windowCount
  }

  deinit { if lock >= 0 { close(lock) } }

  private func chunkPath(_ index: Int) -> String {
    let digits = String(index)
    return FilePath.join(
      FilePath.join(workPath, "chunks"),
      String(repeating: "0", count: max(0, 6 - digits.count)) + digits + ".safetensors")
  }

  /// Appends windows; a full chunk is on disk before the call returns.
  public func append(_ windows: [TeacherLogWindow]) throws {
    for window in windows {
      check(window)
      pending.append(window)
      windowCount += 1
      if pending.count == windowsPerChunk { try flush() }
    }
  }

  /// What our own code must give: lists of the lengths that the rows ask for, ids of the vocabulary.
  private func check(_ window: TeacherLogWindow) {
    let rows = window.rows.count, k = manifest.topCount
    precondition(
      window.tokens.count <= manifest.context
        && window.rows.upperBound < max(1, window.tokens.count)
        && window.trueLogProbabilities.count == rows && window.logSumExps.count == rows
        && window.entropies.count == rows && window.topTokens.count == rows * k
        && window.topLogProbabilities.count == rows * k && window.sampleOffsets.count == rows + 1
        && window.otherMass.count == (manifest.hasOtherMass ? rows : 0)
        && window.hidden.keys.sorted() == manifest.hiddenLayers
        && window.hidden.values.allSatisfy {
          $0.rows == rows && $0.columns == manifest.hiddenWidth
        }, "a window of other sizes than the manifest's")
    let limit = Int32(manifest.vocabulary)
    precondition(
      window.tokens.allSatisfy { (0..<limit).contains($0) }
        && window.topTokens.allSatisfy { (-1..<limit).contains($0) }
        && window.sampleTokens.allSatisfy { (0..<limit).contains($0) }, "an id of no vocabulary")
    let sums = zip(window.sampleOffsets, window.sampleOffsets.dropFirst()).map { from, to in
      window.sampleCounts[from..<to].reduce(0, +)
    }
    precondition(sums.allSatisfy { $0 == Float(manifest.sampleCount) }, "samples of another number")
  }

  private func flush() throws {
    guard !pending.isEmpty else { return }
    try TeacherLogBlock.write(pending, to: chunkPath(chunkCount))
    chunkCount += 1
    pending.removeAll(keepingCapacity: true)
  }

  /// Removes all traces of work that failed for good: bad input leaves nothing behind.
  public func abandon() { try? FilePath.remove(workPath) }

  /// Makes the log of its chunks, reads it back and gives it its name.
  ///
  /// - Parameter progress: Called with the share that is done.
  /// - Returns: The manifest with everything counted.
  public func finish(progress: (Double) -> Void = { _ in }) throws -> TeacherLogManifest {
    try flush()
    let counted = try countedManifest()
    let hashes = try write(counted.manifest, ids: counted.ids) { progress($0 * 0.7) }
    try Self.check(resultPath, counted.manifest, hashes) { progress(0.7 + 0.3 * $0) }
    if FilePath.kind(of: path) != nil {
      guard force else { throw CheckpointError(path: path, .outputExists) }
      try FilePath.remove(path)
    }
    try OutputFile.write("", to: finishedPath)
    try FilePath.rename(resultPath, to: path)
    try FilePath.remove(workPath)
    progress(1)
    return counted.manifest
  }

  private func countedManifest() throws -> (manifest: TeacherLogManifest, ids: [Int32]) {
    var manifest = manifest
    var counts = [Int](repeating: 0, count: manifest.vocabulary)
    var order = TokenOrderHash()
    (manifest.tokens, manifest.rows, manifest.windows) = (0, 0, 0)
    for index in 0..<chunkCount {
      for window in try TeacherLogBlock.read(chunkPath(index), manifest: manifest) {
        TeacherLogEncoder.count(window, into: &counts)
        order.update(window.tokens)
        manifest.tokens += window.tokens.count
        manifest.rows += window.rows.count
        manifest.windows += 1
      }
    }
    manifest.orderHash = order.digits
    return (manifest, TeacherLogEncoder.ids(byFrequency: counts))
  }

  private func write(
    _ manifest: TeacherLogManifest, ids: [Int32], progress: (Double) -> Void
  ) throws -> [String: String] {
    let layout = TeacherLogLayout(manifest: manifest)
    let encoder = TeacherLogEncoder(manifest: manifest, ids: ids)
    var writer = try HDF5ColumnWriter(
      path: resultPath,
      columns: layout.columns.map {
        .init(
          name: $0.name, dtype: $0.dtype, width: $0.width,
          chunkRows: Self.chunkRows($0, manifest))
      },
      attributes: [(TeacherLogLayout.manifestAttribute, manifest.json.compactText)])
    try writer.append([
      TeacherLogLayout.ids: ids.flatMap { id in
        (0..<4).map { UInt8(truncatingIfNeeded: id >> (8 * $0)) }
      }
    ])
    for index in 0..<chunkCount {
      let windows = try TeacherLogBlock.read(chunkPath(index), manifest: manifest)
      let parts = ParallelLoop.map(windows.count) { encoder.encode(windows[$0]) }
      var whole: [String: [UInt8]] = [:]
      for part in parts { whole.merge(part) { $0 + $1 } }
      try writer.append(whole)
      progress(Double(index + 1) / Double(chunkCount))
    }
    return try writer.finish()
  }

  /// Rows of a chunk: small ones for windows in random order, but no more than some thousand chunks, as listing them
  /// takes the square of their number.
  static func chunkRows(_ column: TeacherLogLayout.Column, _ manifest: TeacherLogManifest) -> Int {
    var rows = 8192
    while manifest.rows / rows > 2048 { rows *= 2 }
    switch column.axis {
    case .window: return max(1024, rows / 8)
    case .id: return max(1, min(manifest.vocabulary, 1 << 16))
    case .tailHigh: return rows * 16
    case .tailLow: return rows * 8
    case .token, .row:
      while rows > 64, rows * column.rowBytes > 4 << 20 { rows /= 2 }
      return rows
    }
  }

  /// Reads a log and compares it with what was written.
  private static func check(
    _ path: String, _ manifest: TeacherLogManifest, _ hashes: [String: String],
    progress: (Double) -> Void
  ) throws {
    let log = try TeacherLog(path: path)
    for column in log.file.columns.values.sorted(by: { $0.name < $1.name }) {
      let hash = try log.hash(of: column)
      guard let expected = hashes[column.name], expected == hash else {
        throw CheckpointError(
          path: path, tensor: column.name,
          .hashMismatch(found: hash, expected: hashes[column.name] ?? "none"))
      }
    }
    var order = TokenOrderHash()
    for first in stride(from: 0, to: log.windowCount, by: 256) {
      for window in try log.windows(first..<min(first + 256, log.windowCount)) {
        order.update(window.tokens)
      }
      progress(Double(first) / Double(log.windowCount))
    }
    try TeacherLog.requireMatch(log.manifest, .init(orderHash: order.digits), path: path)
  }
}

/// The hash of windows in their order: of each its number of tokens and its ids, 4 bytes each.
public struct TokenOrderHash: Sendable {
  private var hash = ContentHash()

  /// The hash of no windows.
  public init() {}

  /// Adds a window.
  public mutating func update(_ tokens: [Int32]) {
    let numbers = [Int32(clamping: tokens.count)] + tokens
    let bytes = numbers.flatMap { number in
      (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
    unsafe hash.update(bytes.span.bytes)
  }

  /// The digits.
  public var digits: String { hash.digits }
}

extension TeacherLog {
  /// The hash of a column's bytes.
  func hash(of column: HDF5Column) throws -> String {
    var hash = ContentHash()
    let step = max(1, (8 << 20) / max(1, column.rowBytes))
    for first in stride(from: 0, to: column.rows, by: step) {
      let rows = first..<min(first + step, column.rows)
      file.prepare([.init(column: column, rows: rows)])
      let bytes = try file.read(column, rows)
      unsafe hash.update(bytes.span.bytes)
    }
    return hash.digits
  }
}

extension TeacherLog {
  /// Bytes of the columns before they were deflated.
  public var columnBytes: Int {
    file.columns.values.reduce(0) { $0 + $1.rows * $1.rowBytes }
  }

  /// Whether a file is a teacher log, sound or not; false for everything that is no HDF5 file.
  public static func isLog(_ path: String) throws -> Bool {
    guard FilePath.kind(of: path) == .file else { return false }
    let bytes = try StoredBytes(mapping: path)
    let start = ByteReader(bytes).array(0..<min(bytes.count, 2056))
    guard HDF5Format.recognizes(start, path: "") else { return false }
    return (try? HDF5ColumnFile(path: path))?.attributes[TeacherLogLayout.manifestAttribute] != nil
  }
}

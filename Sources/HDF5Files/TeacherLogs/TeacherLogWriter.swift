// Writes teacher logs. Windows come in chunks; at the end the log is made of the chunks, read back, and given its name.

import Checkpoints
import JSONDocuments
import Tensors

/// Writes one log, which appears under its name when it is finished.
public final class TeacherLogWriter {
  /// The output.
  public var path: String { work.path }
  /// Whether an interrupted run of the same work came to its end: the log stands under its name.
  public var isFinished: Bool { work.isFinished }
  /// Whether chunks of an interrupted run were found.
  public var wasResumed: Bool { resumedWindows > 0 }
  /// Windows so far: those of an interrupted run, and those that were appended.
  public private(set) var windowCount = 0

  private let work: LogWork
  private let manifest: TeacherLogManifest
  private let windowsPerChunk: Int
  private let resumedWindows: Int
  private var pending: [TeacherLogWindow] = []

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
    self.manifest = manifest
    self.windowsPerChunk = windowsPerChunk
    work = try LogWork(
      path: path, key: manifest.json.compactText + "\n\(key)\n\(windowsPerChunk)", force: force)
    for index in 0..<work.chunkCount {
      windowCount += try TeacherLogBlock.windowCount(of: work.chunkPath(index))
    }
    resumedWindows = windowCount
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
    try work.add { try TeacherLogBlock.write(pending, to: $0) }
    pending.removeAll(keepingCapacity: true)
  }

  /// Removes all traces of work that failed for good: bad input leaves nothing behind.
  public func abandon() { work.abandon() }

  /// Makes the log of its chunks, reads it back and gives it its name.
  ///
  /// - Parameter progress: Called with the share that is done.
  /// - Returns: The manifest with everything counted.
  public func finish(progress: (Double) -> Void = { _ in }) throws -> TeacherLogManifest {
    try flush()
    let counted = try countedManifest()
    let hashes = try write(counted.manifest, ids: counted.ids) { progress($0 * 0.7) }
    try Self.check(work.resultPath, counted.manifest, hashes) { progress(0.7 + 0.3 * $0) }
    try work.publish()
    progress(1)
    return counted.manifest
  }

  private func countedManifest() throws -> (manifest: TeacherLogManifest, ids: [Int32]) {
    var manifest = manifest
    var counts = [Int](repeating: 0, count: manifest.vocabulary)
    var order = TokenOrderHash()
    (manifest.tokens, manifest.rows, manifest.windows) = (0, 0, 0)
    for index in 0..<work.chunkCount {
      for window in try TeacherLogBlock.read(work.chunkPath(index), manifest: manifest) {
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
      path: work.resultPath,
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
    for index in 0..<work.chunkCount {
      let windows = try TeacherLogBlock.read(work.chunkPath(index), manifest: manifest)
      let parts = ParallelLoop.map(windows.count) { encoder.encode(windows[$0]) }
      var whole: [String: [UInt8]] = [:]
      for part in parts { whole.merge(part) { $0 + $1 } }
      try writer.append(whole)
      progress(Double(index + 1) / Double(work.chunkCount))
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
    try log.file.check(hashes)
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
  /// Bytes of the columns before they were deflated.
  public var columnBytes: Int { file.columnBytes }

  /// Whether a file is a teacher log of text, sound or not; false for everything that is no HDF5 file.
  public static func isLog(_ path: String) throws -> Bool {
    try HDF5ColumnFile.has(TeacherLogLayout.manifestAttribute, path)
  }
}

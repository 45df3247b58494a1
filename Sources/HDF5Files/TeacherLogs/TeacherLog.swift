// Reads teacher logs. Nobody vouches for a log: its structure is walked by a process of its own, its chunks are
// inflated here, and everything that a window holds is checked before it is given away.

import Checkpoints
import Tensors

/// A teacher log that is open. Windows are read by any number of threads.
public final class TeacherLog: Sendable {
  /// What the log says of itself.
  public let manifest: TeacherLogManifest
  let file: HDF5ColumnFile
  private let layout: TeacherLogLayout
  private let columns: [(TeacherLogLayout.Column, HDF5Column)]
  private let decoder: TeacherLogDecoder
  private let sizes: [TeacherLogDecoder.Sizes]
  /// Where the parts of each window start; one more than windows.
  private let starts: [TeacherLogDecoder.Sizes]

  /// The file, as the caller named it.
  public var path: String { file.path }
  /// Windows of the log.
  public var windowCount: Int { sizes.count }
  /// Bytes of the file.
  public var byteCount: Int { file.bytes.count }

  /// Opens a log and checks its structure; windows are checked as they are read.
  ///
  /// - Throws: `CheckpointError` for a file that is damaged or no teacher log, `FileError` when it cannot be
  ///   opened.
  public init(path: String) throws {
    file = try HDF5ColumnFile(path: path)
    manifest = try file.manifest(
      TeacherLogLayout.manifestAttribute,
      expected: "a teacher log; write one with condense teacher-log",
      read: TeacherLogManifest.init(json:))
    layout = TeacherLogLayout(manifest: manifest)
    columns = try Self.columns(layout, of: file)
    (sizes, starts) = try Self.index(manifest, layout, of: file)
    decoder = TeacherLogDecoder(manifest: manifest, ids: try Self.ids(manifest, of: file))
  }

  /// Every column with the type and the shape that the manifest gives it, and no other.
  private static func columns(
    _ layout: TeacherLogLayout, of file: HDF5ColumnFile
  ) throws(CheckpointError) -> [(TeacherLogLayout.Column, HDF5Column)] {
    let manifest = layout.manifest
    var result: [(TeacherLogLayout.Column, HDF5Column)] = []
    for column in layout.columns {
      guard let found = file.columns[column.name] else {
        throw CheckpointError(path: file.path, tensor: column.name, .tensorNotFound)
      }
      guard found.dtype == column.dtype else {
        throw CheckpointError(
          path: file.path, tensor: column.name,
          .typeMismatch(found: found.dtype, expected: column.dtype.rawValue))
      }
      let rows: Int
      switch column.axis {
      case .window: rows = manifest.windows
      case .id: rows = manifest.vocabulary
      case .token: rows = manifest.tokens
      case .row: rows = manifest.rows
      case .tailHigh, .tailLow: rows = found.rows
      }
      guard found.shape == [rows] + column.width else {
        throw CheckpointError(
          path: file.path, tensor: column.name,
          .shapeMismatch(found: found.shape, expected: [rows] + column.width))
      }
      result.append((column, found))
    }
    return result
  }

  /// The rows of a column that are read as a whole, as numbers of four bytes.
  private static func words(
    _ name: String, of file: HDF5ColumnFile
  ) throws(CheckpointError) -> [Int] {
    guard let column = file.columns[name] else {
      throw CheckpointError(path: file.path, tensor: name, .tensorNotFound)
    }
    let limit = DecodedLimit.bytes(fileBytes: file.bytes.count)
    guard column.rows <= limit / max(1, column.rowBytes) else {
      throw CheckpointError(
        path: file.path, tensor: name,
        .tooLarge(
          what: "its elements take",
          bytes: column.rows.multipliedReportingOverflow(
            by: column.rowBytes
          ).partialValue, limit: limit))
    }
    let bytes = try file.read(column, 0..<column.rows)
    return (0..<bytes.count / 4).map { index in
      (0..<4).reduce(0) { $0 | Int(bytes[4 * index + $1]) << (8 * $1) }
    }
  }

  private static func ids(
    _ manifest: TeacherLogManifest, of file: HDF5ColumnFile
  ) throws(CheckpointError) -> [Int32] {
    let words = try words(TeacherLogLayout.ids, of: file)
    var isSeen = [Bool](repeating: false, count: manifest.vocabulary)
    for word in words {
      guard word < isSeen.count, !isSeen[word] else {
        throw CheckpointError(
          path: file.path, tensor: TeacherLogLayout.ids,
          .badValue(found: "id \(word)", expected: "every id below \(isSeen.count) once"))
      }
      isSeen[word] = true
    }
    return words.map { Int32($0) }
  }

  private static func index(
    _ manifest: TeacherLogManifest, _ layout: TeacherLogLayout, of file: HDF5ColumnFile
  ) throws(CheckpointError) -> ([TeacherLogDecoder.Sizes], [TeacherLogDecoder.Sizes]) {
    let words = try words(TeacherLogLayout.windows, of: file)
    var sizes: [TeacherLogDecoder.Sizes] = []
    var start = TeacherLogDecoder.Sizes()
    var starts = [start]
    let fields = TeacherLogLayout.windowFields
    for window in 0..<words.count / fields {
      let own = TeacherLogDecoder.Sizes(
        tokens: words[window * fields], firstRow: words[window * fields + 1],
        rows: words[window * fields + 2], tailHigh: words[window * fields + 3],
        tailLow: words[window * fields + 4])
      guard own.tokens <= manifest.context, own.firstRow + own.rows <= max(0, own.tokens - 1) else {
        throw CheckpointError(
          path: file.path, tensor: TeacherLogLayout.windows,
          .badValue(
            found:
              "window \(window) of \(own.tokens) tokens, rows \(own.firstRow) and \(own.rows) more",
            expected: "rows in front of a token of the window"))
      }
      start.tokens += own.tokens
      start.rows += own.rows
      start.tailHigh += own.tailHigh
      start.tailLow += own.tailLow
      sizes.append(own)
      starts.append(start)
    }
    func check(_ what: String, _ found: Int, _ expected: Int) throws(CheckpointError) {
      guard found != expected else { return }
      throw CheckpointError(
        path: file.path, tensor: TeacherLogLayout.windows,
        .badValue(found: "\(found) \(what)", expected: "\(expected)"))
    }
    try check("tokens", start.tokens, manifest.tokens)
    try check("rows", start.rows, manifest.rows)
    if manifest.sampleCount > 0 {
      try check(
        "bytes of samples", start.tailHigh, file.columns[TeacherLogLayout.tailHigh]?.rows ?? 0)
      try check(
        "bytes of samples", start.tailLow, file.columns[TeacherLogLayout.tailLow]?.rows ?? 0)
    }
    return (sizes, starts)
  }

  /// One window.
  public func window(_ index: Int) throws -> TeacherLogWindow {
    try windows(index..<index + 1)[0]
  }

  /// Windows that are decoded together: so many rows, or one window.
  private static let rowsAtOnce = 1 << 16

  /// Some windows, in order.
  ///
  /// - Throws: `CheckpointError` for the first window whose bytes are damaged.
  public func windows(_ range: Range<Int>) throws -> [TeacherLogWindow] {
    precondition(range.lowerBound >= 0 && range.upperBound <= windowCount, "windows \(range)")
    var result: [TeacherLogWindow] = []
    result.reserveCapacity(range.count)
    var first = range.lowerBound
    while first < range.upperBound {
      var end = first + 1
      while end < range.upperBound, starts[end + 1].rows - starts[first].rows <= Self.rowsAtOnce {
        end += 1
      }
      file.prepare(requests(first..<end))
      let decoded = ParallelLoop.map(end - first) { offset in
        Result { try self.decode(first + offset) }
      }
      for window in decoded { result.append(try window.get()) }
      first = end
    }
    return result
  }

  private func requests(_ windows: Range<Int>) -> [HDF5ColumnFile.Request] {
    let first = starts[windows.lowerBound], last = starts[windows.upperBound]
    return columns.compactMap { column, found in
      switch column.axis {
      case .window, .id: nil
      case .token: .init(column: found, rows: first.tokens..<last.tokens)
      case .row: .init(column: found, rows: first.rows..<last.rows)
      case .tailHigh: .init(column: found, rows: first.tailHigh..<last.tailHigh)
      case .tailLow: .init(column: found, rows: first.tailLow..<last.tailLow)
      }
    }
  }

  private func decode(_ index: Int) throws(CheckpointError) -> TeacherLogWindow {
    let requests = requests(index..<index + 1)
    let limit = DecodedLimit.bytes(fileBytes: file.bytes.count)
    var parts: [String: [UInt8]] = [:]
    for request in requests {
      guard request.rows.count <= limit / max(1, request.column.rowBytes) else {
        throw CheckpointError(
          path: path, tensor: request.column.name,
          .tooLarge(what: "window \(index) takes more than", bytes: limit, limit: limit))
      }
      parts[request.column.name] = try file.read(request.column, request.rows)
    }
    do throws(TeacherLogDecoder.Failure) {
      return try decoder.window(sizes[index], parts)
    } catch {
      throw CheckpointError(path: path, tensor: "\(error.column) of window \(index)", error.problem)
    }
  }
}

// What is said of a log: after writing one, and by inspect.

import Checkpoints
public import HDF5Files
public import JSONDocuments

extension TeacherLogResult {
  /// The keys of `condense teacher-log --json`.
  public func json(asked: Int?) -> JSONValue {
    var object = JSONObject()
    object["schema"] = 1
    object["format"] = "teacher log"
    for member in manifest.json.object?.members ?? [] { object[member.key] = member.value }
    object["tokens_asked"] = asked.map { .integer($0) } ?? .null
    object["resumed_windows"] = .integer(resumedWindows)
    object["bytes"] = .integer(byteCount)
    object["bytes_per_token"] = .number(bytesPerRow)
    object["column_bytes_per_token"] = .number(columnBytesPerRow)
    return .object(object)
  }

  /// Lines for people.
  public func text(asked: Int?) -> String {
    var lines = ["tokens        \(manifest.tokens)" + (asked.map { " of \($0) asked for" } ?? "")]
    if resumedWindows > 0 { lines.append("resumed       \(resumedWindows) windows were there") }
    lines += [
      "rows          \(manifest.rows) in \(manifest.windows) windows",
      "bytes         \(byteCount), \(Figures.text(bytesPerRow, 2)) a row"
        + " (\(Figures.text(columnBytesPerRow, 2)) before deflating)",
    ]
    return lines.joined(separator: "\n")
  }
}

/// What `condense inspect` says of a teacher log.
public struct TeacherLogInspection: Sendable {
  /// The log's manifest.
  public let manifest: TeacherLogManifest
  /// Bytes of the file, and of its columns before deflating.
  public let byteCount, columnBytes: Int

  /// Looks at a log; nil when the file is none, so that it may be something else.
  public init?(path: String) throws {
    guard try TeacherLog.isLog(path) else { return nil }
    let log = try TeacherLog(path: path)
    manifest = log.manifest
    byteCount = log.byteCount
    columnBytes = log.columnBytes
  }

  /// What `--json` prints.
  public var json: JSONValue {
    var object = JSONObject()
    object["schema"] = 1
    object["format"] = "teacher log"
    for member in manifest.json.object?.members ?? [] { object[member.key] = member.value }
    object["bytes"] = .integer(byteCount)
    object["column_bytes"] = .integer(columnBytes)
    return .object(object)
  }

  /// The line that says what a log takes.
  static func sizes(_ byteCount: Int, _ columnBytes: Int, rows: Int) -> String {
    let rows = Double(max(1, rows))
    return "on disk       \(byteCount) bytes, \(Figures.text(Double(byteCount) / rows, 2)) a row"
      + " (\(Figures.text(Double(columnBytes) / rows, 2)) before deflating)"
  }

  /// Lines for people.
  public var text: String {
    let m = manifest
    func hash(_ digits: String) -> String { String(digits.prefix(16)) }
    var lines = [
      "format        teacher log, version \(m.version)",
      "teacher       \(m.teacher) (\(m.source.rawValue), sha256 \(hash(m.teacherHash))…)",
      "tokenizer     sha256 \(hash(m.tokenizerHash))…, \(m.vocabulary) ids",
      "text          sha256 \(hash(m.textHash))…, order \(hash(m.orderHash))…",
      "tokens        \(m.tokens) in \(m.windows) windows of at most \(m.context), \(m.rows) rows",
      "a row         top \(m.topCount)"
        + (m.sampleCount > 0 ? ", \(m.sampleCount) samples at temperature \(m.temperature)" : ""),
    ]
    if let template = m.templateHash { lines.append("template      sha256 \(hash(template))…") }
    if !m.hiddenLayers.isEmpty {
      let layers = m.hiddenLayers.map(String.init).joined(separator: ", ")
      lines.append("hidden        layers \(layers), \(m.hiddenWidth) values")
    }
    lines.append(Self.sizes(byteCount, columnBytes, rows: m.rows))
    return lines.joined(separator: "\n")
  }
}

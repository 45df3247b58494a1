// What a long search has measured so far, on disk, so that an interrupted run need not measure it again.

import Checkpoints
import JSONDocuments

/// Figures by the words for what was measured.
final class SearchJournal {
  private let path: String?
  private var figures: [String: Double] = [:]
  private var order: [String] = []

  /// A journal in a file that the same work alone reads; nil keeps nothing.
  init(path: String?) throws {
    self.path = path
    guard let path, FilePath.kind(of: path) == .file else { return }
    for member in try JSONValue(parsing: try FilePath.read(path)).object?.members ?? [] {
      guard let value = member.value.number else { continue }
      order.append(member.key)
      figures[member.key] = value
    }
  }

  /// A figure, measured unless an earlier run did.
  func figure(_ words: String, _ measure: () throws -> Double) throws -> Double {
    if let known = figures[words] { return known }
    let value = try measure()
    figures[words] = value
    order.append(words)
    if let path {
      var object = JSONObject()
      for key in order { object[key] = figures[key].map { .number($0) } }
      try OutputFile.write(JSONValue.object(object).compactText, to: path)
    }
    return value
  }
}

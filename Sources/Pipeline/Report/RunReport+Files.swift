// The three files of a report.

internal import Foundation
internal import JSONDocuments

extension RunReport {
  /// Writes `drift.json`, `report.md` and `report.html` into a folder that is there.
  ///
  /// Each file appears under its name only when it is complete.
  public func write(to directory: String) throws {
    let files = [
      ("drift.json", json.indentedText + "\n"), ("report.md", markdown), ("report.html", html),
    ]
    for (name, text) in files {
      let file = URL(filePath: directory).appending(path: name)
      try Data(text.utf8).write(to: file, options: .atomic)
    }
  }
}

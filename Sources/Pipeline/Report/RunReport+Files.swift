// The three files of a report.

import Checkpoints
import JSONDocuments

extension RunReport {
  /// Writes `drift.json`, `report.md` and `report.html` into a folder that is there.
  ///
  /// Each file appears under its name only when it is complete.
  public func write(to folder: String) throws {
    try OutputFile.write(json.indentedText + "\n", to: FilePath.join(folder, "drift.json"))
    try OutputFile.write(markdown, to: FilePath.join(folder, "report.md"))
    try OutputFile.write(html, to: FilePath.join(folder, "report.html"))
  }

  /// Reads the `drift.json` of a run.
  ///
  /// - Throws: `CheckpointError` with the file and what is wrong in it.
  public static func read(_ path: String) throws -> RunReport {
    let json = try CheckpointFolder.json(at: path)
    do throws(RunReportError) {
      return try RunReport(json: json)
    } catch {
      throw CheckpointError(path: path, .unsupported("this document: \(error)"))
    }
  }
}

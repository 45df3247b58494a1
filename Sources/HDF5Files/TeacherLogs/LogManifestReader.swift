// Members of a log's manifest, each checked as it is read.

import Checkpoints
import JSONDocuments

/// Reads a manifest's members.
struct LogManifestReader {
  let json: JSONValue

  /// A whole number within limits.
  func integer(
    _ key: String, _ range: ClosedRange<Int>
  ) throws(CheckpointError.Problem) -> Int {
    guard let value = json[key]?.integer else {
      throw .missing(key: key, expected: "an integer")
    }
    guard range.contains(value) else {
      throw .badValue(
        found: "\(key) \(value)", expected: "\(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  /// A text.
  func text(_ key: String) throws(CheckpointError.Problem) -> String {
    guard let value = json[key]?.string else { throw .missing(key: key, expected: "a string") }
    return value
  }
}

extension HDF5ColumnFile {
  /// The manifest in an attribute of the root.
  ///
  /// - Parameters:
  ///   - expected: What a file with the attribute is, and how one is made.
  ///   - read: Makes the manifest of its JSON.
  func manifest<Manifest>(
    _ attribute: String, expected: String,
    read: (JSONValue) throws(CheckpointError.Problem) -> Manifest
  ) throws(CheckpointError) -> Manifest {
    guard let text = attributes[attribute] else {
      throw CheckpointError(
        path: path,
        .badValue(found: "an HDF5 file without the attribute '\(attribute)'", expected: expected))
    }
    do throws(CheckpointError.Problem) {
      return try read(Self.json(text))
    } catch {
      throw CheckpointError(path: path, tensor: attribute, error)
    }
  }

  private static func json(_ text: String) throws(CheckpointError.Problem) -> JSONValue {
    do throws(JSONError) { return try JSONValue(parsing: text) } catch { throw .badHeader(error) }
  }
}

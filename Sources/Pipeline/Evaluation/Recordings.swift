// Recordings that a speech recognizer is measured on or calibrated with: WAV files, or arrays of features.

import Calibration
import Checkpoints
import CondenseInference
import Networks
import Speech
import Tensors

/// Recordings, whose features are made when they are needed.
struct Recordings {
  private enum Source {
    case sound(path: String)
    case row(of: SampleArray, Int)
  }

  /// The files, folders replaced by theirs.
  let files: [String]
  /// What each recording is called: its file's name, and for one of an array its number in brackets.
  let names: [String]
  private let sources: [Source]

  /// How many there are.
  var count: Int { sources.count }

  /// - Parameters:
  ///   - paths: WAV files, folders of them, and arrays `[recordings, frames, bands]` in NumPy's format.
  ///   - limit: At most so many, from the start; nil takes all.
  init(_ paths: [String], for network: any SpeechRecognizer, limit: Int? = nil) throws {
    var names: [String] = [], sources: [Source] = []
    files = try Self.files(paths)
    for path in files {
      let name = FilePath.name(of: path)
      guard path.lowercased().hasSuffix(".npy") else {
        names.append(name)
        sources.append(.sound(path: path))
        continue
      }
      let array = try SampleArray(path: path, shape: network.input)
      for row in 0..<array.count {
        names.append("\(name)[\(row)]")
        sources.append(.row(of: array, row))
      }
    }
    self.names = Array(names.prefix(limit ?? .max))
    self.sources = Array(sources.prefix(limit ?? .max))
  }

  /// The files of some paths.
  static func files(_ paths: [String]) throws -> [String] {
    try SampleFiles.find(
      paths, endings: [".wav"], found: "a folder without sounds", expected: "WAV files")
  }

  /// The windows of one recording as the network reads them, `[frames, bands]` each.
  func windows(of index: Int, _ features: LogMel) throws -> [Matrix] {
    switch sources[index] {
    case .sound(let path): try Self.windows(of: path, features)
    case .row(let array, let row): [array.features(row..<row + 1, SampleNormalization())]
    }
  }

  private static func windows(of path: String, _ features: LogMel) throws -> [Matrix] {
    features.windows(of: try Sound(wav: path)).map { features.features(of: $0) }
  }

  /// The transcripts in a file: a line a recording, with its name, a tab and the text. Lines of other recordings are
  /// left out.
  ///
  /// - Throws: `TextError` for a line that is something else, `CheckpointError` for a recording without a line.
  func transcripts(in path: String) throws -> [String] {
    let bytes = try FilePath.read(path)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw TextError(path: path, .notUTF8(offset: 0))
    }
    var known: [String: String] = [:]
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    where !line.allSatisfy(\.isWhitespace) {
      let parts = line.split(separator: "\t", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, !parts[0].isEmpty else {
        throw TextError(
          path: path,
          .badLine(line: index + 1, expected: "a recording's file name, a tab and its transcript"))
      }
      let name = FilePath.name(of: String(parts[0]))
      guard
        known.updateValue(
          parts[1].split(whereSeparator: \.isWhitespace).joined(separator: " "), forKey: name)
          == nil
      else {
        throw TextError(
          path: path,
          .badLine(line: index + 1, expected: "each recording once, not '\(name)' again"))
      }
    }
    var seen: Set<String> = []
    return try names.map { name in
      guard seen.insert(name).inserted else {
        throw CheckpointError(
          path: path,
          .badValue(found: "two recordings named '\(name)'", expected: "names that differ"))
      }
      guard let text = known[name] else {
        throw CheckpointError(path: path, .missing(key: name, expected: "its transcript"))
      }
      return text
    }
  }
}

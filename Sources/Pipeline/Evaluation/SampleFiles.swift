import Checkpoints

/// The files that become the samples of an array.
enum SampleFiles {
  /// Files as they are given, and those of the folders by name.
  ///
  /// - Parameters:
  ///   - endings: What the names of a folder's files end in, in small letters.
  ///   - found: What a folder without such files is.
  ///   - expected: What it should hold.
  static func find(
    _ paths: [String], endings: [String], found: String, expected: String
  ) throws -> [String] {
    var files: [String] = []
    for path in paths {
      guard FilePath.kind(of: path) == .folder else {
        files.append(path)
        continue
      }
      let names = try FilePath.names(in: path).filter { name in
        endings.contains { name.lowercased().hasSuffix($0) }
      }
      guard !names.isEmpty else {
        throw CheckpointError(path: path, .badValue(found: found, expected: expected))
      }
      files += names.map { FilePath.join(path, $0) }
    }
    return files
  }
}

// Finished stages by the hash of everything they depend on, so that variants of a recipe share what they
// have in common.

import Checkpoints
import Glibc
import JSONDocuments
import Tensors

/// The folder of finished stages.
public struct StageCache: Sendable {
  /// Where it is.
  public let path: String

  /// The cache in a folder, which is made when it is needed.
  public init(path: String) { self.path = path }

  /// `$XDG_CACHE_HOME/condense` or `~/.cache/condense`; nil when neither is known.
  public static var standardPath: String? {
    func variable(_ name: String) -> String? {
      guard let value = unsafe getenv(name) else { return nil }
      let text = unsafe String(cString: value)
      return text.isEmpty ? nil : text
    }
    if let folder = variable("XDG_CACHE_HOME") { return FilePath.join(folder, "condense") }
    return variable("HOME").map { FilePath.join($0, ".cache/condense") }
  }

  /// The folder of a finished stage.
  func stagePath(_ key: String) -> String { FilePath.join(path, "stages/" + key) }

  /// Figures that were measured of a stage's result.
  func figuresPath(_ key: String) -> String { FilePath.join(path, "figures/" + key + ".json") }

  /// Makes the folders.
  func prepare() throws {
    try FilePath.makeFolder(FilePath.join(path, "stages"))
    try FilePath.makeFolder(FilePath.join(path, "figures"))
  }

  /// A JSON document that was stored; nil when there is none, or none that is whole.
  func figures(_ key: String) -> JSONValue? {
    let path = figuresPath(key)
    guard FilePath.kind(of: path) == .file else { return nil }
    return try? CheckpointFolder.json(at: path)
  }

  /// Stores a JSON document.
  func store(_ figures: JSONValue, key: String) throws {
    try OutputFile.write(figures.indentedText + "\n", to: figuresPath(key))
  }
}

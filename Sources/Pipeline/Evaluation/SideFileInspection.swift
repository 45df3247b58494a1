// What a file is that holds no weights: a tokenizer, a configuration, another JSON document, a text.

import Checkpoints
import JSONDocuments
import Tokenization

/// What `condense inspect` says of a file beside the weights.
public enum SideFileInspection {
  /// A line; nil for a file of none of these kinds.
  public static func description(of path: String) throws -> String? {
    guard FilePath.kind(of: path) == .file else { return nil }
    let bytes = try FilePath.read(path)
    if let tokenizer = try? Tokenizer(contentsOf: bytes, name: path) {
      return "tokenizer of \(tokenizer.vocabularySize) tokens"
    }
    if let json = try? JSONValue(parsing: bytes) {
      if let type = json["model_type"]?.string { return "configuration of a \(type) model" }
      if let members = json.object?.members { return "JSON object of \(members.count) members" }
      return "JSON document"
    }
    guard !bytes.isEmpty, !bytes.contains(0), String(validating: bytes, as: UTF8.self) != nil
    else { return nil }
    return "text of \(bytes.count) bytes"
  }
}

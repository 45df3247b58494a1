// What `embed` and `tokenize` do with files.

import Bundles
import Calibration
import Checkpoints
public import CondenseInference
import Drift
import Networks
public import Tensors
public import Tokenization

/// Embeds the lines of a text.
public enum EmbedRun {
  /// One embedding for each line that is not empty, in order: `[lines, width]`.
  public static func run(
    model: Model, textPath: String, progress: (Double) -> Void = { _ in }
  ) throws -> Matrix {
    let encoder = try model.textEncoder()
    let tokenizer = try model.requiredTokenizer()
    let lines = String(decoding: try FilePath.read(textPath), as: UTF8.self)
      .split(whereSeparator: \.isNewline)
    guard !lines.isEmpty else { throw TextError(path: textPath, .empty) }
    let sequences = lines.map {
      SentenceTokens.ids(of: String($0), tokenizer: tokenizer, length: SentenceLength(of: encoder))
    }
    if let id = sequences.joined().first(where: { Int($0) >= encoder.vocabularySize }) {
      throw TextError(
        path: textPath, .idOutsideVocabulary(id: id, vocabulary: encoder.vocabularySize))
    }
    return EmbeddingEvaluator.embeddings(sequences, encoder, progress: progress)
  }
}

/// The tokenizer of whatever a path names.
public enum ModelTokenizer {
  /// Opens a checkpoint folder's or a bundle's tokenizer, or a tokenizer file itself.
  public static func open(_ path: String) throws -> Tokenizer {
    let isFile = FilePath.kind(of: path) != .folder
    if try !isFile || AnyCheckpoint.formatName(of: path) != nil {
      let checkpoint = try AnyCheckpoint.open(path)
      guard let tokenizer = try Model.tokenizer(of: checkpoint) else {
        throw CheckpointError(path: path, .missingFile("tokenizer.json"))
      }
      return tokenizer
    }
    return try Tokenizer(contentsOf: try FilePath.read(path), name: path)
  }
}

/// The ids of a text file or of standard input.
public func readIds(
  _ path: String, tokenizer: Tokenizer, addSpecialTokens: Bool
) throws -> [Int32] {
  let bytes = try FilePath.read(path)
  do {
    return try tokenizer.encode(utf8: bytes.span, addSpecialTokens: addSpecialTokens)
  } catch {
    guard case .textNotUTF8(let offset) = error.problem else { throw error }
    throw TextError(path: path, .notUTF8(offset: offset))
  }
}

// The tokenizer of a checkpoint as GGUF's metadata.
//
// Source   keys `tokenizer.ggml.*`: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the pieces of
//          SentencePiece: its sentencepiece_model.proto
// Checked  GGUFVocabularyTests: equal to the metadata that llama.cpp's converter writes; llama-tokenize gives
//          our ids (docs/interop.md)

import Checkpoints
import JSONDocuments
import Tokenization

/// Fills in a file's tokenizer.
struct GGUFVocabulary {
  private typealias TokenType = GGUFTokenizer.TokenType

  private let source: any Checkpoint
  private let size: Int
  private var tokens: [[UInt8]]
  private var types: [TokenType]
  private var isNamed: [Bool]

  /// - Parameter size: Rows of the embedding; the tokens are filled up to it.
  init(of source: any Checkpoint, size: Int) {
    self.source = source
    self.size = size
    tokens = (0..<size).map { Array("[PAD\($0)]".utf8) }
    types = [TokenType](repeating: .unused, count: size)
    isNamed = [Bool](repeating: false, count: size)
  }

  /// Adds the keys.
  ///
  /// - Returns: A word to the user when there is no tokenizer.
  mutating func add(to metadata: inout GGUFMetadata) throws -> String? {
    if let file = source as? GGUFCheckpoint {
      // The keys as they are, those too that nothing here reads.
      for key in file.metadata.keys where key.hasPrefix("tokenizer.") {
        metadata[key] = file.metadata[key]
      }
      return nil
    }
    if source.sideFileNames.contains("tokenizer.json") {
      let json = try document("tokenizer.json")
      guard json["model"]?["type"]?.string ?? "BPE" == "BPE" else {
        throw CheckpointError(
          path: path("tokenizer.json"),
          .unsupported("a \(json["model"]?["type"]?.string ?? "?") tokenizer in GGUF (BPE is)"))
      }
      if json["model"]?["byte_fallback"]?.bool == true {
        try addSentencePiece(json, to: &metadata)
      } else {
        try addBytePair(json, to: &metadata)
      }
    } else if source.sideFileNames.contains("tokenizer.model") {
      try addPieces(to: &metadata)
    } else {
      metadata["tokenizer.ggml.model"] = GGUFValue("none")
      return "the checkpoint has no tokenizer: the file will have none"
    }
    try addSpecialTokens(to: &metadata)
    return nil
  }

  private func path(_ name: String) -> String { FilePath.join(source.path, name) }

  private func document(_ name: String) throws -> JSONValue {
    let bytes = try source.sideFile(name)
    do throws(JSONError) {
      return try JSONValue(parsing: bytes)
    } catch {
      throw CheckpointError(path: path(name), .badHeader(error))
    }
  }

  private mutating func set(_ id: Int, _ text: [UInt8], _ type: TokenType) throws {
    guard id >= 0, id < size else {
      throw CheckpointError(
        path: path("tokenizer.json"), tensor: String(decoding: text, as: UTF8.self),
        .badValue(found: "the token id \(id)", expected: "below \(size), the embedding's rows"))
    }
    tokens[id] = text
    types[id] = type
    isNamed[id] = true
  }

  /// The vocabulary and the added tokens of a tokenizer.json.
  private mutating func read(_ json: JSONValue) throws {
    for member in json["model"]?["vocab"]?.object?.members ?? [] {
      try set(member.value.integer ?? -1, Array(member.key.utf8), .normal)
    }
    for token in json["added_tokens"]?.array ?? [] {
      guard let id = token["id"]?.integer, let content = token["content"]?.string else { continue }
      try set(
        id, Array(content.utf8), token["special"]?.bool == true ? .control : .userDefined)
    }
  }

  // MARK: - Byte-level BPE

  private mutating func addBytePair(_ json: JSONValue, to metadata: inout GGUFMetadata) throws {
    try read(json)
    let ignoresMerges = json["model"]?["ignore_merges"]?.bool ?? false
    guard
      let cutting = GGUFPreTokenizer.matching(
        json["pre_tokenizer"] ?? .null, ignoresMerges: ignoresMerges)
    else {
      throw CheckpointError(
        path: path("tokenizer.json"), tensor: "pre_tokenizer",
        .unsupported(
          "this way to cut text in GGUF: \((json["pre_tokenizer"] ?? .null).compactText.prefix(120))"
        ))
    }
    metadata["tokenizer.ggml.model"] = GGUFValue("gpt2")
    metadata["tokenizer.ggml.pre"] = GGUFValue(cutting.name)
    addTokens(to: &metadata)
    let merges: [[UInt8]] = (json["model"]?["merges"]?.array ?? []).map { merge in
      if let text = merge.string { return Array(text.utf8) }
      let pair = merge.array?.compactMap(\.string) ?? []
      return Array(pair.joined(separator: " ").utf8)
    }
    metadata["tokenizer.ggml.merges"] = .array(GGUFArray(merges))
    addFirstToken(json, to: &metadata)
  }

  private func addTokens(to metadata: inout GGUFMetadata) {
    metadata["tokenizer.ggml.tokens"] = .array(GGUFArray(tokens))
    metadata["tokenizer.ggml.token_type"] = .array(GGUFArray(types.map(\.rawValue)))
  }

  /// Whether the template puts a special token before a text; the file says which.
  private func addFirstToken(_ json: JSONValue, to metadata: inout GGUFMetadata) {
    func first(_ processor: JSONValue) -> String? {
      if let parts = processor["processors"]?.array {
        return parts.lazy.compactMap(first).first
      }
      return processor["single"]?.array?.first?["SpecialToken"]?["id"]?.string
    }
    let token = json["post_processor"].flatMap(first)
    metadata["tokenizer.ggml.add_bos_token"] = GGUFValue(token != nil)
    if let token, let id = tokens.firstIndex(of: Array(token.utf8)) {
      metadata["tokenizer.ggml.bos_token_id"] = GGUFValue(id)
    }
  }

  // MARK: - SentencePiece BPE

  /// A tokenizer.json that was made from a SentencePiece model: a token's score is the order of the
  /// first merge that makes it.
  private mutating func addSentencePiece(
    _ json: JSONValue, to metadata: inout GGUFMetadata
  ) throws {
    try read(json)
    if let unknown = json["model"]?["unk_token"]?.string,
      let id = tokens.firstIndex(of: Array(unknown.utf8))
    {
      types[id] = .unknown
    }
    var ranks: [[UInt8]: Int] = [:]
    for (rank, merge) in (json["model"]?["merges"]?.array ?? []).enumerated() {
      let parts =
        merge.array?.compactMap(\.string)
        ?? (merge.string ?? "").split(separator: " ", maxSplits: 1).map(String.init)
      let merged = Array(parts.joined().utf8)
      if ranks[merged] == nil { ranks[merged] = rank }
    }
    let scores = tokens.enumerated().map { id, token -> Float in
      if types[id] == .normal, Self.isByte(token) { types[id] = .byte }
      return types[id] == .normal ? -Float(ranks[token] ?? ranks.count + id) : 0
    }
    let normalizer = (json["normalizer"] ?? .null).compactText
    addSentencePiece(
      scores: scores, prefixes: normalizer.contains("\"Prepend\""), to: &metadata)
    addFirstToken(json, to: &metadata)
  }

  private static func isByte(_ token: [UInt8]) -> Bool {
    token.count == 6 && token.starts(with: Array("<0x".utf8)) && token.last == UInt8(ascii: ">")
  }

  private func addSentencePiece(
    scores: [Float], prefixes: Bool, to metadata: inout GGUFMetadata
  ) {
    metadata["tokenizer.ggml.model"] = GGUFValue("llama")
    metadata["tokenizer.ggml.pre"] = GGUFValue("default")
    metadata["tokenizer.ggml.tokens"] = .array(GGUFArray(tokens))
    metadata["tokenizer.ggml.scores"] = .array(GGUFArray(scores))
    metadata["tokenizer.ggml.token_type"] = .array(GGUFArray(types.map(\.rawValue)))
    metadata["tokenizer.ggml.add_space_prefix"] = GGUFValue(prefixes)
  }

  /// A SentencePiece model itself.
  private mutating func addPieces(to metadata: inout GGUFMetadata) throws {
    let vocabulary = try SentencePieceVocabulary(
      contentsOf: try source.sideFile("tokenizer.model"), name: path("tokenizer.model"))
    var scores = [Float](repeating: 0, count: size)
    for (id, piece) in vocabulary.pieces.enumerated() {
      try set(id, piece.text, TokenType(rawValue: Int32(clamping: piece.type)) ?? .normal)
      scores[id] = piece.score
    }
    addSentencePiece(
      scores: scores, prefixes: vocabulary.addsDummyPrefix, to: &metadata)
    metadata["tokenizer.ggml.add_bos_token"] = GGUFValue(vocabulary.firstID != nil)
    if let id = vocabulary.firstID {
      metadata["tokenizer.ggml.bos_token_id"] = GGUFValue(id)
    }
    if let id = vocabulary.lastID { metadata["tokenizer.ggml.eos_token_id"] = GGUFValue(id) }
  }

  // MARK: - Special tokens

  private func addSpecialTokens(to metadata: inout GGUFMetadata) throws {
    let files = source.sideFileNames
    let tokenizer =
      files.contains("tokenizer_config.json") ? try document("tokenizer_config.json") : .null
    for (key, own) in [
      ("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"),
    ] {
      let configured = source.configuration["\(key)_token_id"]
      let named = tokenizer["\(key)_token"]
      let text = named?.string ?? named?["content"]?.string
      let id =
        configured?.integer ?? configured?.array?.first?.integer
        ?? text.flatMap { text in tokens.firstIndex(of: Array(text.utf8)) }
      // What a template or the model itself put there is what texts begin with.
      let known = metadata["tokenizer.ggml.\(own)_token_id"] != nil
      if let id, id >= 0, id < size, !known {
        metadata["tokenizer.ggml.\(own)_token_id"] = GGUFValue(id)
      }
    }
    if let adds = tokenizer["add_bos_token"]?.bool, metadata["tokenizer.ggml.bos_token_id"] != nil {
      metadata["tokenizer.ggml.add_bos_token"] = GGUFValue(adds)
    }
    if files.contains("chat_template.jinja") {
      metadata["tokenizer.chat_template"] = .string(try source.sideFile("chat_template.jinja"))
    } else if let template = tokenizer["chat_template"]?.string {
      metadata["tokenizer.chat_template"] = GGUFValue(template)
    }
  }
}

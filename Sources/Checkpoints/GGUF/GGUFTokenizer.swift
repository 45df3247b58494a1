// The tokenizer inside a GGUF file, as the tokenizer.json that it came from.
//
// Source   keys `tokenizer.ggml.*`: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; token types:
//          llama.cpp's include/llama.h; the form of SentencePiece BPE in tokenizer.json: what the package
//          transformers writes for Llama 2
// Checked  GGUFTokenizerTests; ids equal llama-tokenize's (docs/interop.md)

import JSONDocuments

/// The tokenizer of a GGUF file.
public enum GGUFTokenizer {
  /// What a token is, with the numbers that files use.
  public enum TokenType: Int32, Sendable {
    /// A piece of text.
    case normal = 1
    /// What stands for anything without a token.
    case unknown
    /// A special token, never found in text by merging.
    case control
    /// Found in text as a whole.
    case userDefined
    /// A hole in the vocabulary.
    case unused
    /// One byte, `<0x0A>`.
    case byte
  }

  /// The side file that `json` makes.
  static let fileName = "tokenizer.json"

  /// Whether the file has a tokenizer that can be read.
  static func isPresent(_ metadata: GGUFMetadata) -> Bool {
    metadata["tokenizer.ggml.model"] != nil && metadata["tokenizer.ggml.tokens"] != nil
  }

  /// The tokenizer.json.
  static func json(_ metadata: GGUFMetadata) throws(CheckpointError.Problem) -> JSONValue {
    guard let tokens = metadata["tokenizer.ggml.tokens"]?.array?.texts else {
      throw .missing(key: "tokenizer.ggml.tokens", expected: "an array of texts")
    }
    let types = try types(metadata, count: tokens.count)
    switch metadata["tokenizer.ggml.model"]?.text {
    case "gpt2": return try bytePair(metadata, tokens, types)
    case "llama": return try sentencePiece(metadata, tokens, types)
    case let model:
      throw .unsupported("the tokenizer model '\(model ?? "none")' (gpt2 and llama are read)")
    }
  }

  private static func types(
    _ metadata: GGUFMetadata, count: Int
  ) throws(CheckpointError.Problem) -> [TokenType] {
    guard let value = metadata["tokenizer.ggml.token_type"] else {
      return [TokenType](repeating: .normal, count: count)
    }
    guard let numbers = value.array?.numbers, numbers.count == count else {
      throw .missing(key: "tokenizer.ggml.token_type", expected: "\(count) integers")
    }
    return numbers.map { TokenType(rawValue: Int32($0)) ?? .normal }
  }

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

  // MARK: - Byte-level BPE

  private static func bytePair(
    _ metadata: GGUFMetadata, _ tokens: [[UInt8]], _ types: [TokenType]
  ) throws(CheckpointError.Problem) -> JSONValue {
    let name = metadata["tokenizer.ggml.pre"]?.text ?? "default"
    // Files without a name are older than the names; llama.cpp warns and cuts as GPT-2 does, nearly.
    guard let cutting = GGUFPreTokenizer.named(name == "default" ? "gpt-2" : name) else {
      throw .unsupported("the pre-tokenizer '\(name)'")
    }
    guard let merges = metadata["tokenizer.ggml.merges"]?.array?.texts else {
      throw .missing(key: "tokenizer.ggml.merges", expected: "an array of texts")
    }
    var model = JSONObject()
    model["type"] = "BPE"
    model["ignore_merges"] = .bool(cutting.ignoresMerges)
    model["vocab"] = vocabulary(tokens, types)
    model["merges"] = .array(merges.map { .string(text($0)) })
    var document = document(added(tokens, types))
    if cutting.normalizes { document["normalizer"] = ["type": "NFC"] }
    document["pre_tokenizer"] = cutting.json
    let opens = metadata["tokenizer.ggml.add_bos_token"]?.bool ?? (cutting.name == "llama-bpe")
    if let template = template(metadata, tokens, opens: opens) {
      document["post_processor"] = template
    }
    document["decoder"] = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    ]
    document["model"] = .object(model)
    return .object(document)
  }

  // MARK: - SentencePiece BPE

  private static func sentencePiece(
    _ metadata: GGUFMetadata, _ tokens: [[UInt8]], _ types: [TokenType]
  ) throws(CheckpointError.Problem) -> JSONValue {
    guard let scores = metadata["tokenizer.ggml.scores"]?.array?.numbers,
      scores.count == tokens.count
    else {
      throw .missing(key: "tokenizer.ggml.scores", expected: "\(tokens.count) numbers")
    }
    var model = JSONObject()
    model["type"] = "BPE"
    if let id = types.firstIndex(of: .unknown) { model["unk_token"] = .string(text(tokens[id])) }
    model["fuse_unk"] = true
    model["byte_fallback"] = .bool(types.contains(.byte))
    model["vocab"] = vocabulary(tokens, types)
    model["merges"] = .array(merges(tokens, scores))
    var document = document(added(tokens, types))
    let prefixes = metadata["tokenizer.ggml.add_space_prefix"]?.bool ?? true
    let escape: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": "▁"]
    document["normalizer"] =
      prefixes
      ? [
        "type": "Sequence",
        "normalizers": [["type": "Prepend", "prepend": "▁"], escape],
      ] : escape
    if let template = template(
      metadata, tokens, opens: metadata["tokenizer.ggml.add_bos_token"]?.bool ?? true)
    {
      document["post_processor"] = template
    }
    var decoders: [JSONValue] = [
      ["type": "Replace", "pattern": ["String": "▁"], "content": " "], ["type": "ByteFallback"],
      ["type": "Fuse"],
    ]
    if prefixes { decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    document["decoder"] = ["type": "Sequence", "decoders": .array(decoders)]
    document["model"] = .object(model)
    return .object(document)
  }

  /// Every split of a token into two tokens is a merge; the token with the higher score goes first.
  private static func merges(_ tokens: [[UInt8]], _ scores: [Double]) -> [JSONValue] {
    let known = Set(tokens)
    let order = tokens.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }
    var merges: [JSONValue] = []
    for id in order {
      let token = tokens[id]
      for split in token.indices.dropFirst() where token[split] & 0xC0 != 0x80 {
        let left = Array(token[..<split]), right = Array(token[split...])
        guard known.contains(left), known.contains(right) else { continue }
        merges.append([.string(text(left)), .string(text(right))])
      }
    }
    return merges
  }

  // MARK: - Parts of the document

  private static func document(_ added: [JSONValue]) -> JSONObject {
    var object = JSONObject()
    object["version"] = "1.0"
    object["truncation"] = .null
    object["padding"] = .null
    object["added_tokens"] = .array(added)
    object["normalizer"] = .null
    object["pre_tokenizer"] = .null
    object["post_processor"] = .null
    return object
  }

  private static func vocabulary(_ tokens: [[UInt8]], _ types: [TokenType]) -> JSONValue {
    .object(
      JSONObject(
        zip(tokens, types).enumerated().compactMap { id, token in
          token.1 == .unused
            ? nil : JSONObject.Member(key: text(token.0), value: .integer(id))
        }))
  }

  private static func added(_ tokens: [[UInt8]], _ types: [TokenType]) -> [JSONValue] {
    zip(tokens, types).enumerated().compactMap { id, token in
      guard [.control, .userDefined, .unknown].contains(token.1) else { return nil }
      return [
        "id": .integer(id), "content": .string(text(token.0)), "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false,
        "special": .bool(token.1 != .userDefined),
      ]
    }
  }

  /// The first token before every text, where the file asks for it.
  private static func template(
    _ metadata: GGUFMetadata, _ tokens: [[UInt8]], opens: Bool
  ) -> JSONValue? {
    func token(_ key: String) -> String? {
      metadata["tokenizer.ggml.\(key)_token_id"]?.integer.flatMap {
        tokens.indices.contains($0) ? text(tokens[$0]) : nil
      }
    }
    let first = opens ? token("bos") : nil
    let last = metadata["tokenizer.ggml.add_eos_token"]?.bool == true ? token("eos") : nil
    guard first != nil || last != nil else { return nil }
    func special(_ name: String, _ type: Int) -> JSONValue {
      ["SpecialToken": ["id": .string(name), "type_id": .integer(type)]]
    }
    func one(_ sequence: String, _ type: Int) -> [JSONValue] {
      (first.map { [special($0, type)] } ?? [])
        + [["Sequence": ["id": .string(sequence), "type_id": .integer(type)]]]
        + (last.map { [special($0, type)] } ?? [])
    }
    var names = JSONObject()
    for (key, name) in [("bos", first), ("eos", last)] {
      if let name, let id = metadata["tokenizer.ggml.\(key)_token_id"]?.integer {
        names[name] = [
          "id": .string(name), "ids": [.integer(id)], "tokens": [.string(name)],
        ]
      }
    }
    return [
      "type": "TemplateProcessing", "single": .array(one("A", 0)),
      "pair": .array(one("A", 0) + one("B", 1)), "special_tokens": .object(names),
    ]
  }
}

// Reads tokenizer.json: vocabulary, model and added tokens. The steps around the model are in
// TokenizerFile+Components.
//
// Source   https://huggingface.co/docs/tokenizers/api/models and the serialized form of the package
//          `tokenizers` 0.23

internal import JSONDocuments

/// A tokenizer.json document.
struct TokenizerFile {
  let document: JSONMembers

  init(_ document: JSONValue) throws(TokenizerError.Problem) {
    self.document = try JSONMembers(document, name: "tokenizer")
  }

  /// The whole tokenizer.
  func read() throws(TokenizerError.Problem) -> TokenizerParts {
    let model = try JSONMembers(document.required("model"), name: "model")
    let added = try addedTokens()
    var vocabulary: Vocabulary, limit: Int
    var scores: [Double]?
    if try model.optionalString("type") == "Unigram" {
      (vocabulary, scores) = try scoredTokens(model)
      limit = idLimit(tokens: vocabulary.count + added.count)
    } else {
      let entries = try model.entries("vocab")
      vocabulary = Vocabulary(capacity: entries.count + added.count)
      limit = idLimit(tokens: entries.count + added.count)
      for entry in entries {
        guard let id = entry.value.integer else {
          throw .wrongKind(
            key: "model.vocab.\(entry.key)", expected: "an integer", found: entry.value.kind)
        }
        try vocabulary.add(entry.key.utf8, id: id, limit: limit)
      }
    }
    let normalizer = try document.value("normalizer").map {
      (value) throws(TokenizerError.Problem) in try self.normalizer(value)
    }
    var preTokenizer = try document.value("pre_tokenizer").map {
      (value) throws(TokenizerError.Problem) in try self.preTokenizer(value)
    }
    var words = vocabulary
    for token in added { try words.add(added: token, limit: limit) }
    guard words.count > 0 else { throw .empty }
    let tokenModel =
      if let scores { try readUnigram(model, vocabulary, scores) } else {
        try readModel(model, vocabulary, all: words, &preTokenizer)
      }
    var parts = TokenizerParts(model: tokenModel, vocabulary: words)
    parts.normalizer = normalizer
    parts.preTokenizer = preTokenizer
    if let value = document.value("post_processor") { parts.template = try template(value) }
    if let value = document.value("decoder") { parts.decoder = try decoder(value) }
    parts.finish(adding: added)
    return parts
  }

  private func readModel(
    _ model: JSONMembers, _ vocabulary: Vocabulary, all words: Vocabulary,
    _ preTokenizer: inout PreTokenizer?
  ) throws(TokenizerError.Problem) -> TokenModel {
    // Files of before 2020 do not name BPE.
    let type = try model.optionalString("type") ?? "BPE"
    switch type {
    case "BPE":
      let reader = BytePairReader(model: model, vocabulary: vocabulary, allWords: words)
      return .bytePair(try reader.read(&preTokenizer))
    case "WordPiece":
      let unknown = try model.optionalString("unk_token") ?? "[UNK]"
      guard let id = words.id(of: Array(unknown.utf8)) else {
        throw .unknownToken(component: "model.unk_token", token: unknown)
      }
      return .wordPiece(
        WordPieceModel(
          vocabulary: vocabulary, unknownID: id,
          prefix: Array((try model.optionalString("continuing_subword_prefix") ?? "##").utf8),
          longestWord: try model.count("max_input_chars_per_word", or: 100)))
    default: throw .unsupported(component: "model", type: type)
    }
  }

  /// The vocabulary of `Unigram`: a list of tokens with their log probabilities, whose places are the ids.
  private func scoredTokens(
    _ model: JSONMembers
  ) throws(TokenizerError.Problem) -> (Vocabulary, [Double]) {
    let entries = try model.array("vocab")
    var vocabulary = Vocabulary(capacity: entries.count)
    var scores: [Double] = []
    for (id, entry) in entries.enumerated() {
      guard let pair = entry.array, pair.count == 2, let token = pair[0].string,
        let score = pair[1].number, score.isFinite
      else {
        throw .badValue(
          key: "model.vocab[\(id)]", value: entry.compactText, expected: "a token and its score")
      }
      try vocabulary.add(token.utf8, id: id, limit: entries.count)
      scores.append(score)
    }
    return (vocabulary, scores)
  }

  private func readUnigram(
    _ model: JSONMembers, _ vocabulary: Vocabulary, _ scores: [Double]
  ) throws(TokenizerError.Problem) -> TokenModel {
    var unknownID: Int32?
    if model.value("unk_id") != nil {
      let id = try model.count("unk_id")
      guard id < scores.count else {
        throw .badValue(
          key: "model.unk_id", value: "\(id)", expected: "an id below \(scores.count)")
      }
      unknownID = Int32(id)
    }
    return .unigram(
      UnigramModel(
        vocabulary: vocabulary, scores: scores, unknownID: unknownID,
        fallsBackToBytes: try model.bool("byte_fallback", or: false)))
  }

  private func addedTokens() throws(TokenizerError.Problem) -> [AddedToken] {
    guard document.value("added_tokens") != nil else { return [] }
    var tokens: [AddedToken] = []
    for value in try document.array("added_tokens") {
      let token = try JSONMembers(value, name: "added_tokens[\(tokens.count)]")
      let isSpecial = try token.bool("special", or: false)
      tokens.append(
        AddedToken(
          id: Int32(try token.count("id")), content: Array(try token.string("content").utf8),
          isSpecial: isSpecial,
          isSingleWord: try token.bool("single_word", or: false),
          stripsLeft: try token.bool("lstrip", or: false),
          stripsRight: try token.bool("rstrip", or: false),
          isNormalized: try token.bool("normalized", or: !isSpecial)))
    }
    return tokens
  }
}

/// Ids are below this: a vocabulary may have holes, but is not mostly holes. What is allocated by
/// id stays in proportion to the file.
func idLimit(tokens: Int) -> Int { 8 * tokens + 65_536 }

extension Vocabulary {
  /// Adds a token of a file.
  mutating func add(
    _ token: some Collection<UInt8>, id: Int, limit: Int
  ) throws(TokenizerError.Problem) {
    func text() -> String { String(decoding: token, as: UTF8.self) }
    guard (0..<min(limit, Int(Int32.max))).contains(id) else {
      throw .idOutOfRange(token: text(), id: id, limit: limit)
    }
    guard insert(token, id: Int32(id)) else {
      if let other = self.token(Int32(id)) {
        throw .duplicateID(
          id: id, first: String(decoding: other, as: UTF8.self), second: text())
      }
      throw .duplicateToken(text())
    }
  }

  /// Adds an added token, which may be in the vocabulary with the same id already.
  mutating func add(added token: AddedToken, limit: Int) throws(TokenizerError.Problem) {
    if let id = id(of: token.content) {
      guard id == token.id else {
        throw .conflictingID(
          token: String(decoding: token.content, as: UTF8.self), added: Int(token.id),
          vocabulary: Int(id))
      }
    } else {
      try add(token.content, id: Int(token.id), limit: limit)
    }
  }
}

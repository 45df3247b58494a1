// What every tokenizer format is read into: vocabulary, model, and the steps before and after.

/// The model that cuts words into tokens.
enum TokenModel: Sendable {
  case bytePair(BytePairModel)
  case wordPiece(WordPieceModel)
  case unigram(UnigramModel)
}

/// A tokenizer, ready for use.
struct TokenizerParts: Sendable {
  var model: TokenModel
  /// Every token as the file writes it, added ones too.
  var vocabulary: Vocabulary
  var normalizer: Normalizer?
  var preTokenizer: PreTokenizer?
  var template = InputTemplate.plain
  var decoder: [DecoderStage] = [.joinedByBlanks]
  private(set) var specialTokens: Set<Int32> = []
  /// Added tokens that are found in the text as it is, and in the normalized text.
  private(set) var rawMatcher = AddedTokenMatcher()
  private(set) var normalizedMatcher = AddedTokenMatcher()
  private var addedIDs: Set<Int32> = []
  /// What decoding leaves out: special tokens, unless a normalized form hides that they are.
  private var skippedIDs: Set<Int32> = []
  /// Normalized forms of added tokens, where they differ: decoding gives these.
  private var normalizedForms: [Int32: [UInt8]] = [:]
  /// The bytes of each token, when the decoder only joins bytes.
  private var byteTokens: ByteTokens?

  init(model: TokenModel, vocabulary: Vocabulary) {
    self.model = model
    self.vocabulary = vocabulary
  }

  /// Adds tokens, when all other parts are set.
  mutating func finish(adding tokens: [AddedToken]) {
    var state = RegexState()
    for token in tokens where !token.content.isEmpty {
      addedIDs.insert(token.id)
      if token.isSpecial { specialTokens.insert(token.id) }
      guard token.isNormalized else {
        rawMatcher.insert(token, pattern: token.content)
        continue
      }
      var form = token.content
      var keepsStart = true
      normalizer?.apply(&form, keepsStart: &keepsStart, &state)
      if form != token.content { normalizedForms[token.id] = form }
      normalizedMatcher.insert(token, pattern: form)
    }
    let special = Set(tokens.filter(\.isSpecial).map(\.content))
    skippedIDs = specialTokens.filter { id in normalizedForms[id].map(special.contains) ?? true }
    if case .byteLevel? = decoder.first, decoder.count == 1 {
      var table = ByteTokens()
      for id in 0..<vocabulary.idLimit {
        let token = decoderInput(Int32(id))
        table.append(token.map { ByteLevelAlphabet.decode($0.span) ?? $0 })
      }
      byteTokens = table
    }
  }

  /// What the decoders get for an id; `nil` for one that is skipped or unknown.
  func decodable(_ id: Int32, skipSpecialTokens: Bool) -> [UInt8]? {
    if skipSpecialTokens, skippedIDs.contains(id) { return nil }
    return decoderInput(id)
  }

  private func decoderInput(_ id: Int32) -> [UInt8]? {
    normalizedForms.isEmpty
      ? vocabulary.token(id) : normalizedForms[id] ?? vocabulary.token(id)
  }

  /// The bytes that a token stands for inside a text.
  func bytes(of id: Int32) -> [UInt8]? {
    guard var token = decoderInput(id) else { return nil }
    if addedIDs.contains(id) { return token }
    var state = RegexState()
    for stage in decoder {
      switch stage {
      case .byteLevel: token = ByteLevelAlphabet.decode(token.span) ?? token
      case .byteFallback: if let byte = byteOfFallbackToken(token) { token = [byte] }
      case .replace(let pattern, let replacement):
        token = pattern.replacingMatches(in: token, with: replacement, &state)
      case .metaspace(let mark, _):
        token = TextPattern.string(mark).replacingMatches(in: token, with: [0x20], &state)
      case .wordPiece(let prefix, _):
        if token.has(prefix, at: 0) { token.removeFirst(prefix.count) }
      case .bytePair, .fuse, .strip, .joinedByBlanks: break
      }
    }
    return token
  }

  /// The text of some ids.
  func decode(_ ids: [Int32], skipSpecialTokens: Bool) -> String {
    var output: [UInt8] = []
    if let byteTokens {
      output.reserveCapacity(ids.count * 4)
      let skipped = skipSpecialTokens ? skippedIDs : []
      for id in ids where skipped.isEmpty || !skipped.contains(id) {
        byteTokens.append(id, to: &output)
      }
    } else {
      var chain = DecoderChain(decoder)
      var state = RegexState()
      for id in ids {
        guard let token = decodable(id, skipSpecialTokens: skipSpecialTokens) else { continue }
        chain.push(token, into: &output, &state)
      }
      chain.finish(into: &output, &state)
    }
    return String(decoding: output, as: UTF8.self)
  }
}

/// The bytes of tokens by id.
private struct ByteTokens: Sendable {
  private var bytes: [UInt8] = []
  private var starts: [Int32] = [0]

  mutating func append(_ token: [UInt8]?) {
    bytes += token ?? []
    starts.append(Int32(clamping: bytes.count))
  }

  func append(_ id: Int32, to output: inout [UInt8]) {
    guard id >= 0, Int(id) + 1 < starts.count else { return }
    for i in Int(starts[Int(id)])..<Int(starts[Int(id) + 1]) { output.append(bytes[i]) }
  }
}

// MARK: - Encoding

extension TokenizerParts {
  /// The ids of a text without a template around it.
  func encode(_ text: [UInt8], _ state: inout EncoderState) -> [Int32] {
    var ids: [Int32] = []
    ids.reserveCapacity(text.count / 3)
    for part in rawMatcher.parts(of: text.span) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let range):
        let isWhole = range.count == text.count
        encodeStretch(
          isWhole ? text : Array(text[range]), isAtStart: range.lowerBound == 0, &state, into: &ids)
      }
    }
    return ids
  }

  /// Text between added tokens: normalized, searched again, cut and given to the model.
  private func encodeStretch(
    _ text: [UInt8], isAtStart: Bool, _ state: inout EncoderState, into ids: inout [Int32]
  ) {
    var text = text
    var isAtStart = isAtStart
    normalizer?.apply(&text, keepsStart: &isAtStart, &state.matcher)
    for part in normalizedMatcher.parts(of: text.span) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let range):
        let isWhole = range.count == text.count
        var words = WordList(
          isWhole ? text : Array(text[range]), isAtStart: isAtStart && range.lowerBound == 0)
        preTokenizer?.apply(&words, &state.matcher)
        let span = words.text.span
        switch model {
        case .bytePair(let model):
          for word in words.pieces { model.encode(span, word, &state, into: &ids) }
        case .wordPiece(let model):
          for word in words.pieces { model.encode(span, word, into: &ids) }
        case .unigram(let model):
          for word in words.pieces { model.encode(span, word, &state, into: &ids) }
        }
      }
    }
  }
}

// Reads the steps around the model from tokenizer.json. A type that is not implemented is refused
// by its name.

internal import JSONDocuments

extension TokenizerFile {
  private func steps(
    _ value: JSONValue, _ name: String, _ key: String
  ) throws(TokenizerError.Problem) -> [JSONValue] {
    try JSONMembers(value, name: name).array(key)
  }

  /// A string or regular expression: `{"String": …}` or `{"Regex": …}`.
  private func pattern(_ members: JSONMembers) throws(TokenizerError.Problem) -> TextPattern {
    let pattern = try members.members("pattern")
    if let text = try pattern.optionalString("String") {
      guard !text.isEmpty else {
        throw .badValue(key: "\(pattern.name).String", value: "", expected: "some text")
      }
      return .string(Array(text.utf8))
    }
    return try regex(pattern.string("Regex"))
  }

  private func regex(_ text: String) throws(TokenizerError.Problem) -> TextPattern {
    if let known = KnownPattern(text) { return .known(known) }
    do throws(RegexError) {
      return .regex(try Regex(text))
    } catch {
      throw .badPattern(pattern: text, reason: error.reason)
    }
  }

  // MARK: Normalizers

  func normalizer(_ value: JSONValue) throws(TokenizerError.Problem) -> Normalizer {
    let members = try JSONMembers(value, name: "normalizer")
    let type = try members.string("type")
    switch type {
    case "Sequence":
      return .sequence(
        try steps(value, "normalizer", "normalizers").map {
          (step) throws(TokenizerError.Problem) in try normalizer(step)
        })
    case "NFC": return .unicode(.nfc)
    case "NFD": return .unicode(.nfd)
    case "NFKC": return .unicode(.nfkc)
    case "NFKD": return .unicode(.nfkd)
    case "Lowercase": return .lowercase
    case "Strip":
      return .strip(
        left: try members.bool("strip_left", or: true),
        right: try members.bool("strip_right", or: true))
    case "StripAccents": return .stripAccents
    case "Replace":
      return .replace(try pattern(members), with: Array(try members.string("content").utf8))
    case "Prepend": return .prepend(Array(try members.string("prepend").utf8))
    case "Nmt": return .nmt
    case "Precompiled":
      let text = try members.string("precompiled_charsmap")
      // No map at all changes nothing.
      guard !text.isEmpty else { return .sequence([]) }
      guard let bytes = TiktokenRanks.base64(Array(text.utf8)[...]) else {
        throw .badValue(
          key: "\(members.name).precompiled_charsmap", value: String(text.prefix(20)),
          expected: "bytes in base64")
      }
      return .characterMap(try CharacterMap(bytes))
    case "ByteLevel": return .byteLevel
    case "BertNormalizer":
      let lowercases = try members.bool("lowercase", or: true)
      return .bert(
        BertNormalizer(
          cleansText: try members.bool("clean_text", or: true),
          spacesChinese: try members.bool("handle_chinese_chars", or: true),
          stripsAccents: try members.bool("strip_accents", or: lowercases),
          lowercases: lowercases))
    default: throw .unsupported(component: "normalizer", type: type)
    }
  }

  // MARK: Pre-tokenizers

  func preTokenizer(
    _ value: JSONValue
  ) throws(TokenizerError.Problem) -> PreTokenizer {
    let members = try JSONMembers(value, name: "pre_tokenizer")
    let type = try members.string("type")
    switch type {
    case "Sequence":
      return .sequence(
        try steps(value, "pre_tokenizer", "pretokenizers").map {
          (step) throws(TokenizerError.Problem) in try preTokenizer(step)
        })
    case "ByteLevel":
      let usesRegex = try members.bool("use_regex", or: true)
      return .byteLevel(
        addsSpace: try members.bool("add_prefix_space", or: true),
        pattern: usesRegex ? .known(.gpt2) : nil, isMapped: true)
    case "Split":
      return .split(
        try pattern(members), try behavior(members),
        isInverted: try members.bool("invert", or: false))
    case "Metaspace":
      return .metaspace(
        replacement: try metaspaceMark(members), try metaspaceScheme(members),
        splits: try members.bool("split", or: true))
    case "Whitespace": return .whitespace
    case "WhitespaceSplit": return .whitespaceSplit
    case "Digits":
      return .digits(areIndividual: try members.bool("individual_digits", or: false))
    case "Punctuation": return .punctuation(try behavior(members))
    case "BertPreTokenizer": return .bert
    default: throw .unsupported(component: "pre-tokenizer", type: type)
    }
  }

  private func behavior(_ members: JSONMembers) throws(TokenizerError.Problem) -> SplitBehavior {
    try members.choice(
      "behavior", or: .isolated,
      expected: "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous")
  }

  private func metaspaceMark(_ members: JSONMembers) throws(TokenizerError.Problem) -> [UInt8] {
    let mark = try members.string("replacement")
    guard mark.unicodeScalars.count == 1 else {
      throw .badValue(key: "\(members.name).replacement", value: mark, expected: "one character")
    }
    return Array(mark.utf8)
  }

  private func metaspaceScheme(
    _ members: JSONMembers
  ) throws(TokenizerError.Problem) -> PreTokenizer.PrependScheme {
    let scheme: PreTokenizer.PrependScheme = try members.choice(
      "prepend_scheme", or: .always, expected: "always, first or never")
    // The older spelling; a file that has both says the same with each.
    return try members.bool("add_prefix_space", or: true) ? scheme : .never
  }

  // MARK: Post-processors

  func template(_ value: JSONValue) throws(TokenizerError.Problem) -> InputTemplate {
    let members = try JSONMembers(value, name: "post_processor")
    let type = try members.string("type")
    switch type {
    case "ByteLevel": return .plain
    case "TemplateProcessing":
      let special = try specialTokens(members)
      return InputTemplate(
        single: try pieces(members, "single", special, texts: ["A"]),
        pair: try pieces(members, "pair", special, texts: ["A", "B"]))
    case "BertProcessing":
      return .bert(first: try pairID(members, "cls"), separator: try pairID(members, "sep"))
    case "RobertaProcessing":
      return .roberta(first: try pairID(members, "cls"), separator: try pairID(members, "sep"))
    case "Sequence":
      var found: InputTemplate?
      for step in try steps(value, "post_processor", "processors") {
        guard try JSONMembers(step, name: "post_processor").string("type") != "ByteLevel" else {
          continue
        }
        guard found == nil else {
          throw .unsupported(component: "post-processor", type: "Sequence of two templates")
        }
        found = try template(step)
      }
      return found ?? .plain
    default: throw .unsupported(component: "post-processor", type: type)
    }
  }

  /// `["[CLS]", 101]`.
  private func pairID(
    _ members: JSONMembers, _ key: String
  ) throws(TokenizerError.Problem) -> Int32 {
    let pair = try members.array(key)
    guard pair.count == 2, let id = pair[1].integer, let id = Int32(exactly: id), id >= 0 else {
      throw .badValue(
        key: "\(members.name).\(key)", value: JSONValue.array(pair).compactText,
        expected: "a token and its id")
    }
    return id
  }

  private func specialTokens(
    _ members: JSONMembers
  ) throws(TokenizerError.Problem) -> [(name: [UInt8], ids: [Int32])] {
    guard members.value("special_tokens") != nil else { return [] }
    return try members.entries("special_tokens").map {
      (entry) throws(TokenizerError.Problem) in
      let token = try JSONMembers(entry.value, name: "special_tokens")
      let ids = try token.array("ids").map { (value) throws(TokenizerError.Problem) -> Int32 in
        guard let id = value.integer, let id = Int32(exactly: id), id >= 0 else {
          throw .badValue(
            key: "special_tokens.ids", value: value.compactText, expected: "0..<\(Int32.max)")
        }
        return id
      }
      return (Array(entry.key.utf8), ids)
    }
  }

  private func pieces(
    _ members: JSONMembers, _ key: String, _ special: [(name: [UInt8], ids: [Int32])],
    texts: [String]
  ) throws(TokenizerError.Problem) -> [InputTemplate.Piece] {
    guard members.value(key) != nil || key != "pair" else { return InputTemplate.plain.pair }
    return try members.array(key).map {
      (value) throws(TokenizerError.Problem) -> InputTemplate.Piece in
      let piece = try JSONMembers(value, name: "\(members.name).\(key)")
      if piece.value("Sequence") != nil {
        let sequence = try piece.members("Sequence")
        let name = try sequence.string("id")
        guard let index = texts.firstIndex(of: name) else {
          throw .badValue(key: "\(sequence.name).id", value: name, expected: "A, or B in a pair")
        }
        return .text(index, typeID: Int32(try sequence.count("type_id", or: 0)))
      }
      let token = try piece.members("SpecialToken")
      let name = try token.string("id")
      guard let entry = special.first(where: { $0.name.elementsEqual(name.utf8) }) else {
        throw .unknownToken(component: "\(members.name).\(key)", token: name)
      }
      return .special(entry.ids, typeID: Int32(try token.count("type_id", or: 0)))
    }
  }

  // MARK: Decoders

  func decoder(_ value: JSONValue) throws(TokenizerError.Problem) -> [DecoderStage] {
    let members = try JSONMembers(value, name: "decoder")
    let type = try members.string("type")
    switch type {
    case "Sequence":
      var stages: [DecoderStage] = []
      for step in try steps(value, "decoder", "decoders") { stages += try decoder(step) }
      return stages
    case "ByteLevel": return [.byteLevel]
    case "ByteFallback": return [.byteFallback]
    case "Fuse": return [.fuse]
    case "Replace":
      return [.replace(try pattern(members), with: Array(try members.string("content").utf8))]
    case "Strip":
      let content = try members.string("content")
      guard content.unicodeScalars.count == 1 else {
        throw .badValue(key: "decoder.content", value: content, expected: "one character")
      }
      return [
        .strip(
          content: Array(content.utf8), start: try members.count("start"),
          stop: try members.count("stop"))
      ]
    case "Metaspace":
      return [
        .metaspace(
          mark: try metaspaceMark(members), dropsFirst: try metaspaceScheme(members) != .never)
      ]
    case "WordPiece":
      return [
        .wordPiece(
          prefix: Array((try members.optionalString("prefix") ?? "##").utf8),
          cleansUp: try members.bool("cleanup", or: true))
      ]
    case "BPEDecoder":
      return [.bytePair(suffix: Array((try members.optionalString("suffix") ?? "</w>").utf8))]
    default: throw .unsupported(component: "decoder", type: type)
    }
  }
}

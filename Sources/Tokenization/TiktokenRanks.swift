// Reads tiktoken ranks, the tokenizer of Llama 3: a line is a token in base64 and its rank.
//
// Source   https://github.com/meta-llama/llama3, llama/tokenizer.py (pattern, special tokens);
//          merges as the package `transformers` makes them: every split of a token into two
//          tokens is a merge, in the order of the token's rank, then of its parts'.
// Checked  ids equal that conversion

/// A file of ranks.
struct TiktokenRanks {
  private var tokens: [(bytes: [UInt8], rank: Int)] = []

  init(_ bytes: [UInt8]) throws(TokenizerError.Problem) {
    for (index, line) in bytes.split(separator: 0x0A).enumerated() {
      guard let record = Self.record(line) else {
        throw .badRecord(
          format: "tiktoken ranks", index: index, reason: "expected a token in base64 and a rank")
      }
      tokens.append(record)
    }
  }

  /// The token and rank of a line; `nil` when it is no such line.
  static func record(_ line: ArraySlice<UInt8>) -> (bytes: [UInt8], rank: Int)? {
    guard let blank = line.firstIndex(of: 0x20), let token = base64(line[..<blank]),
      let rank = Int(String(decoding: line[(blank + 1)...].filter { $0 != 0x0D }, as: UTF8.self)),
      rank >= 0, !token.isEmpty
    else { return nil }
    return (token, rank)
  }

  /// The tokenizer.
  func read() throws(TokenizerError.Problem) -> TokenizerParts {
    guard !tokens.isEmpty else { throw .empty }
    let special = Self.specialTokens
    let limit = idLimit(tokens: tokens.count + special.count)
    // The model works on raw bytes; the vocabulary is written in the byte-level alphabet.
    var raw = Vocabulary(capacity: tokens.count)
    var written = Vocabulary(capacity: tokens.count + special.count)
    for token in tokens {
      try raw.add(token.bytes, id: token.rank, limit: limit)
      try written.add(ByteLevelAlphabet.encode(token.bytes), id: token.rank, limit: limit)
    }
    var model = BytePairModel(
      vocabulary: raw, merges: merges(raw), byteIDs: [], isByteLevel: true)
    model.byteIDs = (UInt8(0)...255).map { raw.id(of: [$0]) ?? -1 }
    model.ignoresMerges = true

    let added = special.enumerated().map {
      AddedToken(
        id: Int32(tokens.count + $0.offset), content: Array($0.element.utf8), isSpecial: true,
        isSingleWord: false, stripsLeft: false, stripsRight: false, isNormalized: false)
    }
    for token in added { try written.add(added: token, limit: limit) }
    var parts = TokenizerParts(model: .bytePair(model), vocabulary: written)
    parts.preTokenizer = .split(.known(.llama3(digits: 3)), .isolated, isInverted: false)
    parts.decoder = [.byteLevel]
    let first = InputTemplate.Piece.special([Int32(tokens.count)], typeID: 0)
    parts.template = InputTemplate(
      single: [first, .text(0, typeID: 0)],
      pair: [
        first, .text(0, typeID: 0), .special([Int32(tokens.count)], typeID: 1),
        .text(1, typeID: 1),
      ])
    parts.finish(adding: added)
    return parts
  }

  private func merges(_ vocabulary: Vocabulary) -> MergeTable {
    var table = MergeTable(capacity: tokens.count * 2)
    var rank: Int32 = 0
    var splits: [(left: Int32, right: Int32)] = []
    for token in tokens.sorted(by: { $0.rank < $1.rank }) {
      let span = token.bytes.span
      splits.removeAll(keepingCapacity: true)
      for split in token.bytes.indices.dropFirst() {
        guard let left = vocabulary.id(of: span, 0..<split),
          let right = vocabulary.id(of: span, split..<span.count)
        else { continue }
        splits.append((left, right))
      }
      splits.sort { $0 < $1 }
      for split in splits {
        table.insert(split.left, split.right, rank: rank, merged: Int32(token.rank))
        rank += 1
      }
    }
    return table
  }

  /// The 256 special tokens of Llama 3; their ids follow the last rank.
  static let specialTokens: [String] = {
    func reserved(_ range: Range<Int>) -> [String] {
      range.map { "<|reserved_special_token_\($0)|>" }
    }
    return ["<|begin_of_text|>", "<|end_of_text|>"] + reserved(0..<4)
      + ["<|start_header_id|>", "<|end_header_id|>"] + reserved(4..<5) + ["<|eot_id|>"]
      + reserved(5..<251)
  }()

  /// RFC 4648, section 4.
  static func base64(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    guard text.count % 4 == 0 else { return nil }
    let digits = text.prefix { $0 != 0x3D }
    guard text.count - digits.count <= 2, text.dropFirst(digits.count).allSatisfy({ $0 == 0x3D })
    else { return nil }
    var output: [UInt8] = []
    var bits: UInt32 = 0
    var count = 0
    for digit in digits {
      let value: UInt8
      switch digit {
      case 0x41...0x5A: value = digit - 0x41
      case 0x61...0x7A: value = digit - 0x61 + 26
      case 0x30...0x39: value = digit - 0x30 + 52
      case 0x2B: value = 62
      case 0x2F: value = 63
      default: return nil
      }
      bits = bits << 6 | UInt32(value)
      count += 6
      if count >= 8 {
        count -= 8
        output.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
      }
    }
    return output
  }
}

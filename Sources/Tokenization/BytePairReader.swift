// Builds the byte-pair model of a tokenizer.json: merges as pairs of ids, options, and how the
// model sees text.

internal import JSONDocuments

/// Reads a model of type `BPE`.
struct BytePairReader {
  let model: JSONMembers
  /// The model's own tokens.
  let vocabulary: Vocabulary
  /// Those and the added ones.
  let allWords: Vocabulary

  /// The model. A last `ByteLevel` pre-tokenizer hands it raw bytes, where its options allow.
  func read(_ preTokenizer: inout PreTokenizer?) throws(TokenizerError.Problem) -> BytePairModel {
    if let dropout = model.value("dropout"), dropout.number != 0 {
      throw .badValue(
        key: "model.dropout", value: dropout.compactText,
        expected: "null or 0; encoding is not random here")
    }
    let prefix = Array((try model.optionalString("continuing_subword_prefix") ?? "").utf8)
    let suffix = Array((try model.optionalString("end_of_word_suffix") ?? "").utf8)
    let hasFallback = try model.bool("byte_fallback", or: false)
    let isPlain = prefix.isEmpty && suffix.isEmpty && !hasFallback
    let isByteLevel = isPlain && preTokenizer?.leaveLastBytes() == true

    var pairs = BytePairModel(
      vocabulary: vocabulary, merges: try merges(prefixLength: prefix.count), byteIDs: [],
      isByteLevel: isByteLevel)
    pairs.ignoresMerges = try model.bool("ignore_merges", or: false)
    pairs.fusesUnknown = try model.bool("fuse_unk", or: false)
    pairs.continuingPrefix = prefix
    pairs.endSuffix = suffix
    if let unknown = try model.optionalString("unk_token") {
      pairs.unknownID = allWords.id(of: Array(unknown.utf8))
      if pairs.unknownID == nil, !isByteLevel {
        throw .unknownToken(component: "model.unk_token", token: unknown)
      }
    }
    if hasFallback { pairs.setFallback() }
    pairs.setAlphabet()
    if preTokenizer == nil || preTokenizer?.leavesTextWhole == true, prefix.isEmpty, suffix.isEmpty,
      !pairs.ignoresMerges
    {
      pairs.setCuts(tokens: vocabulary)
    }
    return pairs
  }

  /// Merges are `"a b"` or `["a", "b"]`; their order is their rank.
  private func merges(prefixLength: Int) throws(TokenizerError.Problem) -> MergeTable {
    let list = try model.array("merges")
    var table = MergeTable(capacity: list.count)
    var buffer: [UInt8] = []
    var rank: Int32 = 0
    for (index, value) in list.enumerated() {
      let leftCount: Int
      buffer.removeAll(keepingCapacity: true)
      switch value {
      case .string(let text):
        buffer.append(contentsOf: text.utf8)
        if buffer.has(Array("#version".utf8), at: 0) { continue }
        guard let blank = MergeList.pair(buffer[...]) else {
          throw .badMerge(index: index, text: text)
        }
        buffer.remove(at: blank)
        leftCount = blank
      case .array(let pair):
        guard pair.count == 2, let left = pair[0].string, let right = pair[1].string else {
          throw .badMerge(index: index, text: value.compactText)
        }
        buffer.append(contentsOf: left.utf8)
        leftCount = buffer.count
        buffer.append(contentsOf: right.utf8)
      default: throw .badMerge(index: index, text: value.compactText)
      }
      try table.add(
        buffer, leftCount: leftCount, prefixLength: prefixLength, vocabulary, index: index, rank)
      rank += 1
    }
    return table
  }
}

extension MergeTable {
  /// Adds the merge of the two tokens that `pair` holds.
  mutating func add(
    _ pair: [UInt8], leftCount: Int, prefixLength: Int = 0, _ vocabulary: Vocabulary, index: Int,
    _ rank: Int32
  ) throws(TokenizerError.Problem) {
    func id(_ token: [UInt8], _ range: Range<Int>) throws(TokenizerError.Problem) -> Int32 {
      guard let id = vocabulary.id(of: token.span, range) else {
        throw .unknownMergeToken(
          index: index, token: String(decoding: token[range], as: UTF8.self))
      }
      return id
    }
    // The right token loses the prefix that says it continues a word.
    let merged =
      prefixLength == 0
      ? pair : Array(pair[..<leftCount] + pair[leftCount...].dropFirst(prefixLength))
    insert(
      try id(pair, 0..<leftCount), try id(pair, leftCount..<pair.count), rank: rank,
      merged: try id(merged, 0..<merged.count))
  }
}

extension PreTokenizer {
  /// Lets a last `ByteLevel` step leave the bytes as they are; false when there is none.
  fileprivate mutating func leaveLastBytes() -> Bool {
    switch self {
    case .byteLevel(let addsSpace, let pattern, _):
      self = .byteLevel(addsSpace: addsSpace, pattern: pattern, isMapped: false)
      return true
    case .sequence(var steps):
      guard var last = steps.popLast() else { return false }
      let leaves = last.leaveLastBytes()
      self = .sequence(steps + [last])
      return leaves
    default: return false
    }
  }

  /// A step that gives the model one word, however long the text.
  fileprivate var leavesTextWhole: Bool {
    if case .metaspace(_, _, splits: false) = self { return true }
    return false
  }
}

extension BytePairModel {
  /// Sets what stands for single bytes or ASCII characters. A byte-level model looks words up as
  /// bytes from then on.
  mutating func setAlphabet() {
    guard isByteLevel else {
      byteIDs = (0..<128).map { vocabulary.id(of: [$0]) ?? -1 }
      return
    }
    byteIDs = ByteLevelAlphabet.scalars.map {
      var character: [UInt8] = []
      character.append(scalar: $0)
      return vocabulary.id(of: character) ?? -1
    }
    let written = vocabulary
    vocabulary = Vocabulary(capacity: ignoresMerges ? written.count : 0)
    guard ignoresMerges else { return }
    for id in 0..<Int32(written.idLimit) {
      guard let token = written.token(id) else { continue }
      if let bytes = ByteLevelAlphabet.decode(token.span) { _ = vocabulary.insert(bytes, id: id) }
    }
  }

  /// Sets the tokens for single bytes of characters that are not in the vocabulary.
  mutating func setFallback() {
    let digits = Array("0123456789ABCDEF".utf8)
    fallbackIDs = (0..<256).map {
      let token = Array("<0x".utf8) + [digits[$0 >> 4], digits[$0 & 15], UInt8(ascii: ">")]
      return vocabulary.id(of: token) ?? -1
    }
  }

  /// Finds where long text can be cut: before a `▁` that no token has inside.
  mutating func setCuts(tokens: Vocabulary) {
    guard tokens.id(of: [0xE2, 0x96, 0x81]) != nil else { return }
    var before: Set<UInt32> = []
    for id in 0..<Int32(tokens.idLimit) {
      guard let token = tokens.token(id), token.contains(0xE2) else { continue }
      for i in token.indices.dropFirst() where token.has([0xE2, 0x96, 0x81], at: i) {
        before.insert(scalar(token.span, at: scalarStart(token.span, before: i)).value)
      }
    }
    beforeMark = before
  }
}

// Reads GPT-2's vocab.bpe, a list of merges: the vocabulary follows from it.
//
// Source   https://github.com/openai/gpt-2, encoder.py. Ids: 256 bytes in the order of the
//          alphabet's code, the merges in their order, `<|endoftext|>`.
// Checked  ids equal the `tokenizers` model of the same vocabulary and merges

/// A list of merges.
struct MergeList {
  private var merges: [(text: [UInt8], blank: Int)] = []

  init(_ bytes: [UInt8]) throws(TokenizerError.Problem) {
    for line in bytes.split(separator: 0x0A) {
      if Array(line.prefix(8)).has(Array("#version".utf8), at: 0) { continue }
      let line = line.last == 0x0D ? line.dropLast() : line
      guard let blank = Self.pair(line), firstInvalidUTF8(Array(line).span) == nil else {
        throw .badMerge(index: merges.count, text: String(decoding: line, as: UTF8.self))
      }
      merges.append((Array(line), blank))
    }
  }

  /// Where the blank stands in `"a b"`; `nil` for anything but two tokens with one blank between.
  static func pair(_ line: ArraySlice<UInt8>) -> Int? {
    guard let blank = line.firstIndex(of: 0x20), blank > line.startIndex,
      blank + 1 < line.endIndex, !line[(blank + 1)...].contains(0x20)
    else { return nil }
    return blank - line.startIndex
  }

  /// The tokenizer.
  func read() throws(TokenizerError.Problem) -> TokenizerParts {
    guard !merges.isEmpty else { throw .empty }
    let limit = idLimit(tokens: merges.count)
    var vocabulary = Vocabulary(capacity: merges.count + 257)
    let alphabet = ByteLevelAlphabet.scalars
    for (id, scalar) in alphabet.sorted().enumerated() {
      var character: [UInt8] = []
      character.append(scalar: scalar)
      try vocabulary.add(character, id: id, limit: limit)
    }
    var table = MergeTable(capacity: merges.count)
    for (index, merge) in merges.enumerated() {
      let pair = Array(merge.text[..<merge.blank] + merge.text[(merge.blank + 1)...])
      try vocabulary.add(pair, id: 256 + index, limit: limit)
      try table.add(pair, leftCount: merge.blank, vocabulary, index: index, Int32(index))
    }
    var model = BytePairModel(
      vocabulary: vocabulary, merges: table, byteIDs: [], isByteLevel: true)
    model.setAlphabet()
    let end = AddedToken(
      id: Int32(256 + merges.count), content: Array("<|endoftext|>".utf8), isSpecial: true,
      isSingleWord: false, stripsLeft: false, stripsRight: false, isNormalized: false)
    try vocabulary.add(added: end, limit: limit)
    var parts = TokenizerParts(model: .bytePair(model), vocabulary: vocabulary)
    parts.preTokenizer = .byteLevel(addsSpace: false, pattern: .known(.gpt2), isMapped: false)
    parts.decoder = [.byteLevel]
    parts.finish(adding: [end])
    return parts
  }
}

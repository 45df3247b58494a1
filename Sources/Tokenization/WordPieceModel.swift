// WordPiece: the longest token that starts the word, then the longest that continues it, and on.
//
// Source   Wu et al., "Google's Neural Machine Translation System", 2016, arXiv:1609.08144,
//          section 4.1; greedy matching as in https://github.com/google-research/bert,
//          tokenization.py, class WordpieceTokenizer
// Result   One unknown token for a word that cannot be covered, or that is too long
// Cost     O(n²) in the word, which `longestWord` bounds

/// The model `WordPiece` of a tokenizer file.
struct WordPieceModel: Sendable {
  var vocabulary: Vocabulary
  var unknownID: Int32
  /// Written before every token that does not start its word.
  var prefix: [UInt8]
  /// Words of more characters are unknown.
  var longestWord: Int

  /// Appends the ids of one word.
  func encode(_ text: Span<UInt8>, _ word: Range<Int>, into output: inout [Int32]) {
    var characters = 0
    for i in word where text[i] & 0xC0 != 0x80 { characters += 1 }
    guard characters <= longestWord else { return output.append(unknownID) }
    let start = output.count
    // The rest of the word with the prefix before it; the first token has none.
    var rest = prefix
    rest.append(text, word)
    var first = prefix.count
    while first < rest.count {
      let from = first > prefix.count ? first - prefix.count : first
      if first > prefix.count { for i in prefix.indices { rest[from + i] = prefix[i] } }
      var end = rest.count
      var found: Int32?
      while end > first {
        found = vocabulary.id(of: rest.span, from..<end)
        if found != nil { break }
        end = scalarStart(rest.span, before: end)
      }
      guard let found else {
        output.removeLast(output.count - start)
        return output.append(unknownID)
      }
      output.append(found)
      first = end
    }
  }
}

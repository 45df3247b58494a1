// Unigram: of all ways to cut a word into tokens, the one with the largest sum of log probabilities.
//
// Source   Kudo, "Subword Regularization", ACL 2018, arXiv:1804.10959, section 3.2; Viterbi over the word's bytes
//          as the package `tokenizers` does it: a character without a token of its own scores `unknownPenalty` less
//          than the least token, and neighbouring unknown characters are one piece
// Given    a word as UTF-8
// Result   ids appended to the output; without an unknown token, characters that are in no token are left out
// Cost     O(n · longest token); a word seen before costs one look-up
// Checked  TokenizerTests: ids equal `tokenizers`; UnigramModelTests: scores equal a search of every cut

/// The model `Unigram` of a tokenizer file.
struct UnigramModel: Sendable {
  /// Below the least score of a token: `kUnkPenalty` of SentencePiece.
  static let unknownPenalty = 10.0

  private let vocabulary: Vocabulary
  private let scores: [Double]
  private let tree: PrefixTree
  private let unknownID: Int32?
  private let unknownScore: Double
  /// Ids of `<0x00>`…`<0xFF>`; -1 for a missing one, empty when the file wants no fallback.
  private let fallbackIDs: [Int32]

  /// The model of a vocabulary.
  ///
  /// - Parameter scores: Log probabilities by id.
  init(vocabulary: Vocabulary, scores: [Double], unknownID: Int32?, fallsBackToBytes: Bool) {
    self.vocabulary = vocabulary
    self.scores = scores
    self.unknownID = unknownID
    unknownScore = (scores.min() ?? 0) - Self.unknownPenalty
    tree = PrefixTree(
      scores.indices.compactMap { id in vocabulary.token(Int32(id)).map { ($0, Int32(id)) } })
    fallbackIDs =
      fallsBackToBytes
      ? (0...255).map { byte in
        let digits = String(byte, radix: 16, uppercase: true)
        return vocabulary.id(of: Array("<0x\(byte < 16 ? "0" : "")\(digits)>".utf8)) ?? -1
      } : []
  }

  /// Appends the ids of one word.
  func encode(
    _ text: Span<UInt8>, _ word: Range<Int>, _ state: inout EncoderState,
    into output: inout [Int32]
  ) {
    guard word.count <= WordCache.longestWord else {
      return search(text, word, into: &output)
    }
    let hash = hash(text, word)
    if state.cache.append(text, word, hash: hash, to: &output) { return }
    let start = output.count
    search(text, word, into: &output)
    state.cache.insert(text, word, hash: hash, ids: output[start...])
  }

  /// The last piece of the best cut that ends at some byte.
  private struct Piece {
    /// Where it starts, in bytes of the word; -1 where no cut ends.
    var start: Int32 = -1
    /// -1 for an unknown character.
    var id: Int32 = -1
    var score = 0.0
  }

  private func search(_ text: Span<UInt8>, _ word: Range<Int>, into output: inout [Int32]) {
    let first = word.lowerBound
    var best = [Piece](repeating: Piece(), count: word.count + 1)
    var start = first
    while start < word.upperBound {
      let length = scalar(text, at: start).length
      let sum = best[start - first].score
      var coversCharacter = false
      tree.forEachPrefix(of: text, start..<word.upperBound) { id, end in
        if end == start + length { coversCharacter = true }
        let score = sum + scores[Int(id)]
        if best[end - first].start < 0 || score > best[end - first].score {
          best[end - first] = Piece(start: Int32(start - first), id: id, score: score)
        }
      }
      let end = start + length - first
      if !coversCharacter, best[end].start < 0 || sum + unknownScore > best[end].score {
        best[end] = Piece(start: Int32(start - first), score: sum + unknownScore)
      }
      start += length
    }
    var pieces: [(range: Range<Int>, id: Int32)] = []
    var end = word.count
    while end > 0 {
      let piece = best[end]
      let start = Int(piece.start)
      // The unknown token itself, where a text spells it, counts as unknown too.
      let isUnknown = piece.id < 0 || piece.id == unknownID
      if isUnknown, let last = pieces.last, last.id < 0, last.range.lowerBound == end + first {
        pieces[pieces.count - 1].range = start + first..<last.range.upperBound
      } else {
        pieces.append((start + first..<end + first, isUnknown ? -1 : piece.id))
      }
      end = start
    }
    for piece in pieces.reversed() {
      if piece.id >= 0 {
        output.append(piece.id)
      } else {
        appendUnknown(text, piece.range, to: &output)
      }
    }
  }

  /// A run of unknown characters: the token that it spells, its bytes, or the unknown token.
  private func appendUnknown(
    _ text: Span<UInt8>, _ range: Range<Int>, to output: inout [Int32]
  ) {
    if let id = vocabulary.id(of: text, range) { return output.append(id) }
    if !fallbackIDs.isEmpty, range.allSatisfy({ fallbackIDs[Int(text[$0])] >= 0 }) {
      for index in range { output.append(fallbackIDs[Int(text[index])]) }
    } else if let unknownID {
      output.append(unknownID)
    }
  }
}

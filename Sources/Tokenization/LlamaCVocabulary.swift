// Reads llama2.c's tokenizer.bin: a SentencePiece BPE vocabulary with its scores.
//
// Source   https://github.com/karpathy/llama2.c, tokenizer.py (export) and run.c (build_tokenizer)
// Layout   longest token u32; for each token: score f32, length u32, bytes; blanks are blanks, the first three tokens
//          are unknown, begin and end
// Checked  LlamaCVocabularyTests: ids equal those of the SentencePiece model that the file was made from

/// The tokens of a tokenizer.bin.
struct LlamaCVocabulary {
  /// Pieces in SentencePiece's form.
  let pieces: [SentencePieceVocabulary.Piece]

  /// No token is longer.
  private static let longest = 4096

  /// Whether the bytes look like one: a small number, then a score of zero and `<unk>`.
  static func recognizes(_ start: [UInt8]) -> Bool {
    start.count >= 17 && start[2] == 0 && start[3] == 0
      && start[4..<12].elementsEqual([0, 0, 0, 0, 5, 0, 0, 0])
      && start[12..<17].elementsEqual("<unk>".utf8)
  }

  init(_ bytes: [UInt8]) throws(TokenizerError.Problem) {
    var offset = 4
    var pieces: [SentencePieceVocabulary.Piece] = []
    func word(_ at: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) }
    }
    while offset < bytes.count {
      guard bytes.count - offset >= 8 else {
        throw .badRecord(
          format: "llama2.c vocabulary", index: pieces.count, reason: "the file ends inside it")
      }
      let length = Int(word(offset + 4))
      guard length <= Self.longest, length <= bytes.count - offset - 8 else {
        throw .badRecord(
          format: "llama2.c vocabulary", index: pieces.count,
          reason: "\(length) bytes are announced, \(bytes.count - offset - 8) are left")
      }
      var piece = SentencePieceVocabulary.Piece()
      piece.score = Float(bitPattern: word(offset))
      piece.text = Self.sentencePiece(Array(bytes[offset + 8..<offset + 8 + length]))
      piece.type = Self.type(of: piece.text, id: pieces.count)
      if piece.type == 3 { piece.text.removeAll { $0 == 0x0A } }
      pieces.append(piece)
      offset += 8 + length
    }
    self.pieces = pieces
  }

  /// Blanks as U+2581.
  private static func sentencePiece(_ text: [UInt8]) -> [UInt8] {
    text.flatMap { $0 == 0x20 ? Array("▁".utf8) : [$0] }
  }

  private static func type(of text: [UInt8], id: Int) -> Int {
    if id == 0 { return 2 }
    if id <= 2 { return 3 }
    return text.count == 6 && text.starts(with: Array("<0x".utf8)) ? 6 : 1
  }
}

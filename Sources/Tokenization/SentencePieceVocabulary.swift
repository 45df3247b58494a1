// The pieces of a SentencePiece model, for formats that store them their own way.

/// What a SentencePiece BPE model holds.
public struct SentencePieceVocabulary: Sendable {
  /// One piece.
  public struct Piece: Sendable {
    /// The text, with U+2581 for a blank.
    public var text: [UInt8] = []
    /// Pieces with a higher score are merged first.
    public var score: Float = 0
    /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    public var type = 1
  }

  /// The pieces by id.
  public let pieces: [Piece]
  /// The ids before and after a text; nil for none.
  public let firstID, lastID: Int?
  /// Whether a blank is put before a text.
  public let addsDummyPrefix: Bool

  /// Reads a model.
  ///
  /// - Parameter name: What error messages call the file, usually its path.
  public init(contentsOf bytes: [UInt8], name: String) throws(TokenizerError) {
    do throws(TokenizerError.Problem) {
      let model =
        LlamaCVocabulary.recognizes(bytes)
        ? try SentencePieceModel(pieces: try LlamaCVocabulary(bytes).pieces)
        : try SentencePieceModel(bytes)
      // Refuses what is no BPE.
      _ = try model.read()
      pieces = model.pieces
      firstID = model.firstID
      lastID = model.lastID
      addsDummyPrefix = model.addsDummyPrefix
    } catch {
      throw TokenizerError(path: name, problem: error)
    }
  }
}

// Special tokens around one text or a pair, as a tokenizer file's template has them.
//
// Source   https://huggingface.co/docs/tokenizers/api/post-processors

/// Where the texts and the special tokens of an input stand.
struct InputTemplate: Sendable {
  enum Piece: Sendable {
    /// The first text (0) or the second (1).
    case text(Int, typeID: Int32)
    case special([Int32], typeID: Int32)
  }

  var single: [Piece]
  var pair: [Piece]

  /// No special tokens; the second text has type 1.
  static let plain = InputTemplate(
    single: [.text(0, typeID: 0)], pair: [.text(0, typeID: 0), .text(1, typeID: 1)])

  /// `[CLS] A [SEP]`, `[CLS] A [SEP] B [SEP]` with types 0 and 1.
  static func bert(first: Int32, separator: Int32) -> InputTemplate {
    let single: [Piece] = [
      .special([first], typeID: 0), .text(0, typeID: 0), .special([separator], typeID: 0),
    ]
    return InputTemplate(
      single: single,
      pair: single + [.text(1, typeID: 1), .special([separator], typeID: 1)])
  }

  /// `<s> A </s>`, `<s> A </s> </s> B </s>`, all of type 0.
  static func roberta(first: Int32, separator: Int32) -> InputTemplate {
    let single: [Piece] = [
      .special([first], typeID: 0), .text(0, typeID: 0), .special([separator], typeID: 0),
    ]
    return InputTemplate(
      single: single,
      pair: single + [
        .special([separator], typeID: 0), .text(1, typeID: 0), .special([separator], typeID: 0),
      ])
  }

  /// The ids of one text or two, with their types.
  func apply(_ texts: [[Int32]], addSpecialTokens: Bool) -> (ids: [Int32], typeIDs: [Int32]) {
    var ids: [Int32] = []
    var types: [Int32] = []
    for piece in texts.count == 2 ? pair : single {
      let (part, type): ([Int32], Int32) =
        switch piece {
        case .text(let index, let type): (index < texts.count ? texts[index] : [], type)
        case .special(let tokens, let type): (addSpecialTokens ? tokens : [], type)
        }
      ids += part
      types += [Int32](repeating: type, count: part.count)
    }
    return (ids, types)
  }
}

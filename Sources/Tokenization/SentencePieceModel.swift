// Reads a SentencePiece model of type BPE, the tokenizer of Llama 2 and its family.
//
// Source   https://github.com/google/sentencepiece, src/sentencepiece_model.proto; how pieces
//          become merges, and the steps around the model, as the package `transformers` converts
//          Llama's: every split of a piece into two pieces is a merge, the piece with the highest score first.
// Checked  ids equal that conversion; a model with its own character map is refused by name

/// The parts of a ModelProto that matter for BPE.
struct SentencePieceModel {
  typealias Piece = SentencePieceVocabulary.Piece

  private(set) var pieces: [Piece] = []
  private var modelType: UInt64 = 1
  private(set) var firstID: Int? = 1
  private(set) var lastID: Int? = 2
  private(set) var addsDummyPrefix = true
  private var hasCharacterMap = false

  /// The model of some pieces, with the usual settings of Llama.
  init(pieces: [Piece]) throws(TokenizerError.Problem) {
    self.pieces = pieces
    modelType = 2
    for (index, piece) in pieces.enumerated() {
      if let offset = firstInvalidUTF8(piece.text.span) {
        throw .badRecord(
          format: "llama2.c vocabulary", index: index,
          reason: "the piece is not UTF-8 at byte \(offset)")
      }
    }
  }

  init(_ bytes: [UInt8]) throws(TokenizerError.Problem) {
    var reader = ProtobufReader(bytes[...])
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let message)): try readPiece(message)
      case (2, .bytes(let message)): try readTrainerSpec(message)
      case (3, .bytes(let message)): try readNormalizerSpec(message)
      default: break
      }
    }
  }

  private mutating func readPiece(_ message: ArraySlice<UInt8>) throws(TokenizerError.Problem) {
    var reader = ProtobufReader(message)
    var piece = Piece()
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let text)): piece.text = Array(text)
      case (2, .fixed(let bits)): piece.score = Float(bitPattern: UInt32(truncatingIfNeeded: bits))
      case (3, .integer(let type)): piece.type = Int(clamping: type)
      default: break
      }
    }
    if let offset = firstInvalidUTF8(piece.text.span) {
      throw .badRecord(
        format: "SentencePiece model", index: pieces.count,
        reason: "the piece is not UTF-8 at byte \(offset)")
    }
    pieces.append(piece)
  }

  private mutating func readTrainerSpec(
    _ message: ArraySlice<UInt8>
  ) throws(TokenizerError.Problem) {
    var reader = ProtobufReader(message)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (3, .integer(let type)): modelType = type
      // Negative for none, as 64 bits.
      case (41, .integer(let id)): firstID = id < UInt64(Int32.max) ? Int(id) : nil
      case (42, .integer(let id)): lastID = id < UInt64(Int32.max) ? Int(id) : nil
      default: break
      }
    }
  }

  private mutating func readNormalizerSpec(
    _ message: ArraySlice<UInt8>
  ) throws(TokenizerError.Problem) {
    var reader = ProtobufReader(message)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (2, .bytes(let map)): hasCharacterMap = !map.isEmpty
      case (3, .integer(let flag)): addsDummyPrefix = flag != 0
      default: break
      }
    }
  }

  /// The tokenizer.
  func read() throws(TokenizerError.Problem) -> TokenizerParts {
    guard modelType == 2 else {
      let names: [UInt64: String] = [1: "Unigram", 3: "Word", 4: "Char"]
      throw .unsupported(
        component: "SentencePiece model", type: names[modelType] ?? "\(modelType)")
    }
    guard !hasCharacterMap else {
      throw .unsupported(component: "normalizer", type: "Precompiled")
    }
    guard !pieces.isEmpty else { throw .empty }
    var vocabulary = Vocabulary(capacity: pieces.count)
    for (id, piece) in pieces.enumerated() {
      try vocabulary.add(piece.text, id: id, limit: pieces.count)
    }
    var model = BytePairModel(
      vocabulary: vocabulary, merges: merges(vocabulary), byteIDs: [], isByteLevel: false)
    model.unknownID = pieces.firstIndex { $0.type == 2 }.map { Int32($0) }
    model.fusesUnknown = true
    if pieces.contains(where: { $0.type == 6 }) { model.setFallback() }
    model.setAlphabet()
    model.setCuts(tokens: vocabulary)

    var parts = TokenizerParts(model: .bytePair(model), vocabulary: vocabulary)
    let mark = Array("▁".utf8)
    let escape = Normalizer.replace(.string([0x20]), with: mark)
    parts.normalizer = addsDummyPrefix ? .sequence([.prepend(mark), escape]) : escape
    parts.decoder = [.replace(.string(mark), with: [0x20]), .byteFallback, .fuse]
    if addsDummyPrefix { parts.decoder.append(.strip(content: [0x20], start: 1, stop: 0)) }
    if let firstID, firstID < pieces.count {
      let first = InputTemplate.Piece.special([Int32(firstID)], typeID: 0)
      parts.template = InputTemplate(
        single: [first, .text(0, typeID: 0)],
        pair: [
          first, .text(0, typeID: 0), .special([Int32(firstID)], typeID: 1), .text(1, typeID: 1),
        ])
    }
    parts.finish(adding: addedTokens())
    return parts
  }

  /// Control and unknown pieces are special; user-defined ones are found in the text too.
  private func addedTokens() -> [AddedToken] {
    pieces.enumerated().filter { (2...4).contains($0.element.type) }.map {
      AddedToken(
        id: Int32($0.offset), content: $0.element.text, isSpecial: $0.element.type != 4,
        isSingleWord: false, stripsLeft: false, stripsRight: false, isNormalized: false)
    }
  }

  private func merges(_ vocabulary: Vocabulary) -> MergeTable {
    var table = MergeTable(capacity: pieces.count)
    var rank: Int32 = 0
    // Llama 2 puts its runs of blanks early in the list and gives them the least score of all.
    let order = pieces.indices.sorted {
      (pieces[$1].score, $0) < (pieces[$0].score, $1)
    }
    for id in order {
      let piece = pieces[id]
      let span = piece.text.span
      for split in piece.text.indices.dropFirst() where piece.text[split] & 0xC0 != 0x80 {
        guard let left = vocabulary.id(of: span, 0..<split),
          let right = vocabulary.id(of: span, split..<span.count)
        else { continue }
        table.insert(left, right, rank: rank, merged: Int32(id))
        rank += 1
      }
    }
    return table
  }
}

/// A cursor over one message in the protobuf wire format.
///
/// Source: https://protobuf.dev/programming-guides/encoding/
private struct ProtobufReader {
  enum Value {
    case integer(UInt64)
    case bytes(ArraySlice<UInt8>)
    /// Fixed 32 or 64 bits.
    case fixed(UInt64)
  }

  private var rest: ArraySlice<UInt8>
  private var index = 0

  init(_ message: ArraySlice<UInt8>) { rest = message }

  /// The next field, `nil` at the end of the message.
  mutating func next() throws(TokenizerError.Problem) -> (number: UInt64, value: Value)? {
    guard !rest.isEmpty else { return nil }
    defer { index += 1 }
    let tag = try varint()
    switch tag & 7 {
    case 0: return (tag >> 3, .integer(try varint()))
    case 1: return (tag >> 3, .fixed(fixed(try take(8))))
    case 2: return (tag >> 3, .bytes(try take(try varint())))
    case 5: return (tag >> 3, .fixed(fixed(try take(4))))
    default: throw malformed("wire type \(tag & 7) is unknown")
    }
  }

  private func fixed(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  private func malformed(_ reason: String) -> TokenizerError.Problem {
    .badRecord(format: "SentencePiece model", index: index, reason: reason)
  }

  private mutating func varint() throws(TokenizerError.Problem) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      guard let byte = rest.popFirst() else { throw malformed("the file ends inside a number") }
      value |= UInt64(byte & 0x7F) << shift
      if byte & 0x80 == 0 { return value }
    }
    throw malformed("a number has more than 64 bits")
  }

  private mutating func take(_ count: UInt64) throws(TokenizerError.Problem) -> ArraySlice<UInt8> {
    guard count <= UInt64(rest.count) else {
      throw malformed("\(count) bytes are announced, \(rest.count) are left")
    }
    let part = rest.prefix(Int(count))
    rest = rest.dropFirst(Int(count))
    return part
  }
}

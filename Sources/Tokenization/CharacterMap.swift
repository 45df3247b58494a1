// The character map of a SentencePiece model: the normalizer `Precompiled` of a tokenizer file.
//
// Source   https://github.com/google/sentencepiece, src/normalizer.cc (the blob: u32 size of the tree, the tree, then
//          texts that end in a zero byte) and third_party/darts_clone (the tree's units); which characters are
//          looked up together, as the package `tokenizers` does it: a grapheme cluster of less than six bytes first
//          as a whole, by its shortest prefix in the tree, and otherwise scalar by scalar
// Given    untrusted bytes: every step of a walk is checked against the tree's end
// Checked  TokenizerTests: ids equal `tokenizers`; TokenizerErrorTests: damaged maps

/// Replacements of characters.
struct CharacterMap: Sendable {
  private let units: [UInt32]
  private let texts: [UInt8]

  /// Reads a map.
  init(_ blob: [UInt8]) throws(TokenizerError.Problem) {
    func word(_ offset: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(blob[offset + $1]) << UInt32(8 * $1) }
    }
    guard blob.count >= 4 else { throw Self.malformed("\(blob.count) bytes; expected 4 or more") }
    let size = Int(word(0))
    guard size >= 4, size % 4 == 0, size <= blob.count - 4 else {
      throw Self.malformed("a tree of \(size) bytes in a map of \(blob.count)")
    }
    units = stride(from: 4, to: 4 + size, by: 4).map(word)
    texts = Array(blob[(4 + size)...])
    if let offset = firstInvalidUTF8(texts.span) {
      throw Self.malformed("its texts are not UTF-8 at byte \(offset)")
    }
  }

  private static func malformed(_ reason: String) -> TokenizerError.Problem {
    .badRecord(format: "character map", index: 0, reason: reason)
  }

  /// The text that stands for `key`: that of the shortest prefix of it which the tree holds.
  private func replacement(_ key: Span<UInt8>, _ range: Range<Int>) -> Range<Int>? {
    /// Where a unit's children are, relative to it.
    func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & 1 << 9) >> 6) }
    var place = offset(units[0])
    for index in range {
      let byte = key[index]
      guard byte != 0 else { return nil }
      place ^= Int(byte)
      guard place < units.count else { return nil }
      let unit = units[place]
      guard unit & (1 << 31 | 0xFF) == UInt32(byte) else { return nil }
      place ^= offset(unit)
      guard place < units.count else { return nil }
      guard unit >> 8 & 1 == 1 else { continue }
      let start = Int(units[place] & (1 << 31 - 1))
      // A damaged tree may point into a character.
      guard start < texts.count, texts[start] & 0xC0 != 0x80 else { return nil }
      let end = texts[start...].firstIndex(of: 0) ?? texts.count
      return start..<end
    }
    return nil
  }

  /// Normalizes a text in place. Unlike after other normalizers, what is left after first characters that vanish still
  /// counts as the start of the text.
  func apply(_ text: inout [UInt8]) {
    var output: [UInt8] = []
    output.reserveCapacity(text.count)
    var index = 0
    // Grapheme clusters are found by the standard library, on the same bytes.
    for cluster in String(decoding: text, as: UTF8.self) {
      let end = index + cluster.utf8.count
      if end - index < 6, let found = replacement(text.span, index..<end) {
        output += texts[found]
        index = end
        continue
      }
      while index < end {
        let next = index + scalar(text.span, at: index).length
        if let found = replacement(text.span, index..<next) {
          output += texts[found]
        } else {
          output += text[index..<next]
        }
        index = next
      }
    }
    text = output
  }
}

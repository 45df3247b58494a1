// Tokens that are found in the text itself, before the model sees the rest.
//
// Source   https://huggingface.co/docs/tokenizers/api/added-tokens. Of the tokens at one place the
//          longest wins; a token that may only be a whole word is passed over elsewhere.

/// A token that stands beside the model's vocabulary.
struct AddedToken: Sendable {
  var id: Int32
  var content: [UInt8]
  var isSpecial: Bool
  /// Found only where no word character touches it.
  var isSingleWord: Bool
  /// Takes the blanks before it.
  var stripsLeft: Bool
  /// Takes the blanks behind it.
  var stripsRight: Bool
  /// Found in the normalized text, in its own normalized form.
  var isNormalized: Bool
}

/// Finds added tokens in a text.
struct AddedTokenMatcher: Sendable {
  /// A stretch of text, or a token that was found.
  enum Part: Equatable {
    case text(Range<Int>)
    case token(Int32)
  }

  private struct Node: Sendable {
    var byte: UInt8
    var token: Int32 = -1
    var firstChild: Int32 = -1
    var sibling: Int32 = -1
  }

  /// A tree of the tokens' bytes; the root's children by byte in `roots`.
  private var nodes: [Node] = []
  private var roots: [Int32] = .init(repeating: -1, count: 256)
  private var tokens: [AddedToken] = []

  /// True when there is nothing to find.
  var isEmpty: Bool { tokens.isEmpty }

  /// Adds a token that is found as `pattern`.
  mutating func insert(_ token: AddedToken, pattern: [UInt8]) {
    guard let first = pattern.first else { return }
    if roots[Int(first)] < 0 {
      roots[Int(first)] = Int32(nodes.count)
      nodes.append(Node(byte: first))
    }
    var node = Int(roots[Int(first)])
    for byte in pattern.dropFirst() {
      var child = nodes[node].firstChild
      while child >= 0, nodes[Int(child)].byte != byte { child = nodes[Int(child)].sibling }
      if child < 0 {
        child = Int32(nodes.count)
        nodes.append(Node(byte: byte, sibling: nodes[node].firstChild))
        nodes[node].firstChild = child
      }
      node = Int(child)
    }
    nodes[node].token = Int32(tokens.count)
    tokens.append(token)
  }

  /// The parts of a text in order. Blanks that a token takes belong to it.
  func parts(of text: Span<UInt8>) -> [Part] {
    guard !isEmpty else { return text.isEmpty ? [] : [.text(0..<text.count)] }
    var parts: [Part] = []
    var done = 0
    var index = 0
    while index < text.count {
      guard roots[Int(text[index])] >= 0, let match = longest(text, at: index) else {
        index += 1
        continue
      }
      let token = tokens[match.token]
      var start = index
      var end = match.end
      index = match.end
      if token.isSingleWord, touchesWord(text, start..<end) { continue }
      if token.stripsLeft { start = max(blankStart(text, before: start), done) }
      if token.stripsRight { end = blankEnd(text, after: end) }
      // Blanks that the token before has taken already leave nothing of this one.
      guard start < end else { continue }
      if done < start { parts.append(.text(done..<start)) }
      parts.append(.token(token.id))
      done = end
    }
    if done < text.count { parts.append(.text(done..<text.count)) }
    return parts
  }

  @inline(__always)
  private func longest(_ text: Span<UInt8>, at start: Int) -> (token: Int, end: Int)? {
    var node = Int(roots[Int(text[start])])
    var best: (token: Int, end: Int)?
    var index = start + 1
    while true {
      if nodes[node].token >= 0 { best = (Int(nodes[node].token), index) }
      guard index < text.count else { return best }
      var child = nodes[node].firstChild
      while child >= 0, nodes[Int(child)].byte != text[index] {
        child = nodes[Int(child)].sibling
      }
      guard child >= 0 else { return best }
      node = Int(child)
      index += 1
    }
  }

  private func touchesWord(_ text: Span<UInt8>, _ range: Range<Int>) -> Bool {
    if range.lowerBound > 0 {
      let before = scalarStart(text, before: range.lowerBound)
      if ScalarClass.isWord(scalar(text, at: before).value) { return true }
    }
    guard range.upperBound < text.count else { return false }
    return ScalarClass.isWord(scalar(text, at: range.upperBound).value)
  }

  private func blankStart(_ text: Span<UInt8>, before index: Int) -> Int {
    var index = index
    while index > 0 {
      let before = scalarStart(text, before: index)
      guard ScalarClass.isWhitespace(scalar(text, at: before).value) else { break }
      index = before
    }
    return index
  }

  private func blankEnd(_ text: Span<UInt8>, after index: Int) -> Int {
    var index = index
    while index < text.count {
      let next = scalar(text, at: index)
      guard ScalarClass.isWhitespace(next.value) else { break }
      index += next.length
    }
    return index
  }
}

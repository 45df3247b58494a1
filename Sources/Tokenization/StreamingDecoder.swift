// Text from ids as a model makes them, one by one.

/// Turns ids into text piece by piece.
///
/// Every piece is whole characters. All pieces together, with `finish()`, are what
/// `Tokenizer.decode` gives for all ids.
public struct StreamingDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skipsSpecialTokens: Bool
  private var chain: DecoderChain
  private var state = RegexState()

  /// A decoder at the start of a text.
  public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true) {
    self.tokenizer = tokenizer
    self.skipsSpecialTokens = skipSpecialTokens
    chain = DecoderChain(tokenizer.parts.decoder)
  }

  /// Takes the next id.
  ///
  /// - Returns: The text that is certain now. It is empty while the bytes of a character are
  ///   incomplete, and for ids that the vocabulary lacks.
  public mutating func push(_ id: Int32) -> String {
    guard let token = tokenizer.parts.decodable(id, skipSpecialTokens: skipsSpecialTokens) else {
      return ""
    }
    var output: [UInt8] = []
    chain.push(token, into: &output, &state)
    return String(decoding: output, as: UTF8.self)
  }

  /// Ends the text.
  ///
  /// - Returns: What was held back; bytes that never became a character are U+FFFD.
  public mutating func finish() -> String {
    var output: [UInt8] = []
    chain.finish(into: &output, &state)
    self = StreamingDecoder(tokenizer, skipSpecialTokens: skipsSpecialTokens)
    return String(decoding: output, as: UTF8.self)
  }
}

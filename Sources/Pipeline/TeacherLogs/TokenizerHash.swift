import Checkpoints
public import Tokenization

/// The hash of what a tokenizer's ids stand for: a token's bytes, id after id.
///
/// Files of different formats that hold one vocabulary have one hash, so that a GGUF student reads the logs of
/// the checkpoint folder that it was made from.
public func tokenizerHash(_ tokenizer: Tokenizer, vocabulary: Int) -> String {
  var hash = ContentHash()
  var bytes: [UInt8] = []
  for id in 0..<Int32(clamping: vocabulary) {
    let token = tokenizer.tokenBytes(id)
    let count = token?.count ?? -1
    bytes += (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
    bytes += token ?? []
  }
  unsafe hash.update(bytes.span.bytes)
  return hash.digits
}

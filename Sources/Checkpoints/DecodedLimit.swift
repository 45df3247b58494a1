/// How much memory a file may make its reader take, beyond the mapping of the file itself.
///
/// A few kilobytes can name gigabytes: by compression, by a stride of zero, by a chunk that is not there.
public enum DecodedLimit {
  /// Bytes on top of the file's size.
  public static let allowance = 64 << 20

  /// The most that one decoded thing of a file of `fileBytes` may take.
  public static func bytes(fileBytes: Int) -> Int { fileBytes + allowance }
}

/// What a reader has taken so far of what a file of this size may take.
struct DecodedBudget {
  let limit: Int
  private(set) var taken = 0

  init(fileBytes: Int) { limit = DecodedLimit.bytes(fileBytes: fileBytes) }

  /// Half of what is allowed, for values whose arrays grow by doubling.
  init(growingWithin fileBytes: Int) { limit = DecodedLimit.bytes(fileBytes: fileBytes) / 2 }

  /// Takes some bytes; `what` ends in a verb: "the pickle's values take".
  mutating func take(_ bytes: Int, _ what: @autoclosure () -> String) throws(CheckpointError
    .Problem)
  {
    guard bytes <= limit - taken else {
      throw .tooLarge(what: what(), bytes: taken + bytes, limit: limit)
    }
    taken += bytes
  }
}

import Tensors

/// Keys and values of the tokens so far, for each branch of one sequence.
public final class KeyValueCache {
  /// Tokens in the cache.
  public private(set) var count = 0
  /// The branch that runs; set by the network's forward pass.
  var sublayer = 0
  private var keys: [Int: [Float]] = [:]
  private var values: [Int: [Float]] = [:]

  /// An empty cache.
  public init() {}

  /// Appends the rows of new tokens and hands out all: `[count + new, width]` each.
  func extend(_ newKeys: Matrix, _ newValues: Matrix) -> (keys: [Float], values: [Float]) {
    keys[sublayer, default: []] += newKeys.values
    values[sublayer, default: []] += newValues.values
    return (keys[sublayer, default: []], values[sublayer, default: []])
  }

  /// Counts the tokens that every branch has stored.
  func advance(by tokens: Int) { count += tokens }
}

import Tensors

/// Keys and values of the tokens so far, for each branch of one sequence, or of several in step with each other.
public final class KeyValueCache {
  /// Tokens in the cache.
  public private(set) var count = 0
  /// The branch that runs; set by the network's forward pass.
  var sublayer = 0
  private var keys: [Int: [Float]] = [:]
  private var values: [Int: [Float]] = [:]
  /// Keys and values of what stays the same for every token, by branch.
  private var fixed: [Int: (keys: Matrix, values: Matrix)] = [:]

  /// Sequences that are continued together, all of the same length.
  let sequences: Int
  /// Tokens that each of several sequences has room for.
  private let capacity: Int

  /// An empty cache of one sequence, which grows.
  public init() {
    sequences = 1
    capacity = 0
  }

  /// An empty cache of several sequences with at most `capacity` tokens each.
  public init(sequences: Int, capacity: Int) {
    precondition(sequences > 0 && capacity > 0)
    self.sequences = sequences
    self.capacity = capacity
  }

  /// Rows before those of a sequence.
  func firstRow(ofSequence index: Int) -> Int { index * capacity }

  /// Appends the rows of new tokens, as many of each sequence, and hands out all: of one sequence `[count + new, width]`,
  /// of several `[sequences, capacity, width]`.
  func extend(_ newKeys: Matrix, _ newValues: Matrix) -> (keys: [Float], values: [Float]) {
    append(newKeys, to: &keys[sublayer, default: []])
    append(newValues, to: &values[sublayer, default: []])
    return (keys[sublayer, default: []], values[sublayer, default: []])
  }

  private func append(_ rows: Matrix, to all: inout [Float]) {
    guard capacity > 0 else {
      all += rows.values
      return
    }
    let each = rows.rows / sequences, width = rows.columns
    precondition(each * sequences == rows.rows && count + each <= capacity)
    if all.isEmpty { all = [Float](repeating: 0, count: sequences * capacity * width) }
    for sequence in 0..<sequences {
      let target = (sequence * capacity + count) * width, source = sequence * each * width
      for i in 0..<each * width { all[target + i] = rows.values[source + i] }
    }
  }

  /// Keys and values of what stays the same for every token, such as an encoder's result; made when they are asked for the
  /// first time.
  func fixed(_ make: () -> (keys: Matrix, values: Matrix)) -> (keys: Matrix, values: Matrix) {
    if let known = fixed[sublayer] { return known }
    let made = make()
    fixed[sublayer] = made
    return made
  }

  /// Counts the tokens that every branch has stored.
  func advance(by tokens: Int) { count += tokens / sequences }
}

// Which weights of a matrix may be zero together: anywhere, N kept of every M, or whole blocks of a row.

/// Where the zeros of a sparse matrix may lie. Groups and blocks are consecutive inputs of one output.
public enum SparsityPattern: Sendable, Equatable {
  /// Anywhere.
  case unstructured
  /// `N:M`, as hardware names it: at most `kept` nonzero weights among every `of` consecutive inputs.
  case groups(kept: Int, of: Int)
  /// `1xB`: blocks of `B` consecutive inputs are kept or removed whole.
  case blocks(Int)

  /// Groups and blocks are at most so long.
  public static let longest = 256

  /// `unstructured`, `2:4`, `1x16`.
  public var name: String {
    switch self {
    case .unstructured: "unstructured"
    case .groups(let kept, let size): "\(kept):\(size)"
    case .blocks(let size): "1x\(size)"
    }
  }

  /// The names, as a message lists them.
  public static let nameList =
    "unstructured, N:M such as 2:4 or 4:8 with 0 < N < M <= \(longest), 1xB such as 1x16 with 2 <= B <= \(longest)"

  /// The pattern of a name; nil when there is none.
  public init?(_ name: String) {
    func numbers(_ separator: Character) -> (Int, Int)? {
      let parts = name.split(separator: separator, omittingEmptySubsequences: false)
      guard parts.count == 2, let first = Self.number(parts[0]), let second = Self.number(parts[1])
      else { return nil }
      return (first, second)
    }
    if name == "unstructured" {
      self = .unstructured
    } else if let (kept, size) = numbers(":"), kept > 0, kept < size, size <= Self.longest {
      self = .groups(kept: kept, of: size)
    } else if let (one, size) = numbers("x"), one == 1, (2...Self.longest).contains(size) {
      self = .blocks(size)
    } else {
      return nil
    }
  }

  private static func number(_ text: Substring) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), text.first != "0"
    else { return nil }
    return Int(text)
  }

  /// The number of inputs of a matrix is a multiple of this.
  public var columnMultiple: Int {
    switch self {
    case .unstructured: 1
    case .groups(_, let size), .blocks(let size): size
    }
  }

  /// The share of zeros that the pattern alone decides; nil when it leaves it open.
  public var sparsity: Double? {
    if case .groups(let kept, let size) = self { return Double(size - kept) / Double(size) }
    return nil
  }
}

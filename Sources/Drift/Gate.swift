// A limit on a drift figure and what came of it.

/// What came of a limit.
public enum Verdict: String, Sendable, CaseIterable {
  /// The value and its whole interval keep the limit.
  case passed
  /// The value and its whole interval break it.
  case failed
  /// The interval straddles the limit: too few tokens to say.
  case undecided
}

/// A limit on a figure.
public enum Limit: Sendable, Equatable {
  /// The figure may be at most this.
  case atMost(Double)
  /// The figure must be at least this.
  case atLeast(Double)

  /// Compares a figure, and the interval it has, with the limit.
  public func verdict(_ value: Double, interval: ClosedRange<Double>?) -> Verdict {
    let low = interval?.lowerBound ?? value, high = interval?.upperBound ?? value
    guard value.isFinite else { return .failed }
    switch self {
    case .atMost(let limit): return high <= limit ? .passed : low > limit ? .failed : .undecided
    case .atLeast(let limit): return low >= limit ? .passed : high < limit ? .failed : .undecided
    }
  }
}

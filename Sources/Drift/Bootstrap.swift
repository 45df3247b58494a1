// Confidence intervals of means by resampling windows.
//
// Source   Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile interval.
//          The windows are resampled in pairs: reference and model stay together.

import Tensors

/// A seeded bootstrap over windows.
public struct Bootstrap: Sendable {
  /// Resamples.
  public static let rounds = 1000

  /// For each round, how often each window is drawn.
  private let draws: [[Int]]

  /// Draws for so many windows; always the same ones.
  public init(windows: Int) {
    var stream = RandomStream(seed: 0, name: "bootstrap")
    draws = (0..<Self.rounds).map { _ in
      (0..<windows).map { _ in stream.integer(below: windows) }
    }
  }

  /// The 2.5 % and 97.5 % points of a statistic of the resampled windows.
  public func interval(_ statistic: ([Int]) -> Double) -> ClosedRange<Double> {
    let values = draws.map(statistic).sorted()
    guard let first = values.first else { return 0...0 }
    func point(_ share: Double) -> Double {
      values.isEmpty ? first : values[min(values.count - 1, Int(share * Double(values.count)))]
    }
    let low = point(0.025), high = point(0.975)
    return low <= high ? low...high : high...low
  }

  /// The interval of the mean of one value a window.
  public func intervalOfMean(_ values: [Double]) -> ClosedRange<Double> {
    interval { windows in windows.reduce(0.0) { $0 + values[$1] } / Double(windows.count) }
  }
}

/// The value below which a share of the sorted values lies, between neighbours by line.
public func percentile(_ share: Double, ofSorted values: [Double]) -> Double {
  guard let last = values.last else { return 0 }
  let position = share * Double(values.count - 1)
  let index = Int(position)
  guard index + 1 < values.count else { return last }
  return values[index] + (position - Double(index)) * (values[index + 1] - values[index])
}

/// Spearman's rank correlation; ties share their mean rank.
public func spearman(_ a: [Double], _ b: [Double]) -> Double {
  precondition(a.count == b.count)
  return pearson(ranks(a), ranks(b))
}

private func ranks(_ values: [Double]) -> [Double] {
  let order = values.indices.sorted { values[$0] < values[$1] }
  var ranks = [Double](repeating: 0, count: values.count)
  var start = 0
  while start < order.count {
    var end = start
    while end + 1 < order.count, values[order[end + 1]] == values[order[start]] { end += 1 }
    for i in start...end { ranks[order[i]] = Double(start + end) / 2 }
    start = end + 1
  }
  return ranks
}

private func pearson(_ a: [Double], _ b: [Double]) -> Double {
  let count = Double(a.count)
  guard count > 1 else { return 0 }
  let meanA = a.reduce(0, +) / count, meanB = b.reduce(0, +) / count
  var covariance = 0.0, varianceA = 0.0, varianceB = 0.0
  for (x, y) in zip(a, b) {
    covariance += (x - meanA) * (y - meanB)
    varianceA += (x - meanA) * (x - meanA)
    varianceB += (y - meanB) * (y - meanB)
  }
  let scale = (varianceA * varianceB).squareRoot()
  return scale > 0 ? covariance / scale : 0
}

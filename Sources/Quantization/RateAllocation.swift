// Which tensor gets how many bits: the least predicted drift for a number of bytes, or the fewest bytes for a drift.
//
// Source   Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9),
//          1988 (Lagrange multipliers); Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004, chapter 11 (states
//          that are dominated or beyond the relaxation's bound are dropped)
// Given    for each tensor its size and error at several choices, and the drift that a unit of its error causes
// Result   a choice a tensor: exactly the best for the additive model, not only on its convex hull; for choices that
//          form a continuum (entropy-coded rates) the best real rates
// Checked  RateAllocationTests: against all combinations, by enumeration; slopes equal at real rates

import Glibc

/// What each choice costs a tensor, or tensors that must share one.
public struct SensitivityCurve: Sendable, Equatable {
  /// One choice.
  public struct Point: Sendable, Equatable {
    /// Stored bytes.
    public let bytes: Int
    /// The drift that the model is predicted to have from this choice alone.
    public let drift: Double

    /// A choice.
    public init(bytes: Int, drift: Double) {
      self.bytes = bytes
      self.drift = drift
    }
  }

  /// Weights of the tensors.
  public let weights: Int
  /// The choices.
  public let points: [Point]

  /// A curve with at least one point.
  public init(weights: Int, points: [Point]) {
    precondition(!points.isEmpty && weights > 0)
    self.weights = weights
    self.points = points
  }

  /// Indices of the points that lie on the lower convex hull, from the fewest bytes on.
  var hull: [Int] {
    let order = points.indices.sorted {
      (points[$0].bytes, points[$0].drift, $0) < (points[$1].bytes, points[$1].drift, $1)
    }
    var hull: [Int] = []
    for index in order {
      if let last = hull.last, points[index].drift >= points[last].drift { continue }
      while hull.count >= 2,
        Self.gain(points, hull[hull.count - 2], hull[hull.count - 1])
          <= Self.gain(points, hull[hull.count - 1], index)
      {
        hull.removeLast()
      }
      hull.append(index)
    }
    return hull
  }

  /// Drift saved a byte between two points.
  static func gain(_ points: [Point], _ first: Int, _ second: Int) -> Double {
    (points[first].drift - points[second].drift)
      / Double(points[second].bytes - points[first].bytes)
  }
}

/// Chooses among points.
public enum RateAllocation {
  /// The choice of each curve with the least drift that fits; nil when even the smallest do not fit.
  public static func choose(_ curves: [SensitivityCurve], bytes budget: Int) -> [Int]? {
    let least = curves.reduce(0) { $0 + ($1.points.map(\.bytes).min() ?? 0) }
    guard least <= budget else { return nil }
    return solve(curves, limit: budget)
  }

  /// The choice of each curve with the fewest bytes whose drifts sum to at most `drift`; nil when even the least drifts
  /// are more.
  public static func choose(_ curves: [SensitivityCurve], drift limit: Double) -> [Int]? {
    let least = curves.reduce(0) { $0 + ($1.points.map(\.drift).min() ?? 0) }
    guard least <= limit else { return nil }
    // The fewest bytes are found by bisection on the budget: the least drift falls as bytes grow.
    var low = curves.reduce(0) { $0 + ($1.points.map(\.bytes).min() ?? 0) }
    var high = curves.reduce(0) { $0 + ($1.points.map(\.bytes).max() ?? 0) }
    var best: [Int]?
    while low <= high {
      let middle = low + (high - low) / 2
      if let choice = choose(curves, bytes: middle), total(curves, choice).drift <= limit {
        best = choice
        high = total(curves, choice).bytes - 1
      } else {
        low = middle + 1
      }
    }
    return best
  }

  /// Bytes and drift of a choice.
  public static func total(
    _ curves: [SensitivityCurve], _ choice: [Int]
  ) -> (bytes: Int, drift: Double) {
    zip(curves, choice).reduce((0, 0.0)) {
      ($0.0 + $1.0.points[$1.1].bytes, $0.1 + $1.0.points[$1.1].drift)
    }
  }

  private struct State {
    let cost: Int
    let value: Double
    /// The state before and the choice that led here.
    let parent: Int
    let choice: Int
  }

  /// Dynamic programming over the curves; states that are dominated, or whose bound is no better than what the
  /// greedy solution reaches, are dropped.
  private static func solve(
    _ curves: [SensitivityCurve], limit: Int
  ) -> [Int] {
    // Curves that can save most first, so that bounds bite early.
    let order = curves.indices.sorted { curves[$0].weights > curves[$1].weights }
    let bounds = Bounds(order.map { curves[$0] })
    var incumbent = greedy(curves, limit: limit)
    let best = total(curves, incumbent).drift
    var layers: [[State]] = [[State(cost: 0, value: 0, parent: -1, choice: -1)]]
    for (depth, index) in order.enumerated() {
      var next: [State] = []
      for (parent, state) in layers[depth].enumerated() {
        for (choice, point) in curves[index].points.enumerated() {
          next.append(
            State(
              cost: state.cost + point.bytes, value: state.value + point.drift, parent: parent,
              choice: choice))
        }
      }
      next.sort { ($0.cost, $0.value, $0.parent) < ($1.cost, $1.value, $1.parent) }
      var kept: [State] = []
      for state in next {
        if let last = kept.last, state.value >= last.value { continue }
        let bound = bounds.least(from: depth + 1, bytes: limit - state.cost)
        guard let bound, state.value + bound < best - 1e-15 * abs(best) else { continue }
        kept.append(state)
      }
      layers.append(kept)
      if kept.isEmpty { return incumbent }
    }
    // What is left is better than the greedy solution.
    guard
      let last = layers.last?.indices.min(by: {
        layers[curves.count][$0].value < layers[curves.count][$1].value
      })
    else { return incumbent }
    var at = last
    for depth in (0..<order.count).reversed() {
      let state = layers[depth + 1][at]
      incumbent[order[depth]] = state.choice
      at = state.parent
    }
    return incumbent
  }

  /// Steps along the hulls, the best gain first, then whatever still fits.
  private static func greedy(_ curves: [SensitivityCurve], limit: Int) -> [Int] {
    let hulls = curves.map(\.hull)
    var place = [Int](repeating: 0, count: curves.count)
    var bytes = zip(curves, hulls).reduce(0) { $0 + $1.0.points[$1.1[0]].bytes }
    var steps: [(gain: Double, curve: Int, to: Int)] = []
    for (index, hull) in hulls.enumerated() {
      for step in 1..<max(hull.count, 1) {
        steps.append(
          (SensitivityCurve.gain(curves[index].points, hull[step - 1], hull[step]), index, step))
      }
    }
    steps.sort { ($0.gain, $1.curve, $1.to) > ($1.gain, $0.curve, $0.to) }
    for step in steps where place[step.curve] == step.to - 1 {
      let points = curves[step.curve].points, hull = hulls[step.curve]
      let more = points[hull[step.to]].bytes - points[hull[step.to - 1]].bytes
      guard bytes + more <= limit else { continue }
      bytes += more
      place[step.curve] = step.to
    }
    return zip(hulls, place).map { $0[$1] }
  }

  /// The linear relaxation of the curves from one on: the least drift that bytes can buy when steps along the hulls
  /// may be taken in part.
  private struct Bounds {
    /// For each start: cumulated bytes and drifts of the steps by gain.
    private var tables: [(bytes: [Int], drift: [Double])] = []

    init(_ curves: [SensitivityCurve]) {
      tables = (0...curves.count).map { start in
        var steps: [(gain: Double, bytes: Int, drift: Double)] = []
        var first = (bytes: 0, drift: 0.0)
        for curve in curves[start...] {
          let hull = curve.hull
          first.bytes += curve.points[hull[0]].bytes
          first.drift += curve.points[hull[0]].drift
          for step in 1..<max(hull.count, 1) {
            let a = curve.points[hull[step - 1]], b = curve.points[hull[step]]
            steps.append(
              (
                SensitivityCurve.gain(curve.points, hull[step - 1], hull[step]),
                b.bytes - a.bytes, b.drift - a.drift
              ))
          }
        }
        steps.sort { $0.gain > $1.gain }
        var bytes = [first.bytes], drift = [first.drift]
        for step in steps {
          bytes.append((bytes.last ?? 0) + step.bytes)
          drift.append((drift.last ?? 0) + step.drift)
        }
        return (bytes, drift)
      }
    }

    /// Nil when the smallest choices do not fit.
    func least(from start: Int, bytes: Int) -> Double? {
      let table = tables[start]
      guard bytes >= table.bytes[0] else { return nil }
      // The last entry that fits.
      var low = 0, high = table.bytes.count - 1
      while low < high {
        let middle = (low + high + 1) / 2
        if table.bytes[middle] <= bytes { low = middle } else { high = middle - 1 }
      }
      guard low + 1 < table.bytes.count else { return table.drift[low] }
      let share =
        Double(bytes - table.bytes[low]) / Double(table.bytes[low + 1] - table.bytes[low])
      return table.drift[low] + share * (table.drift[low + 1] - table.drift[low])
    }
  }
}

/// The drift of a tensor as a function of its rate, between and beyond measured points.
public struct RateCurve: Sendable, Equatable {
  /// Weights of the tensor.
  public let weights: Int
  /// Bits a weight, rising, and log2 of the drift there.
  private let bits, logs: [Double]

  /// A curve over measured rates and drifts greater than 0, at least two. Where drift does not fall with the rate, it is
  /// taken to be flat.
  public init(weights: Int, points: [(bits: Double, drift: Double)]) {
    precondition(points.count >= 2 && weights > 0)
    self.weights = weights
    let sorted = points.sorted { $0.bits < $1.bits }
    bits = sorted.map(\.bits)
    var logs = sorted.map { log2(max($0.drift, 1e-30)) }
    for i in 1..<logs.count { logs[i] = min(logs[i], logs[i - 1] - 1e-3) }
    self.logs = logs
  }

  /// The segment of a rate, for rates outside the nearest.
  private func segment(_ rate: Double) -> Int {
    max(0, min((bits.firstIndex { $0 > rate } ?? bits.count) - 1, bits.count - 2))
  }

  /// log2 of the drift falls by so much a bit.
  private func slope(_ segment: Int) -> Double {
    (logs[segment] - logs[segment + 1]) / max(1e-9, bits[segment + 1] - bits[segment])
  }

  /// The predicted drift.
  public func drift(_ rate: Double) -> Double {
    let segment = segment(rate)
    return exp2(logs[segment] - slope(segment) * (rate - bits[segment]))
  }

  /// The rate in a range at which one more bit a weight saves no more than `price` times the weights.
  fileprivate func rate(price: Double, in range: ClosedRange<Double>) -> Double {
    var low = range.lowerBound, high = range.upperBound
    for _ in 0..<50 {
      let middle = (low + high) / 2
      let saved = drift(middle) * slope(segment(middle)) * M_LN2
      if saved > price * Double(weights) { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }
}

extension RateAllocation {
  /// Real rates that sum to `bits` bits over all weights with the least drift: an equal saving of drift a bit everywhere.
  public static func rates(
    _ curves: [RateCurve], bits: Double, in range: ClosedRange<Double>
  ) -> [Double] {
    rates(curves, in: range) { rates in
      zip(curves, rates).reduce(0.0) { $0 + Double($1.0.weights) * $1.1 } > bits
    }
  }

  /// Real rates with the fewest bits whose drifts sum to `drift`.
  public static func rates(
    _ curves: [RateCurve], drift: Double, in range: ClosedRange<Double>
  ) -> [Double] {
    rates(curves, in: range) { rates in
      zip(curves, rates).reduce(0.0) { $0 + $1.0.drift($1.1) } < drift
    }
  }

  private static func rates(
    _ curves: [RateCurve], in range: ClosedRange<Double>, isDear: ([Double]) -> Bool
  ) -> [Double] {
    // The price of a bit, from nothing to beyond all drifts.
    var low = -120.0, high = 40.0
    for _ in 0..<80 {
      let middle = (low + high) / 2
      let rates = curves.map { $0.rate(price: exp2(middle), in: range) }
      if isDear(rates) { low = middle } else { high = middle }
    }
    return curves.map { $0.rate(price: exp2(high), in: range) }
  }
}

// Axes: from figures to positions, and where to put their ticks.

internal import Foundation

/// An axis from figures to positions.
struct PlotScale {
  /// A mark on the axis.
  struct Tick {
    let value: Double
    let label: String
  }

  let low: Double
  let high: Double
  let isLogarithmic: Bool
  let ticks: [Tick]
  /// The positions of `low` and `high`.
  let start: Double
  let end: Double

  /// The position of a value; values outside the axis stand at its ends.
  func position(_ value: Double) -> Double {
    let share =
      isLogarithmic
      ? (log10(value) - log10(low)) / (log10(high) - log10(low)) : (value - low) / (high - low)
    return start + min(max(share, 0), 1) * (end - start)
  }

  /// Positive, and far enough from the ends of `Double` to compute with.
  private static func canShow(_ value: Double) -> Bool { (1e-200...1e200).contains(value) }

  /// From 0 to at least the largest of `values`, with about `count` ticks at 1, 2 or 5 times a power
  /// of ten.
  static func linear(
    _ values: [Double], from start: Double, to end: Double, count: Int,
    label: ((Double) -> String)? = nil
  ) -> PlotScale {
    let largest = values.filter(canShow).max() ?? 1
    let rough = largest * 1.02 / Double(count)
    let exponent = Int(log10(rough).rounded(.down))
    let choices = [1, 2, 5, 10].map { $0 * pow(10, Double(exponent)) }
    let step = choices.first { $0 >= rough * 0.999 } ?? rough
    let steps = max(1, Int((largest * 1.02 / step).rounded(.up)))
    let ticks = (0...steps).map { index in
      let value = Double(index) * step
      return Tick(value: value, label: label?(value) ?? Self.label(value, exponent: exponent))
    }
    return PlotScale(
      low: 0, high: Double(steps) * step, isLogarithmic: false, ticks: ticks, start: start, end: end
    )
  }

  /// As many digits as the step needs, and no zeros at the end.
  private static func label(_ value: Double, exponent: Int) -> String {
    guard value != 0, exponent >= -6 else {
      return ReportNumbers.trimmed(ReportNumbers.significant(value))
    }
    return ReportNumbers.trimmed(ReportNumbers.fixed(value, max(0, -exponent)))
  }

  /// Around all positive `values`, from and to 1, 2 or 5 times a power of ten; ticks at all of these
  /// when there are few, else at powers of ten.
  static func logarithmic(_ values: [Double], from start: Double, to end: Double) -> PlotScale {
    let known = values.filter(canShow)
    let smallest = known.min() ?? 0.1
    let largest = known.max() ?? 1
    let first = Int(log10(smallest).rounded(.down))
    let last = max(first, Int(log10(largest).rounded(.up)))
    // (factor, exponent) of every possible tick, in order.
    let all = (first...last + 1).flatMap { exponent in
      [1, 2, 5].map { (factor: $0, exponent: exponent) }
    }
    func value(_ tick: (factor: Int, exponent: Int)) -> Double {
      Double(tick.factor) * pow(10, Double(tick.exponent))
    }
    let lowest = all.lastIndex { value($0) <= smallest } ?? 0
    let highest = all.indices.first { $0 >= lowest + 2 && value(all[$0]) >= largest }
    let range = all[lowest...(highest ?? all.count - 1)]
    let isDense = range.count > 8
    let every = max(1, (last - first + 7) / 8)
    let shown = range.filter { !isDense || $0.factor == 1 && ($0.exponent - first) % every == 0 }
    return PlotScale(
      low: range.first.map(value) ?? smallest, high: range.last.map(value) ?? largest,
      isLogarithmic: true,
      ticks: shown.map { Tick(value: value($0), label: power($0.exponent, times: $0.factor)) },
      start: start, end: end)
  }

  private static func power(_ exponent: Int, times factor: Int) -> String {
    switch exponent {
    case -4..<0: ReportNumbers.fixed(Double(factor) * pow(10, Double(exponent)), -exponent)
    case 0...3: ReportNumbers.fixed(Double(factor) * pow(10, Double(exponent)), 0)
    default: "\(factor)e\(exponent < 0 ? "−" : "")\(abs(exponent))"
    }
  }
}

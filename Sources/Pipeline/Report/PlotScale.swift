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

  /// From 0 to at least the largest of `values`, with about `count` ticks at 1, 2 or 5 times a power of ten.
  static func linear(
    _ values: [Double], from start: Double, to end: Double, count: Int,
    label: (Double) -> String
  ) -> PlotScale {
    let largest = values.filter { $0.isFinite && $0 > 0 && $0 < 1e300 }.max() ?? 1
    let rough = largest * 1.02 / Double(count)
    let power = exp10(log10(rough).rounded(.down))
    let step = [1.0, 2, 5, 10].map { $0 * power }.first { $0 >= rough * 0.999 } ?? power * 10
    let steps = max(1, Int((largest * 1.02 / step).rounded(.up)))
    let ticks = (0...steps).map { Tick(value: Double($0) * step, label: label(Double($0) * step)) }
    return PlotScale(
      low: 0, high: Double(steps) * step, isLogarithmic: false, ticks: ticks, start: start, end: end)
  }

  /// Whole powers of ten around all positive `values`, ticks at each, or at 1, 2 and 5 times each when
  /// there are few.
  static func logarithmic(_ values: [Double], from start: Double, to end: Double) -> PlotScale {
    let known = values.filter { $0.isFinite && $0 > 0 }
    let first = Int(log10(known.min() ?? 0.1).rounded(.down))
    let last = max(first + 1, Int(log10(known.max() ?? 1).rounded(.up)))
    let every = max(1, (last - first + 7) / 8)
    var ticks: [Tick] = []
    for exponent in stride(from: first, through: last, by: every) {
      ticks.append(Tick(value: exp10(Double(exponent)), label: power(exponent)))
      if last - first <= 2, exponent < last {
        for factor in [2, 5] {
          ticks.append(
            Tick(
              value: Double(factor) * exp10(Double(exponent)),
              label: power(exponent, times: factor)))
        }
      }
    }
    return PlotScale(
      low: exp10(Double(first)), high: exp10(Double(last)), isLogarithmic: true, ticks: ticks,
      start: start, end: end)
  }

  private static func power(_ exponent: Int, times factor: Int = 1) -> String {
    switch exponent {
    case -3 ..< 0: ReportNumbers.fixed(Double(factor) * exp10(Double(exponent)), -exponent)
    case 0...3: ReportNumbers.fixed(Double(factor) * exp10(Double(exponent)), 0)
    default: "\(factor)e\(exponent < 0 ? "−" : "")\(abs(exponent))"
    }
  }
}

/// 10 to the power of x.
private func exp10(_ x: Double) -> Double { pow(10, x) }

// The search for the step that gives an asked rate or error.

import Glibc

/// A secant search on the logarithm of the step.
struct StepSearch {
  let start: Double
  private var position: Double
  private var last: (position: Double, excess: Double)?
  /// Bits a doubling of the step saves.
  private var slope = 1.0

  init(start: Double) {
    self.start = start
    position = start
  }

  /// The step to try.
  var base: Float { Float(exp2(min(max(position, -120), 39))) }

  /// Notes what the step led to; false when there is no other to try.
  @discardableResult mutating func add(excess: Double) -> Bool {
    if let last, abs(last.position - position) > 1e-6 {
      let found = (last.excess - excess) / (position - last.position)
      if found > 0.2, found < 2 { slope = found }
    }
    last = (position, excess)
    // Normal weights are the hardest, so that a step much above the start only makes up for what lists
    // take: matrices so small keep their precision and miss the rate.
    let next = min(max(position + excess / slope, start - 14), start + 1)
    guard abs(next - position) > 1e-6 else { return false }
    position = next
    return true
  }

  /// Keeps the position and the slope: results before were of something else.
  mutating func beginAgain() { last = nil }
}

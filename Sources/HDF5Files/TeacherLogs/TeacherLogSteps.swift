// Log-probabilities and entropies as whole steps: fine near 0, where a probability near 1 needs it, coarse where a
// probability is small anyway. A value of u nats, at least 0, is the step
//
//     z = round(resolution · ln(1 + 64 u)),   u = (exp(z / resolution) − 1) / 64
//
// With 640, the usual resolution, neighbours are 1/40960 nat apart at 0, 1/630 at 1 nat and 1/159 at 4 nats.

import Glibc

/// Numbers of nats, at least 0, as steps.
struct TeacherLogSteps: Sendable {
  private static let curve = 64.0
  /// Larger numbers of nats are stored as this one.
  static let largest: Float = 1e6

  private let resolution: Double
  /// The number of nats of each step.
  let nats: [Float]

  init(resolution: Int) {
    let scale = Double(resolution)
    self.resolution = scale
    let count = Int((scale * log1p(Double(Self.largest) * Self.curve)).rounded()) + 1
    nats = (0..<count).map { Float(expm1(Double($0) / scale) / Self.curve) }
  }

  /// The step next to a number of nats.
  func step(_ value: Float) -> Int {
    let value = Double(min(max(value, 0), Self.largest))
    return Int((resolution * log1p(value * Self.curve)).rounded())
  }
}

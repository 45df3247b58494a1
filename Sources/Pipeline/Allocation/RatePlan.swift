// The rates of a model's tensors while it is quantized: what is left of the bits is shared again after each tensor.

import Checkpoints
import Encodings
import Quantization

/// What the whole model is to become.
public enum ModelGoal: Sendable, Equatable {
  /// Stored bits over weights of everything that is encoded.
  case bits(Double)
  /// Bytes of the packed file.
  case budget(Int)
  /// The drift on held-out calibration text: mean KL divergence, or 1 less the mean cosine of an encoder.
  case drift(Double)
  /// The relative output error of each layer.
  case error(Double)
}

/// How the rates of entropy-coded tensors are found.
public enum RateChoice: String, Sendable, CaseIterable {
  /// By what the model feels of each tensor.
  case measured
  /// The same for all.
  case equal
}

/// A goal that cannot be met.
public struct AllocationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// One line without a full stop.
  public let description: String
}

/// Rates of entropy-coded tensors.
final class RatePlan {
  private let names: [String]
  private let curves: [String: RateCurve]
  private var rates: [String: Double]
  /// Bits that the tensors may take in all; nil when their rates are fixed.
  private let totalBits: Double?
  private var usedBits = 0.0
  private var done: Set<String> = []

  /// Rates that an encoder of whole codes can reach.
  static let range = 0.5...10.0
  /// While many tensors are left to make up for it, a rate may be missed by so much.
  private static let looseness = 0.04
  private static let tightness = 0.004

  init(_ curves: [(tensor: String, curve: RateCurve)], totalBits: Double) {
    names = curves.map(\.tensor)
    self.curves = Dictionary(
      curves.map { ($0.tensor, $0.curve) }, uniquingKeysWith: { first, _ in first })
    self.totalBits = totalBits
    rates = [:]
    share()
  }

  init(_ curves: [(tensor: String, curve: RateCurve)], drift: Double) {
    names = curves.map(\.tensor)
    self.curves = Dictionary(
      curves.map { ($0.tensor, $0.curve) }, uniquingKeysWith: { first, _ in first })
    totalBits = nil
    rates = Dictionary(
      zip(names, RateAllocation.rates(curves.map(\.curve), drift: drift, in: Self.range)),
      uniquingKeysWith: { first, _ in first })
  }

  /// Shares what is left among the tensors that are left.
  private func share() {
    guard let totalBits else { return }
    let left = names.filter { !done.contains($0) }
    let found = RateAllocation.rates(
      left.compactMap { curves[$0] }, bits: totalBits - usedBits, in: Self.range)
    for (name, rate) in zip(left, found) { rates[name] = rate }
  }

  /// What a tensor is to be quantized to; nil when it has no rate here.
  func goal(of tensor: String) -> EntropyCodedGPTQ.Goal? {
    guard let rate = rates[tensor], let own = curves[tensor] else { return nil }
    guard totalBits != nil else { return .bits(rate, within: Self.looseness / 2) }
    let left = names.reduce(0) {
      done.contains($1) || $1 == tensor ? $0 : $0 + (curves[$1]?.weights ?? 0)
    }
    // The last one must not take more than there is.
    if left == 0 { return .bits(max(rate - Self.tightness, 0.5), within: Self.tightness) }
    let looseness = min(
      Self.looseness, max(Self.tightness, 0.25 * Double(left) / Double(own.weights)))
    return .bits(rate, within: looseness)
  }

  /// Notes what a tensor took.
  func note(_ tensor: String, bits: Double) {
    guard curves[tensor] != nil, done.insert(tensor).inserted else { return }
    usedBits += bits
    share()
  }

  /// The rates as they are now, and the drift that they are predicted to have.
  var predicted: (bits: Double, drift: Double) {
    names.reduce((0, 0.0)) { sum, name in
      guard let curve = curves[name], let rate = rates[name] else { return sum }
      return (sum.0 + rate * Double(curve.weights), sum.1 + curve.drift(rate))
    }
  }

  /// The planned rate of a tensor.
  func rate(of tensor: String) -> Double? { rates[tensor] }
}

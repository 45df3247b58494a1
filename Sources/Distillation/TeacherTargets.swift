// What a teacher log says of one position, as events for a divergence.

import Foundation
import HDF5Files
import Tensors

extension Divergence {
  /// Replaces a row of logits by the gradient against one row of a log.
  ///
  /// - Parameters:
  ///   - row: Of the window's logged rows.
  ///   - label: The text's next token.
  func apply(
    to logits: inout MutableSpan<Float>, targets: DistillationTargets, log: TeacherLogWindow,
    row: Int, label: Int32, temperature: Double
  ) -> Double {
    switch targets {
    case .samples where !log.sampleTokens.isEmpty:
      let range = log.sampleOffsets[row]..<log.sampleOffsets[row + 1]
      guard !range.isEmpty else { break }
      let counts = log.sampleCounts[range]
      let total = counts.reduce(0, +)
      let shares = counts.map { $0 / total }
      return apply(
        to: &logits,
        events: TeacherEvents(
          tokens: log.sampleTokens[range], probabilities: shares, other: 0,
          entropy: temperature == 1 ? Double(log.entropies[row]) : nil),
        temperature: temperature)
    case .samples, .topK, .topKRenormalized:
      let k = log.topTokens.count / max(1, log.rows.count)
      guard k > 0 else { break }
      let range = row * k..<(row + 1) * k
      // Rows of an import may list fewer than k tokens.
      let known = range.count { log.topTokens[$0] >= 0 }
      guard known > 0 else { break }
      let used = row * k..<row * k + known
      var probabilities = log.topLogProbabilities[used].map { exp($0) }
      let listed = probabilities.reduce(0.0) { $0 + Double($1) }
      var other = max(0, 1 - listed)
      if targets == .topKRenormalized {
        probabilities = probabilities.map { $0 / Float(listed) }
        other = 0
      }
      return apply(
        to: &logits,
        events: TeacherEvents(
          tokens: log.topTokens[used], probabilities: probabilities,
          other: other),
        temperature: temperature)
    case .full, .text, .labels: break
    }
    // Nothing but the token itself: sequence-level distillation (Kim and Rush, arXiv:1606.07947).
    return apply(
      to: &logits,
      events: TeacherEvents(
        tokens: [label], probabilities: [1], other: 0, entropy: nil),
      temperature: temperature)
  }
}

// Losses between a student's next-token distribution and what is known of the teacher's, with their gradients.
//
// Source   softened KL: Hinton, Vinyals and Dean, arXiv:1503.02531, section 2; reverse KL: Gu et al., "MiniLLM",
//          arXiv:2306.08543; generalized Jensen–Shannon: Agarwal et al., "On-Policy Distillation", ICLR 2024,
//          arXiv:2306.13649, equation 1; samples: Anshumann et al., "Sparse Logit Sampling", ACL 2025, arXiv:2503.16870
// Given    the student's logits z [vocabulary] at the temperature T, q = softmax(z / T), and the teacher's distribution over
//          events: single tokens, and at most one event "any other token"
// Result   T² times the divergence D of the event distributions, and its gradient T · q_i (D'_e(i) − Σ_e Q_e D'_e), where
//          D'_e is the derivative with respect to the student's probability Q_e of event e
//          forward KL   D' = −P/Q      reverse KL   D' = log(Q/P) + 1
//          Jensen–Shannon, M = β P + (1 − β) Q:   D' = (1 − β) log(Q/M)
// Differs  A top k is never renormalized: the rest of the mass is an event of its own. Sampled targets are an unbiased
//          estimate of P for the forward KL alone
// Checked  DivergenceTests: central differences of the definitions in Double

import Foundation
import Tensors

/// What is known of the teacher at one position.
struct TeacherEvents {
  /// Tokens with an event of their own.
  var tokens: ArraySlice<Int32>
  /// Their probabilities.
  var probabilities: [Float]
  /// The probability of all other tokens together; 0 when there are no others, as with samples.
  var other: Double
  /// The entropy of the whole distribution where the probabilities are samples of it: the forward KL is then
  /// estimated without bias.
  var entropy: Double?
}

/// Work on a teacher's logits.
private enum TeacherLogits {
  /// Σ p (z_t − z_s); z_t is replaced by p = softmax(z_t).
  static func expectedDifference(
    _ teacher: inout MutableSpan<Float>, _ student: Span<Float>
  ) -> Double {
    let logits = teacher.indices.map { teacher[$0] - student[$0] }
    RowKernels.softmax(&teacher, scale: 1)
    return Double(dot(teacher.span, logits.span))
  }
}

/// A divergence between teacher and student.
public enum Divergence: Sendable, Equatable {
  /// KL(teacher ‖ student).
  case forward
  /// KL(student ‖ teacher).
  case reverse
  /// β KL(teacher ‖ M) + (1 − β) KL(student ‖ M), M = β teacher + (1 − β) student.
  case jensenShannon(beta: Double)

  /// Replaces a row of logits by the gradient, over a full distribution of the teacher.
  ///
  /// - Parameter teacher: The teacher's logits, `[vocabulary]`; its probabilities afterwards.
  /// - Returns: T² times the divergence, in nats.
  func apply(
    to logits: inout MutableSpan<Float>, teacher: inout MutableSpan<Float>, temperature: Double
  ) -> Double {
    precondition(logits.count == teacher.count)
    let inverse = Float(1 / temperature), t = Float(temperature)
    if self == .forward {
      // Σ p (log p − log q) = Σ p (z_t − z_s) / T − log Σ exp z_t / T + log Σ exp z_s / T.
      if temperature != 1 {
        for i in teacher.indices {
          teacher[i] *= inverse
          logits[i] *= inverse
        }
      }
      let ofTeacher = logSumExp(teacher.span), ofStudent = logSumExp(logits.span)
      let product = TeacherLogits.expectedDifference(&teacher, logits.span)
      RowKernels.softmax(&logits, scale: 1)
      for i in teacher.indices { logits[i] = t * (logits[i] - teacher[i]) }
      return temperature * temperature * (product - ofTeacher + ofStudent)
    }
    RowKernels.softmax(&logits, scale: inverse)
    RowKernels.softmax(&teacher, scale: inverse)
    var sum = 0.0, mean = 0.0
    for i in teacher.indices {
      let (term, slope) = term(Double(teacher[i]), Double(logits[i]))
      sum += term
      mean += Double(logits[i]) * slope
    }
    for i in teacher.indices {
      let q = Double(logits[i]), slope = term(Double(teacher[i]), q).slope
      logits[i] = t * Float(q * (slope - mean))
    }
    return temperature * temperature * sum
  }

  /// Replaces a row of logits by the gradient, over events.
  func apply(
    to logits: inout MutableSpan<Float>, events: TeacherEvents, temperature: Double
  ) -> Double {
    RowKernels.softmax(&logits, scale: Float(1 / temperature))
    let tokens = Array(events.tokens), probabilities = events.probabilities
    var listed = 0.0, mean = 0.0, sum = 0.0
    for i in tokens.indices {
      let q = Double(logits[Int(tokens[i])])
      listed += q
      let (term, slope) = term(Double(probabilities[i]), q)
      sum += term
      mean += q * slope
    }
    // Samples name no other tokens: there the mass of the others has no event, and P is 0 on each of them.
    let rest = max(0, 1 - listed)
    var otherSlope = 0.0
    if events.other > 0 || self != .forward {
      let (term, slope) = term(events.other, rest)
      sum += term
      mean += rest * slope
      otherSlope = slope
    }
    let common = Float(temperature * (otherSlope - mean))
    let slopes = tokens.indices.map { i -> Float in
      let q = Double(logits[Int(tokens[i])])
      // The same as below; exact where q has vanished.
      if self == .forward {
        return Float(temperature * (-q * mean - Double(probabilities[i])))
      }
      return Float(temperature * q * (term(Double(probabilities[i]), q).slope - mean))
    }
    for i in logits.indices { logits[i] *= common }
    for i in tokens.indices { logits[Int(tokens[i])] = slopes[i] }
    if self == .forward, let entropy = events.entropy {
      // What was summed is Σ p̂ log(p̂ / q); its p̂ log p̂ gives way to the entropy that is known.
      for i in probabilities.indices where probabilities[i] > 0 {
        sum -= Double(probabilities[i]) * log(Double(probabilities[i]))
      }
      sum -= entropy
    }
    return temperature * temperature * sum
  }

  /// One event's part of the divergence, and the derivative with respect to the student's probability.
  private func term(_ teacher: Double, _ student: Double) -> (value: Double, slope: Double) {
    // Below this a probability is a rounding error; the logarithm stays finite.
    let least = 1e-30
    let p = max(teacher, least), q = max(student, least)
    switch self {
    case .forward:
      return teacher > 0 ? (teacher * log(p / q), -teacher / q) : (0, 0)
    case .reverse:
      return (student * log(q / p), log(q / p) + 1)
    case .jensenShannon(let beta):
      let m = beta * p + (1 - beta) * q
      return (
        beta * p * log(p / m) + (1 - beta) * q * log(q / m), (1 - beta) * log(q / m)
      )
    }
  }
}

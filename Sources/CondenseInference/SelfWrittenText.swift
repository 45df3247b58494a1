// Text that a model writes itself, many sequences at a time: calibration for users without data.
//
// Source   Liu et al., "LLM-QAT", 2023, arXiv:2305.17888, section 3.1: a random first token, then samples of the model's own
//          distribution
// Differs  all later tokens are sampled; that paper takes the first few greedily, which repeats few openings
// Checked  SelfWrittenTextTests: the same tokens as one sequence after another gives; near the model's own entropy

import Foundation
public import Networks
import Tensors

/// Sequences that a language model writes.
public enum SelfWrittenText {
  /// Sequences that are written in step with each other.
  private static let atOnce = 64

  /// Writes sequences of `length` tokens.
  ///
  /// - Parameters:
  ///   - avoiding: Ids that no sequence starts with: those that begin, end or pad a text.
  ///   - seed: The same seed gives the same tokens, whatever the number of threads.
  ///   - progress: Called with the share that is done.
  public static func sequences(
    of model: any LanguageModel, count: Int, length: Int, avoiding: Set<Int32>, seed: UInt64,
    progress: (Double) -> Void = { _ in }
  ) -> [[Int32]] {
    var stream = RandomStream(seed: seed, name: "self-written text")
    let starts = (0..<Int32(model.vocabularySize)).filter { !avoiding.contains($0) }
    guard !starts.isEmpty, length > 0 else { return [] }
    var written: [[Int32]] = []
    for first in stride(from: 0, to: count, by: atOnce) {
      let number = min(atOnce, count - first)
      var sequences = (0..<number).map { _ in [starts[stream.integer(below: starts.count)]] }
      let cache = KeyValueCache(sequences: number, capacity: length)
      for step in 1..<max(1, length) {
        let batch = TokenBatch(sequences.map { [$0[$0.count - 1]] })
        let logits = model.logits(model.hidden(batch, cache: cache))
        let draws = (0..<number).map { _ in stream.unit() }
        let chosen = ParallelLoop.map(number) { row in
          sample(logits.values.span.extracting(logits.range(ofRow: row)), draw: draws[row])
        }
        for (index, token) in chosen.enumerated() { sequences[index].append(token) }
        progress((Double(first) + Double(number * step) / Double(length)) / Double(count))
      }
      written += sequences
    }
    return written
  }

  /// The token at which the cumulative probability passes the draw.
  private static func sample(_ logits: Span<Float>, draw: Double) -> Int32 {
    let sum = logSumExp(logits)
    var left = draw
    for i in logits.indices {
      left -= exp(Double(logits[i]) - sum)
      if left < 0 { return Int32(i) }
    }
    // Rounding may leave the sum below the draw.
    return Int32(logits.count - 1)
  }
}

// What a teacher log keeps of one row of logits.
//
// Source   random sampling distillation: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge
//          Distillation in LLMs", arXiv:2503.16870: samples of the teacher give the gradient of the whole
//          distribution without bias, where the k most probable tokens alone do not
// Checked  against sorting and counting in TeacherRowTests

import Glibc
import Tensors

/// One row's numbers, in natural logarithms at temperature 1, and its samples.
struct TeacherRow: Sendable {
  var trueLogProbability: Float = 0
  var logSumExp: Float = 0
  var entropy: Float = 0
  var topTokens: [Int32] = []
  var topLogProbabilities: [Float] = []
  /// Ascending by id.
  var samples: [(id: Int32, count: Int)] = []

  /// Whether the logits were numbers.
  var isFinite: Bool { logSumExp.isFinite && trueLogProbability.isFinite && entropy.isFinite }

  /// Looks at logits `[vocabulary]`.
  ///
  /// - Parameter random: Draws the samples; a stream of the row's own.
  init(
    logits: Span<Float>, target: Int, topCount: Int, sampleCount: Int, temperature: Double,
    random: RandomStream
  ) {
    let sum = Tensors.logSumExp(logits)
    logSumExp = Float(sum)
    guard sum.isFinite else { return }
    trueLogProbability = Float(Double(logits[target]) - sum)
    top(topCount, of: logits, sum)
    // Σ p log p over the vocabulary; the cumulative probabilities serve the samples when the temperature is 1.
    var cumulative = [Double](repeating: 0, count: sampleCount > 0 ? logits.count : 0)
    var total = 0.0, mean = 0.0
    for id in logits.indices {
      let log = Double(logits[id]) - sum
      let probability = exp(log)
      mean += probability * log
      total += probability
      if sampleCount > 0 { cumulative[id] = total }
    }
    entropy = Float(max(0, -mean))
    guard sampleCount > 0 else { return }
    if temperature != 1 {
      // The largest logit bounds the exponent.
      let largest = Double(logits[Int(Self.argmax(logits))])
      total = 0
      for id in logits.indices {
        total += exp((Double(logits[id]) - largest) / temperature)
        cumulative[id] = total
      }
    }
    samples = Self.draw(sampleCount, cumulative, random)
  }

  private static func argmax(_ logits: Span<Float>) -> Int {
    var best = 0
    for id in logits.indices where logits[id] > logits[best] { best = id }
    return best
  }

  /// The k largest logits in falling order; of equal ones, the lower id first.
  private mutating func top(_ k: Int, of logits: Span<Float>, _ sum: Double) {
    var best: [(logit: Float, id: Int)] = []
    best.reserveCapacity(k + 1)
    for id in logits.indices {
      let logit = logits[id]
      if best.count == k {
        guard let last = best.last, logit > last.logit else { continue }
        best.removeLast()
      }
      var place = best.count
      while place > 0, best[place - 1].logit < logit { place -= 1 }
      best.insert((logit, id), at: place)
    }
    topTokens = best.map { Int32($0.id) }
    topLogProbabilities = best.map { Float(Double($0.logit) - sum) }
  }

  /// Draws ids by inverting the cumulative probabilities at sorted random numbers.
  static func draw(
    _ count: Int, _ cumulative: [Double], _ random: RandomStream
  ) -> [(id: Int32, count: Int)] {
    var random = random
    guard let total = cumulative.last else { return [] }
    let numbers = (0..<count).map { _ in random.unit() * total }.sorted()
    var samples: [(id: Int32, count: Int)] = []
    var id = 0
    for number in numbers {
      // Each number lies below the total, so that the walk ends inside; rounding may give the total itself.
      while id < cumulative.count - 1, cumulative[id] <= number { id += 1 }
      if samples.last?.id == Int32(id) {
        samples[samples.count - 1].count += 1
      } else {
        samples.append((Int32(id), 1))
      }
    }
    return samples
  }
}

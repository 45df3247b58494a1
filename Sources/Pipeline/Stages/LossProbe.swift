// What a network loses on a few sequences, again and again while it is cut.

import Calibration
import Drift
import Networks
import Pruning
import Tensors

/// Measures networks on the same sequences: decoders by their mean negative log-likelihood, encoders by 1 less the mean
/// cosine with the embeddings that the network gave at first.
final class LossProbe {
  private let network: any Network
  private let batches: [TokenBatch]
  private let references: [Matrix]

  /// A probe; nothing of the network has been cut yet.
  init(network: any Network, set: CalibrationSet) {
    self.network = network
    let batches = set.batches(tokens: LayerStream.batchTokens).map {
      TokenBatch(Array(set.sequences[$0]))
    }
    self.batches = batches
    references =
      (network as? any TextEncoder).map { encoder in batches.map(encoder.embeddings) } ?? []
  }

  /// The loss with only some of the network's branches.
  func loss(branches: [Int]) throws(DriftError) -> Double {
    try loss(of: network, branches: branches)
  }

  /// The losses without each run of neighbouring branches, by the place of the first; infinite where the model then gives no
  /// numbers. Branches before the run are the same for all later ones, and run once.
  func losses(of branches: [Int], withoutEach unit: Int) throws(DriftError) -> [Double] {
    let count = branches.count - unit + 1
    var sums = [Double](repeating: 0, count: max(0, count)), tokens = 0
    for (index, batch) in batches.enumerated() {
      var before = network.embed(batch, position: 0)
      for place in sums.indices {
        var hidden = before
        for branch in branches[(place + unit)...] {
          hidden = network.sublayers[branch].run(hidden, batch, cache: nil, inputOf: nil)
        }
        let (sum, own) = loss(network, hidden, batch: index)
        sums[place] += sum
        if place == 0 { tokens += own }
        before = network.sublayers[branches[place]].run(before, batch, cache: nil, inputOf: nil)
      }
    }
    guard sums.contains(where: \.isFinite) else { throw .notFinite(window: 0) }
    return sums.map { $0.isFinite ? $0 / Double(max(1, tokens)) : .infinity }
  }

  /// The loss of another network.
  func loss(of network: any Network) throws(DriftError) -> Double {
    try loss(of: network, branches: Array(network.sublayers.indices))
  }

  private func loss(of network: any Network, branches: [Int]) throws(DriftError) -> Double {
    var sum = 0.0, count = 0
    for (index, batch) in batches.enumerated() {
      var hidden = network.embed(batch, position: 0)
      for branch in branches {
        hidden = network.sublayers[branch].run(hidden, batch, cache: nil, inputOf: nil)
      }
      let (loss, own) = loss(network, hidden, batch: index)
      sum += loss
      count += own
    }
    guard sum.isFinite else { throw .notFinite(window: 0) }
    return sum / Double(max(1, count))
  }

  /// The sum of losses behind the last branch, and of what.
  private func loss(
    _ network: any Network, _ hidden: Matrix, batch index: Int
  ) -> (sum: Double, count: Int) {
    if let model = network as? any LanguageModel {
      let (sum, count) = Self.negativeLogLikelihood(model, model.normalize(hidden), batches[index])
      return (sum, count)
    }
    guard let encoder = network as? any TextEncoder else { return (0, 0) }
    let own = encoder.pool(hidden, batches[index])
    var distance = BlockInfluence()
    distance.add(before: references[index], behind: own)
    return (distance.mean * Double(own.rows), own.rows)
  }

  private static let logitBudget = 1 << 24

  private static func negativeLogLikelihood(
    _ model: any LanguageModel, _ x: Matrix, _ batch: TokenBatch
  ) -> (sum: Double, tokens: Int) {
    let next = batch.nextTokens
    let step = max(1, logitBudget / model.vocabularySize)
    var sum = 0.0
    for first in stride(from: 0, to: x.rows, by: step) {
      let rows = first..<min(first + step, x.rows)
      let logits = model.logits(ofNormalized: x.rows(rows))
      sum += ParallelLoop.map(rows.count) { row -> Double in
        guard let label = next[rows.lowerBound + row] else { return 0 }
        let values = logits.values.span.extracting(logits.range(ofRow: row))
        return logSumExp(values) - Double(values[Int(label)])
      }.reduce(0, +)
    }
    return (sum, next.count { $0 != nil })
  }
}

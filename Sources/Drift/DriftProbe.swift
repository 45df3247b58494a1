// A quick, repeated measure of how far a network has moved from what it was: the drift of one change at a time.
//
// The reference is the network itself before anything changes: what its head reads (or its embeddings) is kept, so
// that a measurement runs the changed network alone, and only from the changed branch on.

public import Calibration
public import Networks
import Tensors

/// Measures the drift of a network that is changed in place.
///
/// For a language model the drift is the mean KL divergence in nats over all positions; for an encoder, 1 less the mean
/// cosine of its embeddings; for a network over samples the KL divergence of its labels, or the relative error of what
/// it gives where that is no labels; of several results the mean.
public final class DriftProbe {
  private let network: any Network
  private let batches: [TokenBatch]
  /// What the reference's head reads, or the reference's embeddings, by batch.
  private var references: [Matrix] = []
  /// The reference's head.
  private let head: (any LinearOperator)?
  /// The streams before the branch `position`, of the reference.
  private var hidden: [Matrix]
  /// The branch before which a measurement starts.
  public private(set) var position = 0

  /// Tokens, or rows of samples, that are measured on.
  public var tokens: Int {
    batches.reduce(0) { $0 + ($1.tokens.isEmpty ? $1.features?.rows ?? 0 : $1.tokens.count) }
  }

  /// Keeps the outputs of a network as it is now.
  public init(network: any Network, set: CalibrationSet) {
    self.network = network
    batches = set.inputBatches()
    head = (network as? any TokenPredictor)?.head.matrix
    hidden = batches.map { network.embed($0, position: 0) }
    for (batch, start) in zip(batches, hidden) {
      references.append(outputs(of: batch, from: start, branch: 0))
    }
  }

  /// What the head reads, or the embeddings.
  private func outputs(of batch: TokenBatch, from start: Matrix, branch: Int) -> Matrix {
    var hidden = start
    for sublayer in network.sublayers[branch...] {
      hidden = sublayer.run(hidden, batch, cache: nil, inputOf: nil)
    }
    if let model = network as? any TokenPredictor { return model.normalize(hidden) }
    if let encoder = network as? any TextEncoder { return encoder.pool(hidden, batch) }
    if let network = network as? any SampleNetwork {
      return network.logits(network.outputs(of: hidden, batch))
    }
    return hidden
  }

  /// Moves behind the next branch, which is as it was in the reference.
  public func advance() {
    let sublayer = network.sublayers[position]
    for index in batches.indices {
      hidden[index] = sublayer.run(hidden[index], batches[index], cache: nil, inputOf: nil)
    }
    position += 1
  }

  /// The drift now, when nothing before the branch `position` has changed.
  public func drift() throws(DriftError) -> Double {
    try drift { self.hidden[$0] }
  }

  /// The drift now, whatever has changed.
  public func driftOfWhole() throws(DriftError) -> Double {
    try drift(branch: 0) { self.network.embed(self.batches[$0], position: 0) }
  }

  private static let logitBudget = 1 << 24

  private func drift(
    branch: Int? = nil, from start: (Int) -> Matrix
  ) throws(DriftError) -> Double {
    var sum = 0.0, count = 0
    for (index, batch) in batches.enumerated() {
      let own = outputs(of: batch, from: start(index), branch: branch ?? position)
      let reference = references[index]
      if let head, let model = network as? any TokenPredictor {
        let step = max(1, Self.logitBudget / model.vocabularySize)
        for first in stride(from: 0, to: own.rows, by: step) {
          let part = first..<min(first + step, own.rows)
          let logits = model.logits(ofNormalized: own.rows(part))
          let others = model.logits(ofNormalized: reference.rows(part), head: head)
          sum += ParallelLoop.map(part.count) { row in
            let range = logits.range(ofRow: row)
            return LogitComparison(
              reference: others.values.span.extracting(range),
              model: logits.values.span.extracting(range)
            ).divergence
          }.reduce(0, +)
        }
      } else if let network = network as? any SampleNetwork {
        let results = Array(zip(network.results, network.resultRanges))
        for row in 0..<own.rows {
          let start = row * own.columns
          for (result, place) in results {
            let range = start + place.lowerBound..<start + place.upperBound
            let x = own.values.span.extracting(range), y = reference.values.span.extracting(range)
            sum +=
              (result.isClassifier
                ? LogitComparison(reference: y, model: x).divergence : relativeError(x, of: y))
              / Double(results.count)
          }
        }
      } else {
        for row in 0..<own.rows {
          sum += 1 - EmbeddingEvaluator.cosine(reference.row(row), own.row(row))
        }
      }
      count += own.rows
    }
    guard sum.isFinite else { throw .notFinite(window: 0) }
    return sum / Double(max(1, count))
  }
}

/// ‖x − y‖² / ‖y‖².
private func relativeError(_ x: Span<Float>, of y: Span<Float>) -> Double {
  var distance = 0.0, energy = 0.0
  for i in x.indices {
    distance += (Double(x[i]) - Double(y[i])) * (Double(x[i]) - Double(y[i]))
    energy += Double(y[i]) * Double(y[i])
  }
  return energy > 0 ? distance / energy : distance
}

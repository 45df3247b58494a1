// What a quantizer is told of a layer: what it reads, and which of its outputs count.

import Calibration
import LinearAlgebra
import Networks
import Quantization

/// Statistics of a layer's inputs and the importance of its outputs.
struct LayerKnowledge {
  var statistics: InputStatistics
  /// How much errors of its outputs count.
  var outputs = OutputStatistics.equal

  /// The same for some of the outputs.
  func rows(_ rows: [Int]) -> LayerKnowledge {
    LayerKnowledge(
      statistics: statistics, outputs: outputs.rows(rows))
  }
}

/// What the model feels of its layers' errors: importance of outputs for methods that can use it.
struct ModelKnowledge {
  private let curvature: LossCurvature?
  /// Layers that share their inputs with one other alone: the two halves of a gate.
  private let gated: Set<String>
  /// How often each token occurs; one that calibration lacks counts as if seen half a time, as that is a sample.
  private let counts: [Double]

  /// Tokens that the curvature is measured on.
  static let curvatureTokens = 4096

  /// Measures the curvature, where it is used.
  init(
    _ network: any Network, _ set: CalibrationSet, usesCurvature: Bool, seed: Int,
    progress: (String, Double) -> Void
  ) {
    var counts = [Double](
      repeating: 0.5, count: (network as? any TokenNetwork)?.vocabularySize ?? 0)
    for sequence in set.sequences + (set.samples?.tokens ?? []) {
      for token in sequence { counts[Int(token)] += 1 }
    }
    self.counts = counts
    let gated = Set(
      network.sublayers.flatMap { $0.groups }.filter { $0.count == 2 }
        .flatMap { $0.map(\.weightName) })
    self.gated = gated
    guard usesCurvature else {
      curvature = nil
      return
    }
    let options = LossCurvature.Options(
      tokens: Self.curvatureTokens, seed: UInt64(seed), batchTokens: 1024, measuresInputs: false,
      weights: Set(network.linearLayers.map(\.weightName)).subtracting(gated))
    func show(_ done: Int, _ all: Int) {
      progress("curvature", Double(done) / Double(max(1, all)))
    }
    if let model = network as? any LanguageModel {
      curvature = LossCurvature.measure(model, set: set, options: options, progress: show)
    } else if let encoder = network as? any TextEncoder {
      curvature = LossCurvature.measure(encoder, set: set, options: options, progress: show)
    } else {
      curvature = nil
    }
  }

  /// Of a layer of a branch.
  func layer(_ name: String, _ statistics: InputStatistics) -> LayerKnowledge {
    guard let own = curvature?.layers[name], own.trace > 0 else {
      return LayerKnowledge(statistics: statistics)
    }
    // Both factors of a gated pair depend on the same token's inputs, so that inputs and gradients of one of them are not
    // independent: there the product of their moments misleads (measured: KL a fifth higher with it).
    guard !gated.contains(name) else { return LayerKnowledge(statistics: statistics) }
    return LayerKnowledge(
      statistics: statistics,
      outputs: own.output.map { .moment($0) } ?? .diagonal(own.outputDiagonal))
  }

  /// Of a head that is a matrix of its own.
  func head(_ statistics: InputStatistics) -> LayerKnowledge {
    LayerKnowledge(
      statistics: statistics, outputs: .diagonal(curvature?.head?.outputDiagonal ?? counts))
  }

  /// Of an embedding. Each row is read as often as its token occurs, and what follows feels errors as the gradient there
  /// tells; as a tied head, every row is also read at every position, and counts as its token is likely.
  ///
  /// - Parameter head: H of the tied head's inputs.
  func embedding(head: DoubleMatrix?) -> LayerKnowledge {
    let total = counts.reduce(0, +)
    let shares = counts.map { $0 / total }
    guard let curvature else {
      return LayerKnowledge(
        statistics: head.map { .moment($0) } ?? .none, outputs: .diagonal(counts))
    }
    guard let head, let ends = curvature.head else {
      return LayerKnowledge(
        statistics: .moment(curvature.embedding.gradient), outputs: .diagonal(counts))
    }
    // Σ_v shares_v d_v G d_vᵀ + p_v d_v H d_vᵀ, p_v = mean of p (1 − p): both kinds of weights are taken for
    // proportional, so that rows and columns separate.
    let likelihood = ends.outputDiagonal.reduce(0, +)
    var metric = curvature.embedding.gradient
    for i in metric.values.indices { metric.values[i] += likelihood * head.values[i] }
    return LayerKnowledge(
      statistics: .moment(metric),
      outputs: .diagonal(
        zip(shares, ends.outputDiagonal).map { $0 + $1 / max(likelihood, 1e-30) }))
  }
}

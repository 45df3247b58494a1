// The limits of a stage against what was measured.

import Drift

enum GateCheck {
  /// One result a limit, in the order of the recipe's documentation.
  static func results(
    _ gate: GateOptions, drift: MeasuredDrift?, slices: [(name: String, drift: MeasuredDrift)],
    layers: [LayerResult], original: Double?
  ) -> [GateResult] {
    var results = drift.map { Self.results(gate.limits, $0, slice: nil, original: original) } ?? []
    for slice in gate.slices {
      guard let measured = slices.first(where: { $0.name == slice.slice.value }) else { continue }
      results += Self.results(
        slice.limits, measured.drift, slice: slice.slice.value, original: original)
    }
    if !layers.isEmpty {
      let fallbacks = Double(layers.reduce(0) { $0 + $1.fallbacks })
      results.append(
        result(
          "max-fallbacks", .atMost(Double(gate.maxFallbacks)), fallbacks, interval: nil, slice: nil)
      )
    }
    return results
  }

  private static func results(
    _ limits: DriftLimits, _ drift: MeasuredDrift, slice: String?, original: Double?
  ) -> [GateResult] {
    let all: [(metric: String, limit: Limit?)] = [
      ("max-kl", limits.maxKL.map(Limit.atMost)),
      ("max-perplexity-ratio", limits.maxPerplexityRatio.map(Limit.atMost)),
      ("min-top1", limits.minTop1.map(Limit.atLeast)),
      ("min-cosine", limits.minCosine.map(Limit.atLeast)),
      ("min-neighbour-overlap", limits.minNeighbourOverlap.map(Limit.atLeast)),
      ("max-spearman-drop", limits.maxSpearmanDrop.map(Limit.atMost)),
      ("max-accuracy-drop", limits.maxAccuracyDrop.map(Limit.atMost)),
      ("min-label-agreement", limits.minLabelAgreement.map(Limit.atLeast)),
      ("max-wer-increase", limits.maxWERIncrease.map(Limit.atMost)),
      ("max-wer-to-reference", limits.maxWERToReference.map(Limit.atMost)),
    ]
    return all.compactMap { metric, limit in
      limit.map { limit in
        let figure = figure(metric, of: drift, original: original)
        // A limit on a figure that this kind of model does not have is not kept.
        return result(
          metric, limit, figure.value ?? .nan, interval: figure.interval, slice: slice)
      }
    }
  }

  /// What a limit is compared with; nil where this kind of model has no such figure.
  private static func figure(
    _ metric: String, of drift: MeasuredDrift, original: Double?
  ) -> (value: Double?, interval: ClosedRange<Double>?) {
    switch (drift, metric) {
    case (.language(let drift), "max-kl"):
      (drift.divergence?.mean, drift.divergence?.interval)
    case (.language(let drift), "max-perplexity-ratio"):
      (drift.perplexityRatio, drift.perplexityRatioInterval)
    case (.language(let drift), "min-top1"): (drift.top1, drift.top1Interval)
    case (.encoder(let drift), "min-cosine"): (drift.cosine?.mean, drift.cosine?.interval)
    case (.encoder(let drift), "min-neighbour-overlap"):
      (drift.neighbours?.mean, drift.neighbours?.interval)
    case (.encoder(let drift), "max-spearman-drop"):
      (original.flatMap { original in drift.spearman.map { original - $0 } }, nil)
    case (.samples(let drift), "max-kl"): (drift.divergence?.mean, drift.divergence?.interval)
    case (.samples(let drift), "max-accuracy-drop"): (drift.accuracyLoss, drift.lossInterval)
    case (.samples(let drift), "min-label-agreement"):
      (drift.agreement, drift.agreementInterval)
    case (.speech(let drift), "max-kl"): (drift.divergence?.mean, drift.divergence?.interval)
    case (.speech(let drift), "min-top1"): (drift.top1, drift.top1Interval)
    case (.speech(let drift), "max-wer-increase"): (drift.increase, drift.increaseInterval)
    case (.speech(let drift), "max-wer-to-reference"):
      (drift.toReference?.rate, drift.toReference?.interval)
    default: (nil, nil)
    }
  }

  private static func result(
    _ metric: String, _ limit: Limit, _ value: Double, interval: ClosedRange<Double>?,
    slice: String?
  ) -> GateResult {
    let number: Double
    switch limit {
    case .atMost(let value), .atLeast(let value): number = value
    }
    return GateResult(
      metric: metric, slice: slice, limit: number, value: value,
      ci95: interval.map { Interval($0.lowerBound, $0.upperBound) },
      verdict: limit.verdict(value, interval: interval))
  }
}

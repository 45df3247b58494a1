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
    var results: [GateResult] = []
    func add(
      _ metric: String, _ limit: Limit?, _ value: Double?, _ interval: ClosedRange<Double>? = nil
    ) {
      guard let limit else { return }
      // A limit on a figure that this kind of model does not have is not kept.
      results.append(
        result(metric, limit, value ?? .nan, interval: interval, slice: slice))
    }
    switch drift {
    case .language(let drift):
      add(
        "max-kl", limits.maxKL.map(Limit.atMost), drift.divergence?.mean, drift.divergence?.interval
      )
      add(
        "max-perplexity-ratio", limits.maxPerplexityRatio.map(Limit.atMost), drift.perplexityRatio,
        drift.perplexityRatioInterval)
      add("min-top1", limits.minTop1.map(Limit.atLeast), drift.top1, drift.top1Interval)
      add("min-cosine", limits.minCosine.map(Limit.atLeast), nil)
      add("min-neighbour-overlap", limits.minNeighbourOverlap.map(Limit.atLeast), nil)
      add("max-spearman-drop", limits.maxSpearmanDrop.map(Limit.atMost), nil)
      add("max-accuracy-drop", limits.maxAccuracyDrop.map(Limit.atMost), nil)
      add("min-label-agreement", limits.minLabelAgreement.map(Limit.atLeast), nil)
    case .encoder(let drift):
      add("max-kl", limits.maxKL.map(Limit.atMost), nil)
      add("max-perplexity-ratio", limits.maxPerplexityRatio.map(Limit.atMost), nil)
      add("min-top1", limits.minTop1.map(Limit.atLeast), nil)
      add(
        "min-cosine", limits.minCosine.map(Limit.atLeast), drift.cosine?.mean,
        drift.cosine?.interval)
      add(
        "min-neighbour-overlap", limits.minNeighbourOverlap.map(Limit.atLeast),
        drift.neighbours?.mean, drift.neighbours?.interval)
      let drop = original.flatMap { original in drift.spearman.map { original - $0 } }
      add("max-spearman-drop", limits.maxSpearmanDrop.map(Limit.atMost), drop)
      add("max-accuracy-drop", limits.maxAccuracyDrop.map(Limit.atMost), nil)
      add("min-label-agreement", limits.minLabelAgreement.map(Limit.atLeast), nil)
    case .samples(let drift):
      add(
        "max-kl", limits.maxKL.map(Limit.atMost), drift.divergence?.mean, drift.divergence?.interval
      )
      add("max-perplexity-ratio", limits.maxPerplexityRatio.map(Limit.atMost), nil)
      add("min-top1", limits.minTop1.map(Limit.atLeast), nil)
      add("min-cosine", limits.minCosine.map(Limit.atLeast), nil)
      add("max-spearman-drop", limits.maxSpearmanDrop.map(Limit.atMost), nil)
      add(
        "max-accuracy-drop", limits.maxAccuracyDrop.map(Limit.atMost), drift.accuracyLoss,
        drift.lossInterval)
      add(
        "min-label-agreement", limits.minLabelAgreement.map(Limit.atLeast), drift.agreement,
        drift.agreementInterval)
    }
    return results
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

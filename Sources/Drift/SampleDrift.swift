// Accuracy, label agreement and divergence of networks that give one row of numbers a sample.

public import JSONDocuments
public import Networks
public import Tensors

/// What a network does with samples, alone or against a reference.
public struct SampleDrift: Sendable, Equatable {
  /// Samples that were run.
  public let samples: Int
  /// Share of samples whose likeliest label is the right one; nil without labels.
  public let accuracy: Double?
  /// Of the accuracy, by bootstrap over samples.
  public let accuracyInterval: ClosedRange<Double>?
  /// The reference's accuracy; nil without a reference or labels.
  public let referenceAccuracy: Double?
  /// The interval of the accuracy lost against the reference, in pairs; nil without a reference or labels.
  public let lossInterval: ClosedRange<Double>?
  /// Share of samples where both find the same label likeliest; nil without a reference, or without labels to choose.
  public let agreement: Double?
  /// Of the agreement.
  public let agreementInterval: ClosedRange<Double>?
  /// KL(reference ‖ model) of the labels' probabilities, in nats; nil as above.
  public let divergence: LanguageDrift.Divergence?
  /// ‖y − ŷ‖² / ‖y‖² of the numbers that the networks give; nil without a reference.
  public let outputError: Double?
  /// Of networks with several results, whose means the figures above are; empty for one, and without a reference.
  public let results: [Result]

  /// The drift of one of several results.
  public struct Result: Sendable, Equatable {
    /// What the model calls it.
    public let name: String
    /// Share of samples with the same likeliest label; nil where the numbers tell none.
    public let agreement: Double?
    /// The mean KL divergence in nats; nil as above.
    public let divergence: Double?
    /// ‖y − ŷ‖² / ‖y‖².
    public let outputError: Double

    var json: JSONValue {
      var object = JSONObject()
      object["name"] = .string(name)
      if let agreement { object["label_agreement"] = .number(agreement) }
      if let divergence { object["kl"] = .number(divergence) }
      object["output_error"] = .number(outputError)
      return .object(object)
    }

    init(name: String, agreement: Double?, divergence: Double?, outputError: Double) {
      self.name = name
      self.agreement = agreement
      self.divergence = divergence
      self.outputError = outputError
    }

    init?(json: JSONValue) {
      guard let name = json["name"]?.string, let error = json["output_error"]?.number else {
        return nil
      }
      self.init(
        name: name, agreement: json["label_agreement"]?.number, divergence: json["kl"]?.number,
        outputError: error)
    }
  }

  /// Every figure at zero, with a reference: the shape of a result before it is measured.
  public static func zero(hasLabels: Bool, results: [SampleResult]) -> SampleDrift {
    let isClassifier = results.contains(where: \.isClassifier)
    return SampleDrift(
      samples: 0, accuracy: hasLabels ? 0 : nil, accuracyInterval: hasLabels ? 0...0 : nil,
      referenceAccuracy: hasLabels ? 0 : nil, lossInterval: hasLabels ? 0...0 : nil,
      agreement: isClassifier ? 0 : nil, agreementInterval: isClassifier ? 0...0 : nil,
      divergence: isClassifier
        ? .init(mean: 0, median: 0, p99: 0, p999: 0, max: 0, interval: 0...0) : nil,
      outputError: 0,
      results: results.count == 1
        ? []
        : results.map {
          Result(
            name: $0.name, agreement: $0.isClassifier ? 0 : nil,
            divergence: $0.isClassifier ? 0 : nil, outputError: 0)
        })
  }

  /// The accuracy lost against the reference; nil without a reference or labels.
  public var accuracyLoss: Double? {
    referenceAccuracy.flatMap { reference in accuracy.map { reference - $0 } }
  }

  /// The keys of `condense eval --json`.
  public var json: JSONValue {
    var object = JSONObject()
    object["samples"] = .integer(samples)
    if let accuracy { object["accuracy"] = .number(accuracy) }
    if let accuracyInterval { object["accuracy_ci95"] = JSONValue(accuracyInterval) }
    if let referenceAccuracy { object["reference_accuracy"] = .number(referenceAccuracy) }
    if let lossInterval { object["accuracy_loss_ci95"] = JSONValue(lossInterval) }
    if let agreement { object["label_agreement"] = .number(agreement) }
    if let agreementInterval { object["label_agreement_ci95"] = JSONValue(agreementInterval) }
    if let kl = divergence { object["kl"] = kl.json }
    if let outputError { object["output_error"] = .number(outputError) }
    if !results.isEmpty { object["outputs"] = .array(results.map(\.json)) }
    return .object(object)
  }

  /// Reads what `json` gives; nil when it is something else.
  public init?(json: JSONValue) {
    guard let samples = json["samples"]?.integer else { return nil }
    self.samples = samples
    accuracy = json["accuracy"]?.number
    accuracyInterval = ClosedRange(json: json["accuracy_ci95"])
    referenceAccuracy = json["reference_accuracy"]?.number
    lossInterval = ClosedRange(json: json["accuracy_loss_ci95"])
    agreement = json["label_agreement"]?.number
    agreementInterval = ClosedRange(json: json["label_agreement_ci95"])
    outputError = json["output_error"]?.number
    results = json["outputs"]?.array?.compactMap(Result.init(json:)) ?? []
    divergence = json["kl"].flatMap(LanguageDrift.Divergence.init(json:))
  }

  init(
    samples: Int, accuracy: Double?, accuracyInterval: ClosedRange<Double>?,
    referenceAccuracy: Double?, lossInterval: ClosedRange<Double>?, agreement: Double?,
    agreementInterval: ClosedRange<Double>?, divergence: LanguageDrift.Divergence?,
    outputError: Double?, results: [Result]
  ) {
    self.samples = samples
    self.accuracy = accuracy
    self.accuracyInterval = accuracyInterval
    self.referenceAccuracy = referenceAccuracy
    self.lossInterval = lossInterval
    self.agreement = agreement
    self.agreementInterval = agreementInterval
    self.divergence = divergence
    self.outputError = outputError
    self.results = results
  }
}

/// Runs networks over samples and compares what they give.
public struct SampleEvaluator: Sendable {
  private let samples: SampleArray
  private let count: Int
  private let labels: [Int]?

  /// An evaluator of the first samples of an array.
  ///
  /// - Parameters:
  ///   - limit: At most this many; nil takes all.
  ///   - labels: The right label of every sample of the array, or nil.
  public init(samples: SampleArray, limit: Int? = nil, labels: [Int]?) {
    precondition(labels.map { $0.count == samples.count } ?? true)
    self.samples = samples
    self.labels = labels
    count = min(samples.count, limit ?? .max)
  }

  /// What a network gives for samples in their order, `[samples, outputCount]`.
  public static func outputs(
    _ samples: SampleArray, _ range: Range<Int>, _ network: any SampleNetwork,
    progress: (Double) -> Void = { _ in }
  ) -> Matrix {
    var parts: [Matrix] = []
    let step = network.batchSamples
    for start in stride(from: range.lowerBound, to: range.upperBound, by: step) {
      let end = min(start + step, range.upperBound)
      parts.append(
        network.outputs(network.batch(samples.features(start..<end, network.normalization))))
      progress(Double(end - range.lowerBound) / Double(range.count))
    }
    return Matrix.stack(parts)
  }

  /// The drift of `network` from `reference`; without a reference, the accuracy alone.
  ///
  /// - Throws: `DriftError` when a network gives numbers that are infinite or NaN, or both do not give as many.
  public func drift(
    of network: any SampleNetwork, from reference: (any SampleNetwork)?,
    progress: (Double) -> Void = { _ in }
  ) throws(DriftError) -> SampleDrift {
    let own = try finiteOutputs(of: network, progress: progress)
    let others = try reference.map { (reference) throws(DriftError) in
      try finiteOutputs(of: reference, progress: { _ in })
    }
    if let others, others.columns != own.columns {
      throw .differentModels(
        "one gives \(own.columns) numbers a sample, the other \(others.columns)")
    }
    let bootstrap = Bootstrap(windows: count)
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }
    var accuracies: [Double]?, otherAccuracies: [Double]?
    if let labels, network.isClassifier {
      func hits(_ outputs: Matrix) -> [Double] {
        zip(Self.labels(of: outputs), labels).map { $0 == $1 ? 1 : 0 }
      }
      accuracies = hits(own)
      otherAccuracies = others.map(hits)
    }
    let losses = accuracies.flatMap { own in
      otherAccuracies.map { others in zip(others, own).map { $0 - $1 } }
    }
    let compared = others.flatMap { others in
      reference.map { Comparison(own, network, others, $0) }
    }
    let agreements = compared?.agreements, divergences = compared?.divergences
    return SampleDrift(
      samples: count, accuracy: accuracies.map(mean),
      accuracyInterval: accuracies.map { bootstrap.intervalOfMean($0) },
      referenceAccuracy: otherAccuracies.map(mean),
      lossInterval: losses.map { bootstrap.intervalOfMean($0) },
      agreement: agreements.map(mean),
      agreementInterval: agreements.map { bootstrap.intervalOfMean($0) },
      divergence: divergences.map { values in
        let sorted = values.sorted()
        return .init(
          mean: mean(values), median: percentile(0.5, ofSorted: sorted),
          p99: percentile(0.99, ofSorted: sorted), p999: percentile(0.999, ofSorted: sorted),
          max: sorted.last ?? 0, interval: bootstrap.intervalOfMean(values))
      }, outputError: compared.map { mean($0.results.map(\.outputError)) },
      results: compared.map { $0.results.count > 1 ? $0.results : [] } ?? [])
  }

  private func finiteOutputs(
    of network: any SampleNetwork, progress: (Double) -> Void
  ) throws(DriftError) -> Matrix {
    let outputs = Self.outputs(samples, 0..<count, network, progress: progress)
    if let place = outputs.values.firstIndex(where: { !$0.isFinite }) {
      throw .sampleNotFinite(sample: place / outputs.columns)
    }
    return outputs
  }

  /// The likeliest label of each row; of equal ones the first.
  public static func labels(of outputs: Matrix) -> [Int] {
    (0..<outputs.rows).map { row in
      let range = outputs.range(ofRow: row)
      var best = range.lowerBound
      for index in range where outputs.values[index] > outputs.values[best] { best = index }
      return best - range.lowerBound
    }
  }
}

/// What two networks give for the same samples, result by result.
private struct Comparison {
  private(set) var results: [SampleDrift.Result] = []
  /// By sample, the share of the results that tell labels where both tell the same; nil where none does.
  private(set) var agreements: [Double]?
  /// By sample, the mean of the KL divergences of the same.
  private(set) var divergences: [Double]?

  init(
    _ own: Matrix, _ network: any SampleNetwork, _ others: Matrix, _ reference: any SampleNetwork
  ) {
    let logits = network.logits(own), otherLogits = reference.logits(others)
    let classifiers = network.results.count(where: \.isClassifier)
    if classifiers > 0 {
      agreements = [Double](repeating: 0, count: own.rows)
      divergences = agreements
    }
    for (result, range) in zip(network.results, network.resultRanges) {
      let x = own.columns(range), y = others.columns(range)
      var distance = 0.0, energy = 0.0
      for (x, y) in zip(x.values, y.values) {
        distance += (Double(x) - Double(y)) * (Double(x) - Double(y))
        energy += Double(y) * Double(y)
      }
      var agreement: Double?, divergence: Double?
      if result.isClassifier {
        let found = SampleEvaluator.labels(of: x), otherFound = SampleEvaluator.labels(of: y)
        let logits = logits.columns(range), otherLogits = otherLogits.columns(range)
        var same = 0.0, sum = 0.0
        for row in 0..<own.rows {
          let place = logits.range(ofRow: row)
          let own = LogitComparison(
            reference: otherLogits.values.span.extracting(place),
            model: logits.values.span.extracting(place)
          ).divergence
          let isSame: Double = found[row] == otherFound[row] ? 1 : 0
          same += isSame
          sum += own
          agreements?[row] += isSame / Double(classifiers)
          divergences?[row] += own / Double(classifiers)
        }
        agreement = same / Double(max(1, own.rows))
        divergence = sum / Double(max(1, own.rows))
      }
      results.append(
        SampleDrift.Result(
          name: result.name, agreement: agreement, divergence: divergence,
          outputError: energy > 0 ? distance / energy : distance > 0 ? .infinity : 0))
    }
  }
}

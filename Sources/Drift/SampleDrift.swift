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

  /// Every figure at zero, with a reference: the shape of a result before it is measured.
  public static func zero(hasLabels: Bool, isClassifier: Bool) -> SampleDrift {
    SampleDrift(
      samples: 0, accuracy: hasLabels ? 0 : nil, accuracyInterval: hasLabels ? 0...0 : nil,
      referenceAccuracy: hasLabels ? 0 : nil, lossInterval: hasLabels ? 0...0 : nil,
      agreement: isClassifier ? 0 : nil, agreementInterval: isClassifier ? 0...0 : nil,
      divergence: isClassifier
        ? .init(mean: 0, median: 0, p99: 0, p999: 0, max: 0, interval: 0...0) : nil,
      outputError: 0)
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
    divergence = json["kl"].flatMap(LanguageDrift.Divergence.init(json:))
  }

  init(
    samples: Int, accuracy: Double?, accuracyInterval: ClosedRange<Double>?,
    referenceAccuracy: Double?, lossInterval: ClosedRange<Double>?, agreement: Double?,
    agreementInterval: ClosedRange<Double>?, divergence: LanguageDrift.Divergence?,
    outputError: Double?
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
    let found = Self.labels(of: own), otherFound = others.map { Self.labels(of: $0) }
    let bootstrap = Bootstrap(windows: count)
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }
    var accuracies: [Double]?, otherAccuracies: [Double]?
    if let labels, network.isClassifier {
      accuracies = zip(found, labels).map { $0 == $1 ? 1 : 0 }
      otherAccuracies = otherFound.map { zip($0, labels).map { $0 == $1 ? 1 : 0 } }
    }
    var agreements: [Double]?, divergences: [Double]?
    var error: Double?
    if let others, let otherFound, let reference {
      if network.isClassifier {
        agreements = zip(found, otherFound).map { $0 == $1 ? 1 : 0 }
        let logits = network.logits(own), otherLogits = reference.logits(others)
        divergences = (0..<count).map { row in
          let range = logits.range(ofRow: row)
          return LogitComparison(
            reference: otherLogits.values.span.extracting(range),
            model: logits.values.span.extracting(range)
          ).divergence
        }
      }
      var distance = 0.0, energy = 0.0
      for (x, y) in zip(own.values, others.values) {
        distance += (Double(x) - Double(y)) * (Double(x) - Double(y))
        energy += Double(y) * Double(y)
      }
      error = energy > 0 ? distance / energy : distance > 0 ? .infinity : 0
    }
    let losses = accuracies.flatMap { own in
      otherAccuracies.map { others in zip(others, own).map { $0 - $1 } }
    }
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
      }, outputError: error)
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

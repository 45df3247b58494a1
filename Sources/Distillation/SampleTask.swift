// Samples in views, for networks that give a row of numbers each: labels' logits, probabilities, or other values.
//
// Source   softened KL: Hinton, Vinyals and Dean, arXiv:1503.02531, section 2, as in Divergence; one view for teacher and
//          student, and many passes: Beyer et al., CVPR 2022, arXiv:2106.05237
// Given    a pass over the samples; pass p shows view p of each, a log its view p modulo its views
// Result   the mean over samples of w_d D + w_l (−log q_label); of values that are no labels, Σ (y − t)² / n in place of D;
//          of several results the mean of their D
// Checked  SampleTaskTests: central differences

public import HDF5Files
public import Networks
public import Tensors

/// Trains a network over samples.
public struct SampleTask: TrainingTask {
  /// Who says what the student should give.
  public enum Teacher {
    /// What a teacher said, written down.
    case log(SampleLog)
    /// A network that runs beside the student.
    case network(any SampleNetwork)
    /// Nobody: labels alone.
    case none
  }

  private let network: any SampleNetwork
  private let views: SampleViews
  private let teacher: Teacher
  private let labels: [Int]?
  private let options: TrainingOptions
  private var validationItems: [Int] = []

  /// A task.
  ///
  /// - Parameters:
  ///   - views: The samples, with the augmentation of the log where there is one.
  ///   - labels: The right label of each sample, or nil.
  /// - Throws: `DistillationError` where teacher and student do not give the same numbers.
  public init(
    _ network: any SampleNetwork, views: SampleViews, teacher: Teacher, labels: [Int]?,
    options: TrainingOptions
  ) throws(DistillationError) {
    precondition(labels.map { $0.count == views.count } ?? true)
    let count: Int?
    switch teacher {
    case .log(let log): count = log.manifest.outputs
    case .network(let teacher): count = teacher.outputCount
    case .none: count = nil
    }
    if let count, count != network.outputCount {
      throw .outputMismatch(student: network.outputCount, teacher: count)
    }
    let needed = max(1, options.validationWindows) + options.batch * options.accumulation
    guard views.count >= needed else {
      throw .tooFewSamples(found: views.count, needed: needed)
    }
    self.network = network
    self.views = views
    self.teacher = teacher
    self.labels = labels
    self.options = options
  }

  /// Samples.
  public var count: Int { views.count }
  /// None.
  public var parameters: [TrainedParameter] { [] }

  /// Keeps samples for validation.
  public mutating func keepForValidation(_ items: [Int]) -> Int {
    validationItems = items
    return 1
  }

  /// The loss of samples in the views of their passes.
  public func loss(
    of items: [TrainingItem], observer: any GradientObserver
  ) throws -> LossSums {
    let views = items.map { item -> SampleView in
      let view: Int
      switch teacher {
      case .log(let log): view = item.pass % log.manifest.views
      case .network, .none: view = self.views.augmentation.isNone ? 0 : item.pass
      }
      return SampleView(sample: item.index, view: view)
    }
    return try loss(views, options, observer: observer)
  }

  /// The loss of the samples of the validation as they are.
  public func validation() throws -> LossSums {
    var own = options
    own.temperature = 1
    own.divergence = .forward
    if !own.targets.areHard { own.divergenceWeight = 1 }
    var sums = LossSums()
    let step = max(network.batchSamples, options.batch)
    for start in stride(from: 0, to: validationItems.count, by: step) {
      let items = validationItems[start..<min(start + step, validationItems.count)]
      sums.add(
        try loss(items.map { SampleView(sample: $0, view: 0) }, own, observer: nil))
    }
    return sums
  }

  private func loss(
    _ views: [SampleView], _ options: TrainingOptions, observer: (any GradientObserver)?
  ) throws -> LossSums {
    let features = self.views.features(views, network.normalization)
    let outputs = network.outputs(
      network.batch(features, tape: observer.map { _ in GradientTape() }))
    let targets = try targets(views)
    let logits = network.isClassifier ? network.logits(outputs.unrecorded) : outputs.unrecorded
    let usesText = options.targets.areHard ? 1 : options.textWeight
    let columns = logits.columns, results = Array(zip(network.results, network.resultRanges))
    var gradient = logits
    var sums = LossSums()
    if labels != nil { sums.rightLabels = 0 }
    for (row, view) in views.enumerated() {
      let range = logits.range(ofRow: row)
      let own = Array(logits.values[range])
      var parts = [Float](repeating: 0, count: columns)
      if let targets {
        let weight = Float(options.divergenceWeight) / Float(results.count)
        for (result, place) in results {
          var values = Array(own[place])
          let other = range.lowerBound + place.lowerBound..<range.lowerBound + place.upperBound
          sums.divergence +=
            divergence(&values, Array(targets.values[other]), of: result, options)
            / Double(results.count)
          for i in values.indices { parts[place.lowerBound + i] += weight * values[i] }
        }
      }
      if let labels {
        let label = labels[view.sample]
        var values = own
        var span = values.mutableSpan
        sums.text += RowGradients.crossEntropy(&span, label: label)
        if usesText > 0 {
          for i in parts.indices { parts[i] += Float(usesText) * values[i] }
        }
        // Of equal ones the first, as everywhere.
        if own.indices.max(by: { (own[$0], $1) < (own[$1], $0) }) == label {
          sums.rightLabels = (sums.rightLabels ?? 0) + 1
        }
      }
      gradient.values.replaceSubrange(range, with: parts)
    }
    sums.weight = Double(views.count)
    sums.units = views.count
    guard let observer else { return sums }
    for (result, place) in results where result.kind == .probabilities {
      // The logits are logarithms of what the network gives.
      for row in 0..<gradient.rows {
        for column in place {
          let i = row * columns + column
          gradient.values[i] /= max(outputs.values[i], 1e-30)
        }
      }
    }
    GradientRecord.walk(from: outputs, gradient: gradient, observer: observer)
    return sums
  }

  /// What the teacher gives for views: logits of labels, or other values; nil without a teacher.
  private func targets(_ views: [SampleView]) throws -> Matrix? {
    switch teacher {
    case .log(let log):
      return try log.outputs(rows: views.map { log.row(ofSample: $0.sample, view: $0.view) })
    case .network(let teacher):
      let features = self.views.features(views, teacher.normalization)
      let outputs = teacher.outputs(teacher.batch(features))
      return teacher.isClassifier ? teacher.logits(outputs) : outputs
    case .none: return nil
    }
  }

  /// Replaces a result of the student's by its gradient.
  private func divergence(
    _ values: inout [Float], _ targets: [Float], of result: SampleResult,
    _ options: TrainingOptions
  ) -> Double {
    if result.isClassifier {
      var targets = targets
      var teacher = targets.mutableSpan, student = values.mutableSpan
      return options.divergence.apply(
        to: &student, teacher: &teacher, temperature: options.temperature)
    }
    var sum = 0.0
    let scale = 2 / Float(values.count)
    for i in values.indices {
      let difference = values[i] - targets[i]
      sum += Double(difference) * Double(difference)
      values[i] = scale * difference
    }
    return sum / Double(values.count)
  }
}

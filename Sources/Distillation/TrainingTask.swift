// What a trainer trains on: windows of text, or samples. The trainer knows numbers of items, passes and sums of losses.

import Networks
public import Tensors

/// An item of a training set, and how often the run has come to it before.
public struct TrainingItem: Sendable, Equatable {
  /// Its number.
  public let index: Int
  /// Passes over all items before this one.
  public let pass: Int
}

/// A training set with its loss.
public protocol TrainingTask {
  /// Items, those of the validation among them.
  var count: Int { get }
  /// Parameters that are trained beside the model's own.
  var parameters: [TrainedParameter] { get }
  /// Takes the items that are kept for validation.
  ///
  /// - Returns: What an item counts as: predicted tokens of a window; 1 for a sample.
  mutating func keepForValidation(_ items: [Int]) throws -> Int
  /// The loss of a batch; parts of the gradients go to the observer.
  func loss(of items: [TrainingItem], observer: any GradientObserver) throws -> LossSums
  /// What the items of the validation give, at T = 1 and without losses on the inside.
  func validation() throws -> LossSums
}

/// Windows of text or of teacher logs, for a language model.
struct LanguageTask: TrainingTask {
  private let network: any LanguageModel
  private let source: any TrainingSource
  private let options: TrainingOptions
  private var objective: DistillationObjective
  private var validationWindows: [TrainingWindow] = []
  private(set) var parameters: [TrainedParameter] = []

  init(
    _ network: any Network, source: any TrainingSource, teacher: (any LanguageModel)?,
    options: TrainingOptions
  ) throws(DistillationError) {
    guard let network = network as? any LanguageModel else {
      throw DistillationError.notALanguageModel(family: network.family)
    }
    if let teacher, teacher.vocabularySize != network.vocabularySize {
      throw DistillationError.vocabularyMismatch(
        student: network.vocabularySize, teacher: teacher.vocabularySize)
    }
    self.network = network
    self.source = source
    self.options = options
    objective = DistillationObjective(options: options, teacher: teacher)
    for (index, loss) in options.representations.enumerated() {
      guard case .stream(let layer, _, _) = loss, let teacher else { continue }
      let own = network.embedding.matrix.inputs, other = teacher.embedding.matrix.inputs
      if own == other { continue }
      var stream = RandomStream(seed: options.seed, name: "projection of layer \(layer)")
      let size = 1 / Double(own).squareRoot()
      let projection = TrainedParameter(
        "projection:\(index)", .matrix, rows: other, columns: own,
        values: (0..<other * own).map { _ in Float(stream.gaussian() * size) })
      objective.projections[index] = projection
      parameters.append(projection)
    }
  }

  var count: Int { source.count }

  mutating func keepForValidation(_ items: [Int]) throws -> Int {
    validationWindows = try source.windows(items)
    return max(1, (validationWindows.first?.tokens.count ?? 2) - 1)
  }

  func loss(of items: [TrainingItem], observer: any GradientObserver) throws -> LossSums {
    try objective.run(network, source.windows(items.map(\.index)), observer: observer)
  }

  func validation() throws -> LossSums {
    var own = options
    own.temperature = 1
    own.divergence = .forward
    own.representations = []
    if !own.targets.areHard { own.divergenceWeight = 1 }
    let objective = DistillationObjective(options: own, teacher: self.objective.teacher)
    var sums = LossSums()
    for start in stride(from: 0, to: validationWindows.count, by: options.batch) {
      let windows = validationWindows[start..<min(start + options.batch, validationWindows.count)]
      sums.add(
        try objective.run(
          network, windows.map { TrainingWindow(tokens: $0.tokens, log: $0.log, weight: 1) },
          observer: nil))
    }
    return sums
  }
}

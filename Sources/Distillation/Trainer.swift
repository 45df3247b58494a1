// The training loop: batches, steps, validations, the best state so far, and a run that goes on to the same bits after
// an interruption.

import Foundation
public import Networks
import Tensors

/// A point of the loss curve.
public struct TrainingPoint: Sendable, Equatable {
  /// Steps done.
  public var step: Int
  /// Tokens seen.
  public var tokens: Int
  /// Means over the tokens since the last point: divergence (times T²), nats a token of text, losses on the inside.
  public var divergence, text, representation: Double
  /// The learning rate of the last step.
  public var rate: Double
  /// The length of the last step's gradient, before clipping.
  public var gradientLength: Double
  /// The validation at this step; nil where there was none.
  public var validation: ValidationPoint?
}

/// What a validation found.
public struct ValidationPoint: Sendable, Equatable {
  /// The mean divergence at T = 1; 0 where nothing is known of a teacher.
  public var divergence: Double
  /// Nats a token of text, or a label.
  public var text: Double
  /// The share of samples whose likeliest label is the right one; nil for texts, and without labels.
  public var accuracy: Double?

  /// A point.
  public init(divergence: Double, text: Double, accuracy: Double? = nil) {
    self.divergence = divergence
    self.text = text
    self.accuracy = accuracy
  }

  /// exp(text).
  public var perplexity: Double { exp(text) }
}

/// What a trainer says while it works.
public struct TrainingProgress: Sendable {
  /// Steps done and steps in all.
  public var step, steps: Int
  /// Tokens of this process, and what it took.
  public var tokens: Int
  /// Time since the first step of this process.
  public var elapsed: Duration
  /// The loss curve so far.
  public var curve: [TrainingPoint]
  /// The validations of the input and of the best state so far.
  public var first, best: ValidationPoint
}

/// What a run came to.
public struct TrainingOutcome: Sendable, Equatable {
  /// The loss curve.
  public var curve: [TrainingPoint]
  /// The validation of the input and of the best state.
  public var first, best: ValidationPoint
  /// The step of the best state; 0 is the input.
  public var bestStep: Int
  /// Steps that ran, and steps that were planned.
  public var steps, planned: Int
  /// Tokens that were trained on.
  public var tokens: Int

  /// An outcome.
  public init(
    curve: [TrainingPoint], first: ValidationPoint, best: ValidationPoint, bestStep: Int,
    steps: Int, planned: Int, tokens: Int
  ) {
    self.curve = curve
    self.first = first
    self.best = best
    self.bestStep = bestStep
    self.steps = steps
    self.planned = planned
    self.tokens = tokens
  }
}

/// Trains a model.
public final class Trainer {
  private let model: TrainedModel
  private let task: any TrainingTask
  private let options: TrainingOptions
  private let order: TrainingOrder
  private let parameters: [TrainedParameter]
  private let optimizer: any Optimizer
  private let schedule: LearningRateSchedule
  /// Tokens or samples of a step.
  private let unitsOfStep: Int
  /// Where the state of the run is kept; nil keeps it nowhere.
  private let store: TrainingStore?
  private var state: TrainingState

  /// Windows or samples of a step.
  private var itemsOfStep: Int { options.batch * options.accumulation }

  /// A trainer of a language model.
  ///
  /// - Parameters:
  ///   - teacher: Runs beside the student for `full` targets and losses on the inside.
  ///   - store: Where the state is kept between interruptions.
  public convenience init(
    _ model: TrainedModel, source: any TrainingSource, teacher: (any LanguageModel)?,
    options: TrainingOptions, store: TrainingStore? = nil
  ) throws {
    try self.init(
      model,
      task: LanguageTask(model.network, source: source, teacher: teacher, options: options),
      options: options, store: store)
  }

  /// A trainer.
  ///
  /// - Parameter store: Where the state is kept between interruptions.
  public init(
    _ model: TrainedModel, task: any TrainingTask, options: TrainingOptions,
    store: TrainingStore? = nil
  ) throws {
    var task = task
    self.model = model
    self.options = options
    self.store = store
    let order = try TrainingOrder(
      count: task.count, validation: options.validationWindows,
      batch: options.batch * options.accumulation, seed: options.seed)
    let unit = try task.keepForValidation(order.validation)
    self.order = order
    self.task = task
    parameters = model.parameters + task.parameters
    optimizer = options.optimizer.make(parameters, options)
    unitsOfStep = unit * options.batch * options.accumulation
    let units = options.epochs.map { $0 * order.count * unit } ?? options.tokens
    let steps = max(1, (units + unitsOfStep - 1) / unitsOfStep)
    schedule = LearningRateSchedule(
      options.schedule, steps: steps, warmup: Int((options.warmup * Double(steps)).rounded(.up)),
      end: options.finalRate)
    state = TrainingState()
  }

  /// Trains to the end, or until validations stop improving; the model has the best parameters afterwards.
  public func run(
    progress: (TrainingProgress) throws -> Void = { _ in }
  ) throws -> TrainingOutcome {
    FreedMemory.keep()
    let started = ContinuousClock.now
    if let stored = try store?.read(parameters, optimizer) {
      state = stored
    } else {
      state.best = parameters.map(\.values)
      let first = try validate()
      state.first = first
      state.bestPoint = first
    }
    var ran = 0
    var last = ContinuousClock.now
    while state.step < schedule.steps, !isOver {
      let length = try step()
      ran += 1
      if (state.step * options.validations) / schedule.steps
        != ((state.step - 1) * options.validations) / schedule.steps
      {
        try finishPoint(length, validation: validate())
        try store?.write(state, parameters, optimizer)
        last = .now
      } else if state.step % curveSteps == 0 {
        finishPoint(length, validation: nil)
      }
      if let store, ContinuousClock.now - last > store.interval {
        try store.write(state, parameters, optimizer)
        last = .now
      }
      try progress(
        TrainingProgress(
          step: state.step, steps: schedule.steps, tokens: ran * unitsOfStep,
          elapsed: ContinuousClock.now - started, curve: state.curve, first: state.first,
          best: state.bestPoint))
    }
    for (parameter, values) in zip(parameters, state.best) { parameter.values = values }
    model.attach()
    return TrainingOutcome(
      curve: state.curve, first: state.first, best: state.bestPoint, bestStep: state.bestStep,
      steps: state.step, planned: schedule.steps, tokens: state.tokens)
  }

  /// Steps between two points of the curve: about 200 points a run.
  private var curveSteps: Int { max(1, schedule.steps / 200) }

  private var isOver: Bool {
    guard let patience = options.patience else { return false }
    let validations = state.curve.filter { $0.validation != nil }
    return validations.count { $0.step > state.bestStep } >= patience
  }

  /// One step; the length of its gradient.
  private func step() throws -> Double {
    var sums = LossSums()
    for parameter in parameters { parameter.gradient = [] }
    model.attach()
    for part in 0..<options.accumulation {
      let first = state.step * itemsOfStep + part * options.batch
      let found = try task.loss(of: order.items(first..<first + options.batch), observer: model)
      sums.add(found)
      state.tokens += found.units
    }
    model.detach()
    model.finishGradients()
    let scale = 1 / max(sums.weight, 1e-12)
    let length = gradientLength() * scale
    guard length.isFinite, sums.divergence.isFinite, sums.text.isFinite else {
      throw DistillationError.diverged(step: state.step + 1)
    }
    let clipping = options.clip.map { min(1, $0 / max(length, 1e-30)) } ?? 1
    let rate = options.learningRate * schedule.share(at: state.step)
    for (index, parameter) in parameters.enumerated() where !parameter.gradient.isEmpty {
      let isGrid = parameter.kind == .scale || parameter.kind == .zero
      optimizer.step(
        parameter, at: index,
        OptimizerStep(
          index: state.step, rate: isGrid ? rate * options.scaleRate : rate,
          gradientScale: scale * clipping, decay: options.weightDecay))
      parameter.gradient = []
    }
    state.sums.add(sums)
    state.step += 1
    state.rate = rate
    return length
  }

  private func gradientLength() -> Double {
    let squares = ParallelLoop.map(parameters.count) { [parameters = Gradients(parameters)] index in
      parameters.square(index)
    }
    return squares.reduce(0, +).squareRoot()
  }

  /// The means over the validation items.
  private func validate() throws -> ValidationPoint {
    model.attach()
    defer { model.detach() }
    let sums = try task.validation()
    let weight = max(1, sums.weight)
    return ValidationPoint(
      divergence: sums.divergence / weight, text: sums.text / weight,
      accuracy: sums.rightLabels.map { $0 / weight })
  }

  /// What a validation is judged by: the divergence, or the text where that alone is trained on.
  public static func score(_ point: ValidationPoint, _ options: TrainingOptions) -> Double {
    options.targets.areHard || options.divergenceWeight == 0 ? point.text : point.divergence
  }

  private func finishPoint(_ length: Double, validation: ValidationPoint?) {
    let weight = max(state.sums.weight, 1e-12)
    state.curve.append(
      TrainingPoint(
        step: state.step, tokens: state.tokens, divergence: state.sums.divergence / weight,
        text: state.sums.text / weight, representation: state.sums.representation / weight,
        rate: state.rate, gradientLength: length, validation: validation))
    state.sums = LossSums()
    guard let validation, Self.score(validation, options) < Self.score(state.bestPoint, options)
    else { return }
    state.bestPoint = validation
    state.bestStep = state.step
    state.best = parameters.map(\.values)
  }
}

/// Gradients as values that several threads may read.
private struct Gradients: Sendable {
  private let arrays: [[Float]]

  init(_ parameters: [TrainedParameter]) { arrays = parameters.map(\.gradient) }

  /// Σ of squares, in Double over blocks.
  func square(_ index: Int) -> Double {
    let array = arrays[index]
    let values = array.span
    var sum = 0.0
    for start in stride(from: 0, to: values.count, by: 4096) {
      let part = values.extracting(start..<min(start + 4096, values.count))
      sum += Double(dot(part, part))
    }
    return sum
  }
}

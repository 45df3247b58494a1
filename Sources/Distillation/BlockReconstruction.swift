// Block by block: the parameters of each transformer block are tuned until it gives what the float block gave, on what
// the blocks before it give now.
//
// Source   Li et al., "BRECQ", ICLR 2021, arXiv:2102.05426; Chen et al., "EfficientQAT", 2024, arXiv:2407.11062,
//          section 3.2 (steps and weights of a block with straight-through gradients)
// Given    a student and its teacher of the same shapes, windows of a text
// Result   for each block the parameters with the least ‖f(x̂) − f*(x)‖² / ‖f*(x)‖² over all windows: x̂ is the
//          student's stream, x and f* the teacher's. Those that it came with count too: no block becomes worse
// Cost     a forward and a backward pass of one block at a time; memory holds the streams, not the activations
// Checked  BlockReconstructionTests: errors recomputed by whole forward passes; an interrupted run ends in the same bits

public import Networks
import Tensors

/// How blocks are tuned.
public struct BlockOptions: Sendable, Equatable {
  /// Passes over the windows for each block.
  public var passes = 8
  /// Windows of a step.
  public var batch = 8
  /// The peak learning rate of weights and vectors.
  public var learningRate = 2e-4
  /// The learning rate of steps and zero points as a multiple of it.
  public var scaleRate = 1.0
  /// The optimizer.
  public var optimizer = OptimizerName.adamw
  /// Of the order of the windows.
  public var seed: UInt64 = 0

  /// The defaults.
  public init() {}

  /// The peak learning rate that suits what is trained.
  public static func learningRate(_ parts: TrainedParts) -> Double {
    parts == .scales ? 5e-3 : 2e-4
  }
}

/// What became of a block.
public struct BlockOutcome: Sendable, Equatable {
  /// The block, from 0.
  public let block: Int
  /// The relative squared error of its output before and after.
  public let before, after: Double

  /// An outcome.
  public init(block: Int, before: Double, after: Double) {
    self.block = block
    self.before = before
    self.after = after
  }
}

/// Tunes a student's blocks.
public final class BlockReconstruction {
  private let student, teacher: any Network
  private let weights: [any TrainedWeight]
  private let options: BlockOptions
  private let store: ((Int) -> TrainingStore)?
  private let batches: [TokenBatch]

  /// A reconstruction.
  ///
  /// - Parameters:
  ///   - student: Its trained matrices are those of the branches that are tuned.
  ///   - store: Where the parameters of a finished block are kept; nil keeps them nowhere.
  public init(
    _ student: TrainedModel, teacher: any Network, windows: [[Int32]], options: BlockOptions,
    store: ((Int) -> TrainingStore)? = nil
  ) throws {
    guard let own = student.network as? any TokenNetwork, !(own is any FeatureNetwork),
      let other = teacher as? any TokenNetwork, !(other is any FeatureNetwork)
    else { throw DistillationError.notALanguageModel(family: student.network.family) }
    let width = own.embedding.matrix.inputs, otherWidth = other.embedding.matrix.inputs
    guard own.layerBranches.count == other.layerBranches.count, width == otherWidth else {
      throw DistillationError.needsTeacher(
        what:
          "blocks are compared one by one: the teacher has \(other.layerBranches.count) of width "
          + "\(otherWidth), the student \(own.layerBranches.count) of width \(width)")
    }
    self.student = student.network
    self.teacher = teacher
    weights = student.weights
    self.options = options
    self.store = store
    batches = stride(from: 0, to: windows.count, by: options.batch).map {
      TokenBatch(Array(windows[$0..<min($0 + options.batch, windows.count)]))
    }
  }

  /// Tunes all blocks, from the first to the last.
  ///
  /// - Parameter progress: Called with the block and the share of it that is done.
  public func run(
    progress: (Int, Double) -> Void = { _, _ in }, finished: (BlockOutcome) -> Void = { _ in }
  ) throws -> [BlockOutcome] {
    for weight in weights { weight.attach() }
    var own = batches.map { student.embed($0, position: 0) }
    var others = batches.map { teacher.embed($0, position: 0) }
    var outcomes: [BlockOutcome] = []
    for block in student.layerBranches.indices {
      for (index, batch) in batches.enumerated() {
        others[index] = Self.run(teacher, block, others[index], batch)
      }
      let outcome = try tune(block, own, targets: others) { progress(block, $0) }
      outcomes.append(outcome)
      finished(outcome)
      for (index, batch) in batches.enumerated() {
        own[index] = Self.run(student, block, own[index], batch)
      }
    }
    return outcomes
  }

  private static func run(
    _ network: any Network, _ block: Int, _ stream: Matrix, _ batch: TokenBatch
  ) -> Matrix {
    var hidden = stream
    for sublayer in network.sublayers[network.layerBranches[block]] {
      hidden = sublayer.run(hidden, batch, cache: nil, inputOf: nil)
    }
    return hidden
  }

  private func tune(
    _ block: Int, _ inputs: [Matrix], targets: [Matrix], _ progress: (Double) -> Void
  ) throws -> BlockOutcome {
    let branches = student.sublayers[student.layerBranches[block]]
    let names = Set(branches.flatMap { $0.groups.flatMap { $0.map(\.weightName) } })
    let model = TrainedModel(
      student, weights: weights.filter { names.contains($0.layer.weightName) },
      vectors: branches.flatMap { $0.vectors })
    let parameters = model.parameters
    var training = TrainingOptions()
    training.optimizer = options.optimizer
    let optimizer = options.optimizer.make(parameters, training)
    var state = TrainingState()
    if let stored = try store?(block).read(parameters, optimizer) {
      for (parameter, values) in zip(parameters, stored.best) { parameter.values = values }
      model.attach()
      return BlockOutcome(
        block: block, before: stored.first.divergence, after: stored.bestPoint.divergence)
    }
    let steps = options.passes * batches.count
    let schedule = LearningRateSchedule(.cosine, steps: steps, warmup: 0, end: 0.05)
    let before = error(block, inputs, targets)
    state.first = ValidationPoint(divergence: before, text: 0)
    state.bestPoint = state.first
    state.best = model.snapshot()
    for pass in 0..<options.passes {
      var stream = RandomStream(seed: options.seed, name: "block \(block), pass \(pass)")
      for (place, index) in stream.permutation(batches.count).enumerated() {
        model.clearGradients()
        step(block, inputs[index], targets[index], batches[index], model)
        model.detach()
        model.finishGradients()
        let rate =
          options.learningRate * schedule.share(at: pass * batches.count + place)
        for (number, parameter) in parameters.enumerated() where !parameter.gradient.isEmpty {
          let isGrid = parameter.kind == .scale || parameter.kind == .zero
          optimizer.step(
            parameter, at: number,
            OptimizerStep(
              index: pass * batches.count + place, rate: isGrid ? rate * options.scaleRate : rate,
              gradientScale: 1, decay: 0))
        }
        model.attach()
        progress(Double(pass * batches.count + place + 1) / Double(steps))
      }
      let now = error(block, inputs, targets)
      guard now.isFinite else { throw DistillationError.diverged(step: (pass + 1) * batches.count) }
      if now < state.bestPoint.divergence {
        state.bestPoint.divergence = now
        state.best = model.snapshot()
      }
    }
    model.clearGradients()
    model.restore(state.best)
    model.attach()
    try store?(block).write(state, parameters, optimizer)
    return BlockOutcome(block: block, before: before, after: state.bestPoint.divergence)
  }

  /// The gradients of the relative squared error of one batch.
  private func step(
    _ block: Int, _ input: Matrix, _ target: Matrix, _ batch: TokenBatch, _ model: TrainedModel
  ) {
    let tape = GradientTape()
    let recorded = TokenBatch(batch.sequences.map { Array(batch.tokens[$0]) }, tape: tape)
    let output = Self.run(student, block, tape.leaf(input) { _, _ in }, recorded)
    var gradient = output.unrecorded
    let scale = Float(2 / max(Self.square(target), 1e-30))
    for i in gradient.values.indices {
      gradient.values[i] = scale * (gradient.values[i] - target.values[i])
    }
    GradientRecord.walk(from: output, gradient: gradient, observer: model)
  }

  private func error(_ block: Int, _ inputs: [Matrix], _ targets: [Matrix]) -> Double {
    var error = 0.0, size = 0.0
    for (index, batch) in batches.enumerated() {
      var difference = Self.run(student, block, inputs[index], batch)
      for i in difference.values.indices { difference.values[i] -= targets[index].values[i] }
      error += Self.square(difference)
      size += Self.square(targets[index])
    }
    return error / max(size, 1e-30)
  }

  private static func square(_ matrix: Matrix) -> Double {
    var sum = 0.0
    for row in 0..<matrix.rows {
      let values = matrix.values.span.extracting(matrix.range(ofRow: row))
      sum += Double(dot(values, values))
    }
    return sum
  }
}

// How a run is trained: lengths, batches, optimizer, schedule.

public import JSONDocuments
public import Tensors

/// What the loss compares the student with.
public enum DistillationTargets: String, Sendable, CaseIterable {
  /// Sampled tokens of a log: unbiased for the forward KL.
  case samples
  /// The exact top k of a log, and one event for all other tokens.
  case topK = "top-k"
  /// The exact top k of a log, renormalized: biased, for comparison.
  case topKRenormalized = "top-k-renormalized"
  /// The whole distribution: of a teacher that runs beside the student, or of a log of samples.
  case full
  /// The text alone.
  case text
  /// The labels of samples alone.
  case labels

  /// Whether there is nothing but right answers.
  public var areHard: Bool { self == .text || self == .labels }
}

/// The options of training.
public struct TrainingOptions: Sendable, Equatable {
  /// Tokens to train on; texts and logs are read again when they are shorter.
  public var tokens = 2_000_000
  /// Passes over samples, in place of tokens; nil for texts.
  public var epochs: Int?
  /// Windows or samples of a batch that runs through the network at once.
  public var batch = 8
  /// Batches whose gradients add up to one step.
  public var accumulation = 1
  /// The optimizer.
  public var optimizer = OptimizerName.adamw
  /// The peak learning rate of matrices, tables, norms and biases.
  public var learningRate = 1e-3
  /// The learning rate of steps and zero points as a multiple of `learningRate`.
  public var scaleRate = 1.0
  /// AdamW's decay of matrices and tables, times the learning rate.
  public var weightDecay = 0.0
  /// How much of AdamW's mean stays a step.
  public var beta1 = 0.9
  /// How much of AdamW's mean square stays a step.
  public var beta2 = 0.95
  /// The gradient's length is at most this; nil leaves it.
  public var clip: Double? = 1
  /// The shape of the learning rate.
  public var schedule = LearningRateSchedule.Shape.cosine
  /// Share of the steps in which the rate rises.
  public var warmup = 0.05
  /// The last learning rate as a share of the peak.
  public var finalRate = 0.1
  /// What is compared.
  public var targets = DistillationTargets.samples
  /// How it is compared.
  public var divergence = Divergence.forward
  /// T.
  public var temperature = 1.0
  /// The weight of the divergence.
  public var divergenceWeight = 1.0
  /// The weight of the cross-entropy on the text, or on the labels.
  public var textWeight = 0.0
  /// Losses on the inside of the network.
  public var representations: [RepresentationLoss] = []
  /// The weight of each log or text, in their order; all 1 when empty.
  public var sourceWeights: [Double] = []
  /// Windows or samples that are kept for validation.
  public var validationWindows = 64
  /// Validations of a run, the one before it not counted.
  public var validations = 10
  /// The run stops after so many validations without a better one; nil never stops early.
  public var patience: Int?
  /// Of products with trained matrices.
  public var precision = ProductPrecision.float32
  /// Whether branches are computed again in the backward pass.
  public var recomputes = false
  /// Of batches, of the validation's choice and of new parameters.
  public var seed: UInt64 = 0

  /// The defaults.
  public init() {}

  /// The defaults for networks over samples.
  ///
  /// - Parameter epochs: Passes over the samples; 20 when nil.
  public static func forSamples(epochs: Int? = nil) -> TrainingOptions {
    var options = TrainingOptions()
    options.epochs = epochs ?? 20
    options.batch = 64
    options.validationWindows = 512
    options.targets = .full
    return options
  }

  /// The peak learning rate that suits what is trained. Lion's steps have one size, so that they are a fifth.
  public static func learningRate(_ parts: TrainedParts, _ optimizer: OptimizerName) -> Double {
    let rate =
      switch parts {
      case .all, .adapters: 1e-3
      case .scales: 5e-3
      case .quantized: 3e-4
      }
    return optimizer == .lion ? rate / 5 : rate
  }

  /// The resolved options that the result depends on.
  public var json: JSONValue {
    var object = JSONObject()
    if let epochs {
      object["epochs"] = .integer(epochs)
    } else {
      object["tokens"] = .integer(tokens)
    }
    object["batch"] = .integer(batch)
    object["accumulation"] = .integer(accumulation)
    object["optimizer"] = .string(optimizer.rawValue)
    object["learning-rate"] = .number(learningRate)
    object["scale-rate"] = .number(scaleRate)
    object["weight-decay"] = .number(weightDecay)
    object["beta1"] = .number(beta1)
    object["beta2"] = .number(beta2)
    object["clip"] = clip.map { .number($0) } ?? .null
    object["schedule"] = .string(schedule.rawValue)
    object["warmup"] = .number(warmup)
    object["final-rate"] = .number(finalRate)
    object["targets"] = .string(targets.rawValue)
    object["divergence"] = .string(divergence.name)
    if case .jensenShannon(let beta) = divergence { object["beta"] = .number(beta) }
    object["temperature"] = .number(temperature)
    object["divergence-weight"] = .number(divergenceWeight)
    object["text-weight"] = .number(textWeight)
    object["representations"] = .array(representations.map(\.json))
    object["source-weights"] = .array(sourceWeights.map { .number($0) })
    object["validation-windows"] = .integer(validationWindows)
    object["validations"] = .integer(validations)
    object["patience"] = patience.map { .integer($0) } ?? .null
    object["precision"] = .string(precision.rawValue)
    object["seed"] = .integer(Int(seed))
    return .object(object)
  }
}

extension Divergence {
  /// The name in options.
  public var name: String {
    switch self {
    case .forward: "forward"
    case .reverse: "reverse"
    case .jensenShannon: "jensen-shannon"
    }
  }
}

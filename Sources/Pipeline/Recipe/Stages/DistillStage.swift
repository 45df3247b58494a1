// The options of `distill`.

public import Distillation
import Networks
public import Tensors

/// Train the model on what a teacher says.
public struct DistillStageOptions: StageOptions {
  /// The key of the stage.
  public static let kind = "distill"
  /// What it does.
  public static let summary =
    "Trains the model on teacher logs, on a teacher that runs beside it, or on text; the best state is kept."

  /// Teacher logs.
  public var logs: [Located<String>] = []
  /// Texts, where there are no logs.
  public var text: [Located<String>] = []
  /// Arrays of pictures or other samples, for networks over such.
  public var images: [Located<String>] = []
  /// Their labels, a file each.
  public var labels: [Located<String>] = []
  /// How pictures are changed each time they are seen.
  public var augment: Located<String>?
  /// Passes over the pictures.
  public var epochs: Int?
  /// The weight of the labels' cross-entropy.
  public var labelWeight = 0.0
  /// Tokens of a window of text.
  public var context = 256
  /// A checkpoint that runs beside the student.
  public var teacher: Located<String>?
  /// What is trained.
  public var train = TrainedParts.all
  /// `train: quantized`: the encoding that float weights get first.
  public var encoding: Located<String>?
  /// What is compared; nil follows from what is given.
  public var targets: DistillationTargets?
  /// How it is compared.
  public var divergence = DivergenceChoice.forward
  /// Jensen–Shannon: the teacher's share of the mixture.
  public var beta = 0.5
  /// T.
  public var temperature = 1.0
  /// The weight of the divergence.
  public var divergenceWeight = 1.0
  /// The weight of the text's cross-entropy.
  public var textWeight = 0.0
  /// Tokens to train on, such as `2M`.
  public var tokens = Located("2M")
  /// Windows or pictures of a batch; nil follows from which they are.
  public var batch: Int?
  /// Batches of a step.
  public var accumulation = 1
  /// The optimizer.
  public var optimizer = OptimizerName.adamw
  /// The peak learning rate; nil follows from what is trained.
  public var learningRate: Double?
  /// Of steps and zero points, as a multiple.
  public var scaleRate = 1.0
  /// Decoupled decay, times the learning rate.
  public var weightDecay = 0.0
  /// The shape of the learning rate.
  public var schedule = LearningRateSchedule.Shape.cosine
  /// Share of the steps in which the rate rises.
  public var warmup = 0.05
  /// The last rate as a share of the peak.
  public var finalRate = 0.1
  /// Of adapters.
  public var rank = 16
  /// Weights that are zero stay zero.
  public var keepZeros = false
  /// Windows or pictures for validation; nil follows from which they are.
  public var validationWindows: Int?
  /// Validations of a run.
  public var validations = 10
  /// Validations without a better one before the run stops; nil never stops early.
  public var patience: Int?
  /// Of products.
  public var precision = ProductPrecision.float32
  /// Tunes each block by itself.
  public var blockwise = false
  /// Tokens that blocks are tuned on.
  public var blockTokens = 32768
  /// Passes over them.
  public var passes = 8
  /// Of batches and new parameters.
  public var seed = 0

  /// The defaults; a recipe must give logs or text.
  public init() {}

  /// A divergence's name in recipes.
  public enum DivergenceChoice: String, Sendable, CaseIterable {
    /// KL(teacher ‖ student).
    case forward
    /// KL(student ‖ teacher).
    case reverse
    /// Of both from their mixture.
    case jensenShannon = "jensen-shannon"
  }

  /// The keys.
  public static let section = RecipeSection<DistillStageOptions>(
    title: "a distill stage", make: DistillStageOptions.init,
    fields: [
      .init(
        "logs", \.logs, .list(.path, of: "teacher logs"),
        "Teacher logs (`condense teacher-log`), read relative to the recipe."),
      .init("text", \.text, .list(.path, of: "texts"), "Texts, where there are no logs."),
      .init(
        "images", \.images, .list(.path, of: "arrays of pictures"),
        "Arrays of pictures or other samples (`.npy`), for networks over such: those of the log, or for a teacher beside "
          + "the student."),
      .init(
        "labels", \.labels, .list(.path, of: "arrays of labels"),
        "The right labels, a file for each of `images`."),
      .init(
        "augment", \.augment, .optional(.located("a list such as `flip,shift=4,mix`")),
        "How pictures are changed each time they are seen: mirrored, moved, mixed with another. A log has its own."
      ),
      .init(
        "epochs", \.epochs, .optional(.integer(1...1_048_576)), "Passes over pictures. Default: 20."
      ),
      .init("label-weight", \.labelWeight, .number(0...1e6), "Of the labels' cross-entropy."),
      .init("context", \.context, .integer(2...1_048_576), "Tokens of a window of text."),
      .init(
        "teacher", \.teacher, .optional(.path),
        "A checkpoint that runs beside the student: for whole distributions, for blocks, and for the weights before "
          + "they were quantized."),
      .init(
        "train", \.train, .choice(),
        "What is trained: every float; thin adapters, merged at the end; steps, zero points, norms and biases of a "
          + "quantized model; or its codes, through floats that the forward pass rounds."),
      .init(
        "encoding", \.encoding, .optional(.encoding),
        "`train: quantized`: the encoding that float weights of the branches are trained in."),
      .init(
        "targets", \.targets, .optional(.choice()),
        "What is compared: sampled tokens or the top k of a log, the whole distribution of a teacher, or the text. "
          + "Default: samples with logs, full with a teacher, else text. Of pictures: full, or the labels."
      ),
      .init(
        "divergence", \.divergence, .choice(), "How distributions are compared."),
      .init("beta", \.beta, .number(0...1), "Jensen–Shannon: the teacher's share of the mixture."),
      .init("temperature", \.temperature, .number(0.01...1000), "Softens both distributions."),
      .init("divergence-weight", \.divergenceWeight, .number(0...1e6), "Of the divergence."),
      .init("text-weight", \.textWeight, .number(0...1e6), "Of the text's cross-entropy."),
      .init(
        "tokens", \.tokens, .located("a number such as `2M`"),
        "Tokens to train on; logs and texts are read again when they are shorter."),
      .init(
        "batch", \.batch, .optional(.integer(1...65_536)),
        "Windows or pictures that run through the network at once. Default: 8, of pictures 64."),
      .init(
        "accumulation", \.accumulation, .integer(1...65_536),
        "Batches whose gradients add up to one step."),
      .init("optimizer", \.optimizer, .choice(), "How parameters follow their gradients."),
      .init(
        "learning-rate", \.learningRate, .optional(.number(0...1e3)),
        "The peak. Default: 0.001, for scales 0.005, for quantized 0.0003, for lion a fifth of that."
      ),
      .init(
        "scale-rate", \.scaleRate, .number(0...1e6),
        "The learning rate of steps and zero points, as a multiple."),
      .init(
        "weight-decay", \.weightDecay, .number(0...10), "Of matrices, times the learning rate."),
      .init("schedule", \.schedule, .choice(), "The learning rate over the run."),
      .init("warmup", \.warmup, .number(0...1), "Share of the steps in which the rate rises."),
      .init("final-rate", \.finalRate, .number(0...1), "The last rate as a share of the peak."),
      .init("rank", \.rank, .integer(1...4096), "Adapters: their rank."),
      .init(
        "keep-zeros", \.keepZeros, .flag,
        "Weights that are zero stay zero; of sparse encodings they always do."),
      .init(
        "validation-windows", \.validationWindows, .optional(.integer(1...1_048_576)),
        "Windows or pictures that are kept for validation. Default: 64, of pictures 512."),
      .init("validations", \.validations, .integer(1...65_536), "Validations of a run."),
      .init(
        "patience", \.patience, .optional(.integer(1...65_536)),
        "The run stops after so many validations without a better one."),
      .init("precision", \.precision, .choice(), "What factors of products are rounded to."),
      .init(
        "blockwise", \.blockwise, .flag,
        "Each block is tuned to give what the teacher's gives, instead of training the whole."),
      .init(
        "block-tokens", \.blockTokens, .integer(1...1 << 30), "Tokens that blocks are tuned on."),
      .init("passes", \.passes, .integer(1...65_536), "Passes over them for each block."),
      .init("seed", \.seed, .integer(0...Int.max), "Of batches and new parameters."),
    ])
}

extension DistillStageOptions {
  /// The request; everything is checked at its place in the recipe.
  func request() throws(RecipeError) -> DistillRequest {
    var request = DistillRequest()
    request.logs = logs.map(\.value)
    request.text = text.map(\.value)
    request.context = context
    request.teacher = teacher?.value
    request.parts = train
    request.encoding = encoding?.value
    request.rank = rank
    request.keepsZeros = keepZeros
    guard let count = ByteSize.parse(tokens.value), count > 0 else {
      throw RecipeError(
        at: tokens.place, .refused("'\(tokens.value)' is no number of tokens such as 2M"))
    }
    request.images = images.map(\.value)
    request.labels = labels.map(\.value)
    if let augment {
      guard let augmentation = SampleAugmentation(augment.value) else {
        throw RecipeError(
          at: augment.place,
          .refused("'\(augment.value)' is no list of flip, shift=PIXELS (1 to 64) and mix"))
      }
      request.augmentation = augmentation
    }
    var training = images.isEmpty ? TrainingOptions() : .forSamples(epochs: epochs)
    if images.isEmpty { training.epochs = epochs }
    training.tokens = count
    training.batch = batch ?? training.batch
    training.accumulation = accumulation
    training.optimizer = optimizer
    training.learningRate = learningRate ?? TrainingOptions.learningRate(train, optimizer)
    training.scaleRate = scaleRate
    training.weightDecay = weightDecay
    training.schedule = schedule
    training.warmup = warmup
    training.finalRate = finalRate
    training.targets = targets ?? request.impliedTargets
    switch divergence {
    case .forward: training.divergence = .forward
    case .reverse: training.divergence = .reverse
    case .jensenShannon: training.divergence = .jensenShannon(beta: beta)
    }
    training.temperature = temperature
    training.divergenceWeight = divergenceWeight
    if images.isEmpty ? labelWeight > 0 : textWeight > 0 {
      throw RecipeError(
        at: tokens.place,
        .refused("text-weight is for texts, label-weight for images"))
    }
    training.textWeight = images.isEmpty ? textWeight : labelWeight
    training.validationWindows = validationWindows ?? training.validationWindows
    training.validations = validations
    training.patience = patience
    training.precision = precision
    training.seed = UInt64(seed)
    request.training = training
    if blockwise {
      var blocks = BlockOptions()
      blocks.passes = passes
      blocks.batch = batch ?? training.batch
      blocks.learningRate = learningRate ?? BlockOptions.learningRate(train)
      blocks.scaleRate = scaleRate
      blocks.optimizer = optimizer
      blocks.seed = UInt64(seed)
      request.blocks = blocks
      request.blockTokens = blockTokens
    }
    do throws(DistillRequestError) {
      try request.check()
    } catch {
      throw RecipeError(at: tokens.place, .refused("\(error)"))
    }
    return request
  }

  /// Files that the stage reads.
  var files: [Located<String>] { logs + text + images + labels }
}

public import ArgumentParser
public import Distillation
import Pipeline
public import Tensors

/// What the student's loss is.
struct DistillLossOptions: ParsableArguments {
  @Option(
    help:
      "What is compared: samples, top-k or top-k-renormalized of a log, full with --teacher, or text alone (default: samples with logs, full with a teacher, else text); of pictures full or labels."
  )
  var targets: DistillationTargets?
  @Option(help: "forward, reverse or jensen-shannon divergence (default: forward).")
  var divergence: DivergenceName?
  @Option(help: "jensen-shannon: the teacher's share of the mixture (default: 0.5).")
  var beta: Double?
  @Option(help: "Temperature of both distributions (default: 1).") var temperature: Double?
  @Option(help: "Weight of the cross-entropy on the text (default: 0).") var textWeight: Double?
  @Option(help: "Weight of the divergence (default: 1).") var divergenceWeight: Double?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Compare streams: behind layer S of the student and T of the teacher, layers from 0.",
      valueName: "S:T[:weight]"))
  var streams: [String] = []
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Compare how tokens relate in queries, keys and values of layer S and T (MiniLM), over R heads.",
      valueName: "S:T:R[:weight]"))
  var relations: [String] = []
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("How much each log or text counts, in their order.", valueName: "weight"))
  var sourceWeights: [Double] = []

  func apply(to request: inout DistillRequest) throws {
    var options = request.training
    options.targets = targets ?? request.impliedTargets
    let beta = beta ?? 0.5
    guard beta > 0, beta < 1 else {
      throw ValidationError("--beta is \(beta); it must lie between 0 and 1")
    }
    if self.beta != nil, divergence != .jensenShannon {
      throw ValidationError("--beta is for --divergence jensen-shannon")
    }
    switch divergence ?? .forward {
    case .forward: options.divergence = .forward
    case .reverse: options.divergence = .reverse
    case .jensenShannon: options.divergence = .jensenShannon(beta: beta)
    }
    options.temperature = temperature ?? 1
    guard options.temperature > 0, options.temperature.isFinite else {
      throw ValidationError("--temperature is \(options.temperature); it must be above 0")
    }
    options.textWeight = textWeight ?? options.textWeight
    options.divergenceWeight = divergenceWeight ?? 1
    let inside = try streams.map(Self.stream) + relations.map(Self.relation)
    options.representations = inside
    for weight in [options.textWeight, options.divergenceWeight] + sourceWeights {
      guard weight >= 0, weight.isFinite else {
        throw ValidationError("a weight is \(weight); it must be 0 or more")
      }
    }
    guard options.textWeight + options.divergenceWeight > 0 || !inside.isEmpty else {
      throw ValidationError("every weight is 0: there is nothing to learn")
    }
    options.sourceWeights = sourceWeights
    request.training = options
  }

  private static func stream(_ text: String) throws -> RepresentationLoss {
    let words = text.split(separator: ":", omittingEmptySubsequences: false)
    guard (2...3).contains(words.count), let student = Int(words[0]), let teacher = Int(words[1]),
      student >= 0, teacher >= 0, let weight = words.count == 3 ? Double(words[2]) : 1,
      weight > 0, weight.isFinite
    else { throw ValidationError("--streams is '\(text)'; it must be S:T or S:T:weight") }
    return .stream(student: student, teacher: teacher, weight: weight)
  }

  private static func relation(_ text: String) throws -> RepresentationLoss {
    let words = text.split(separator: ":", omittingEmptySubsequences: false)
    guard (3...4).contains(words.count), let student = Int(words[0]), let teacher = Int(words[1]),
      let heads = Int(words[2]), student >= 0, teacher >= 0, heads > 0,
      let weight = words.count == 4 ? Double(words[3]) : 1, weight > 0, weight.isFinite
    else { throw ValidationError("--relations is '\(text)'; it must be S:T:R or S:T:R:weight") }
    return .relations(student: student, teacher: teacher, heads: heads, weight: weight)
  }
}

/// A divergence's name on the command line.
enum DivergenceName: String, CaseIterable, ExpressibleByArgument {
  case forward, reverse
  case jensenShannon = "jensen-shannon"
}

/// How long and how a student is trained.
struct TrainingArguments: ParsableArguments {
  @Option(help: ArgumentHelp("Tokens to train on (default: 2M).", valueName: "count"))
  var tokens: String?
  @Option(help: "Tokens of a window of text; a log has its own (default: 256).") var context: Int?
  @Option(help: "Windows that run through the network at once (default: 8; of pictures: 64).")
  var batch: Int?
  @Option(help: "Batches whose gradients add up to one step (default: 1).") var accumulation: Int?
  @Option(help: "adamw, lion or muon (default: adamw).") var optimizer: OptimizerName?
  @Option(
    help: "Peak learning rate (default: 0.001; scales 0.005, quantized 0.0003; lion a fifth).")
  var learningRate: Double?
  @Option(help: "Learning rate of steps and zero points, as a multiple (default: 1).")
  var scaleRate: Double?
  @Option(help: "Weight decay, times the learning rate (default: 0).") var weightDecay: Double?
  @Option(help: "Longest gradient; 0 does not clip (default: 1).") var clip: Double?
  @Option(help: "Learning rate over the run: cosine, wsd or constant (default: cosine).")
  var schedule: LearningRateSchedule.Shape?
  @Option(help: "Share of the steps in which the rate rises (default: 0.05).") var warmup: Double?
  @Option(help: "Last learning rate, as a share of the peak (default: 0.1).")
  var finalRate: Double?
  @Option(help: "adapters: rank (default: 16).") var rank: Int?
  @Option(help: "adapters: the factors' product counts alpha / rank (default: the rank).")
  var alpha: Double?
  @Option(help: "Windows kept for validation (default: 64; of pictures: 512).")
  var validationWindows: Int?
  @Option(help: "Validations of a run (default: 10).") var validations: Int?
  @Option(help: "Stop after so many validations without a better one (default: never).")
  var patience: Int?
  @Option(help: "What factors of products are rounded to: float32 or bfloat16 (default: float32).")
  var precision: ProductPrecision?
  @Flag(help: "Compute branches again in the backward pass: less memory, a third more time.")
  var recompute = false
  @Option(help: "Of batches and new parameters (default: 0).") var seed: Int?

  /// Options that are given and that tuning by blocks does not read.
  var unusedByBlocks: [String] {
    let given: [(String, Bool)] = [
      ("--tokens", tokens != nil), ("--accumulation", accumulation != nil),
      ("--weight-decay", weightDecay != nil), ("--clip", clip != nil),
      ("--schedule", schedule != nil), ("--warmup", warmup != nil),
      ("--final-rate", finalRate != nil), ("--validation-windows", validationWindows != nil),
      ("--validations", validations != nil), ("--patience", patience != nil),
      ("--recompute", recompute),
    ]
    return given.filter { $0.1 }.map { $0.0 }
  }

  func apply(to request: inout DistillRequest) throws {
    var options = request.training
    if let tokens {
      guard let count = ByteSize.parse(tokens), count > 0 else {
        throw ValidationError("--tokens is '\(tokens)'; it must be a number such as 2M")
      }
      options.tokens = count
    }
    func check(_ name: String, _ value: Int?, _ range: ClosedRange<Int>) throws {
      guard let value, !range.contains(value) else { return }
      throw ValidationError(
        "--\(name) is \(value); it must be \(range.lowerBound) to \(range.upperBound)")
    }
    try check("context", context, 2...1 << 20)
    try check("batch", batch, 1...1 << 16)
    try check("accumulation", accumulation, 1...1 << 16)
    try check("validation-windows", validationWindows, 1...1 << 20)
    try check("validations", validations, 1...1 << 16)
    try check("patience", patience, 1...1 << 16)
    try check("rank", rank, 1...4096)
    try check("seed", seed, 0...Int.max)
    for (name, value, isZeroAllowed) in [
      ("learning-rate", learningRate, false), ("scale-rate", scaleRate, false),
      ("weight-decay", weightDecay, true), ("clip", clip, true), ("alpha", alpha, false),
    ] {
      guard let value, !(value.isFinite && (value > 0 || isZeroAllowed && value == 0)) else {
        continue
      }
      throw ValidationError(
        "--\(name) is \(value); it must be \(isZeroAllowed ? "0 or more" : "above 0")")
    }
    for (name, value) in [("warmup", warmup), ("final-rate", finalRate)] {
      if let value, !(0...1).contains(value) {
        throw ValidationError("--\(name) is \(value); it must be 0 to 1")
      }
    }
    options.batch = batch ?? options.batch
    options.accumulation = accumulation ?? options.accumulation
    options.optimizer = optimizer ?? options.optimizer
    options.learningRate =
      learningRate ?? TrainingOptions.learningRate(request.parts, options.optimizer)
    options.scaleRate = scaleRate ?? options.scaleRate
    options.weightDecay = weightDecay ?? options.weightDecay
    if let clip { options.clip = clip > 0 ? clip : nil }
    options.schedule = schedule ?? options.schedule
    options.warmup = warmup ?? options.warmup
    options.finalRate = finalRate ?? options.finalRate
    options.validationWindows = validationWindows ?? options.validationWindows
    options.validations = validations ?? options.validations
    options.patience = patience
    options.precision = precision ?? options.precision
    options.recomputes = recompute
    options.seed = UInt64(seed ?? 0)
    request.training = options
    request.context = context ?? request.context
    request.rank = rank ?? request.rank
    request.alpha = alpha
  }
}

extension DistillationTargets: ExpressibleByArgument {}
extension ProductPrecision: ExpressibleByArgument {}
extension OptimizerName: ExpressibleByArgument {}
extension LearningRateSchedule.Shape: ExpressibleByArgument {}

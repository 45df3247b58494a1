import JSONDocuments
public import ArgumentParser
import Bundles
import Encodings
import Pipeline
import Pruning
public import Quantization

struct Quantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Store weights as integers of a few bits.",
    discussion: """
      ENCODING is intB-gN or intB-channel with B from 2 to 8 and N one of 16, 32, 64, 128, 256, and -sym \
      for grids without zero points; fp8-gN, fp8-channel, nf4-gN, nf4-channel; w8a8, whose products \
      round activations to 8 bits too; or a block type of llama.cpp. \
      A plain ENCODING is for the linear layers of all branches; \
      PATTERN=ENCODING is for the weights whose names match, embeddings and heads included, and \
      PATTERN=copy leaves them as they are. An interrupted run resumes when the same command runs again.
      """)

  @Argument(help: "A checkpoint folder or a bundle.") var input: String
  @Argument(help: "The checkpoint folder to write.") var output: String
  @Option(help: "rtn, gptq, qronos, awq, smoothquant or ec.") var method = QuantizationMethod.gptq
  @Option(help: "Stored bits over weights of all that is encoded, 1 to 8, such as 2.75.")
  var bits: Double?
  @Option(
    help: ArgumentHelp(
      "Bytes of the whole packed file, such as 9MB; tensors share them by what the model feels of each.",
      valueName: "size"))
  var budget: String?
  @Option(
    name: .customLong("max-kl"),
    help: ArgumentHelp(
      "The fewest bytes with at most this mean KL divergence (encoders: 1 less the mean cosine) on calibration text that was held out.",
      valueName: "nats"))
  var maxKL: Double?
  @Option(help: "ec: the fewest bits with at most this relative output error in each layer.")
  var maxError: Double?
  @Option(
    help: "ec: rates by what the model feels of each tensor, or all the same (default: measured).")
  var rates: RateChoice?
  @Flag(
    inversion: .prefixedNo,
    help:
      "ec: outputs count by what the loss feels of them, which one backward pass tells (default: for language models)."
  )
  var curvature: Bool?
  @Flag(help: "Tensors that read the same inputs share the encoding chosen from a list.")
  var tieGroups = false
  @Option(
    help: ArgumentHelp(
      "A file for what each tensor was measured to cost: read where it exists, written where not.",
      valueName: "file.json"))
  var sensitivities: String?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "What becomes of the weights; ec alone need not be named. Several with commas are a list to choose from.",
      valueName: "[pattern=]encoding"))
  var encoding: [String] = []
  @Option(
    help: ArgumentHelp(
      "A file of llama-imatrix with the importance of each input, for rtn without calibration text.",
      valueName: "file.gguf"))
  var imatrix: String?
  @Option(
    help: "gptq, qronos: share of H's mean diagonal that is added to the diagonal (default: 0.01).")
  var damping: Double?
  @Option(help: "gptq, qronos: columns updated at once (default: 128).") var blockSize: Int?
  @Flag(
    inversion: .prefixedNo,
    help: "gptq, qronos: columns with the largest activations first (default: yes).")
  var actOrder: Bool?
  @Option(
    help: ArgumentHelp(
      "Mix channels by random Hadamard matrices before anything is quantized: all of the residual stream (a tied head gets a matrix of its own) and of the values' heads, or of the heads alone.",
      valueName: "all|heads"))
  var rotate: Rotation?
  @Option(
    help: ArgumentHelp(
      "smoothquant: share of the activations' range that goes into the weights (default: 0.5).",
      valueName: "share"))
  var smoothing: Double?
  @Option(help: "How grids are chosen: mse or minmax (default: mse).") var grid: GridSearch?
  @Option(
    help:
      "gptq: share of the branches' weights that become zero in the same pass, such as 0.5; N:M says it itself."
  )
  var sparsity: Double?
  @Option(help: "gptq: where those zeros may lie: unstructured, N:M such as 2:4, or 1xB.")
  var pattern: String?
  @Option(
    help: "gptq: how they are chosen: magnitude, wanda, sparsegpt or alps (default: alps).")
  var pruning: PruningMethod?
  @Flag(
    inversion: .prefixedNo,
    help: "gptq, qronos, ec: what is zero stays zero (default: where the input was pruned).")
  var keepZeros: Bool?
  @Option(
    help: ArgumentHelp(
      "Beside each matrix of codes two thin factors of this rank, which take up the largest part of its error (EoRA).",
      valueName: "rank"))
  var repairRank: Int?
  @Flag(
    inversion: .prefixedNo,
    help: "Each group of layers sees its inputs as the groups before it left them (default: yes).")
  var trueSequential: Bool?
  @Flag(
    help:
      "Say how many bits above the rate–distortion limit each layer is (eigenvalues of its statistics)."
  )
  var limit = false
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to measure the drift on, which becomes drift.json of the output.", valueName: "file"))
  var validation: [String] = []
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print the layer table as one JSON document.") var json = false
  @OptionGroup(title: "Calibration") var text: CalibrationArguments
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    if let damping, damping < 0 || !damping.isFinite {
      throw ValidationError("--damping is \(damping); it must be 0 or more")
    }
    if let blockSize, !(1...1 << 16).contains(blockSize) {
      throw ValidationError("--block-size is \(blockSize); it must be 1 to 65536")
    }
    if let smoothing, !(0...1).contains(smoothing) {
      throw ValidationError("--smoothing is \(smoothing); it must be 0 to 1")
    }
    try refuseUnused()
    try validateRepair()
    try validatePruning()
    guard imatrix == nil || (method == .rtn && !text.isGiven) else {
      throw ValidationError("--imatrix is for --method rtn without --calibration")
    }
    guard !method.needsCalibration || text.isGiven else {
      throw ValidationError("--method \(method.rawValue) needs --calibration FILE")
    }
    guard method == .ec || !encoding.isEmpty else {
      throw ValidationError("--encoding ENCODING is missing: what should the linear layers become?")
    }
    try validateGoal()
  }

  private func validateRepair() throws {
    guard let repairRank else { return }
    guard (1...LowRank.largestRank).contains(repairRank) else {
      throw ValidationError(
        "--repair-rank is \(repairRank); it must be 1 to \(LowRank.largestRank)")
    }
    if method == .ec || method == .smoothquant {
      throw ValidationError(
        "--repair-rank does nothing with --method \(method.rawValue); it is for rtn, gptq, qronos and awq"
      )
    }
    if sparsity != nil || pattern != nil || keepZeros == true {
      throw ValidationError("--repair-rank fills zeros; it does not go with options that keep them")
    }
  }

  private func validatePruning() throws {
    if keepZeros != nil, method != .gptq, method != .qronos, method != .ec {
      throw ValidationError(
        "--keep-zeros does nothing with --method \(method.rawValue); it is for gptq, qronos and ec")
    }
    guard sparsity != nil || pattern != nil else {
      if pruning != nil {
        throw ValidationError("--pruning does nothing without --sparsity or --pattern")
      }
      return
    }
    guard method == .gptq else {
      throw ValidationError("--sparsity and --pattern are for --method gptq")
    }
    if keepZeros != nil {
      throw ValidationError("--keep-zeros does nothing with --sparsity or --pattern: zeros stay")
    }
    do throws(SparsityRuleError) {
      _ = try zeros()
    } catch {
      throw ValidationError("\(error)")
    }
  }

  /// How weights become zero; nil when they do not.
  private func zeros() throws(SparsityRuleError) -> WeightPruning? {
    guard sparsity != nil || pattern != nil else { return nil }
    let name = pattern ?? "unstructured"
    guard let places = SparsityPattern(name) else { throw .unknownPattern(name) }
    var pruning = try WeightPruning(
      method: pruning ?? .alps, pattern: places, sparsity: sparsity)
    pruning.damping = damping ?? pruning.damping
    return pruning
  }

  private func validateGoal() throws {
    let goals = [
      ("--bits", bits != nil), ("--budget", budget != nil), ("--max-kl", maxKL != nil),
      ("--max-error", maxError != nil),
    ].filter { $0.1 }.map(\.0)
    guard goals.count <= 1 else {
      throw ValidationError("\(goals.joined(separator: " and ")) exclude each other")
    }
    if method == .ec, goals.isEmpty {
      throw ValidationError(
        "--method ec needs a goal: --bits such as 2.75, --budget, --max-kl or --max-error")
    }
    let chooses = encoding.contains { $0.contains(",") }
    if let goal = goals.first, method != .ec, !chooses {
      throw ValidationError(
        "\(goal) does nothing with --method \(method.rawValue) and one encoding; it is for ec, or for a list "
          + "such as --encoding int3-g64,int4-g64")
    }
    if chooses, goals.isEmpty || maxError != nil {
      throw ValidationError(
        "a list of encodings needs a goal to choose by: --bits, --budget or --max-kl")
    }
    if chooses, !text.isGiven {
      throw ValidationError("a list of encodings needs --calibration FILE to choose by")
    }
    if let bits, !(1...8).contains(bits) {
      throw ValidationError("--bits is \(bits); it must be 1 to 8")
    }
    if let maxKL, !(maxKL > 0 && maxKL.isFinite) {
      throw ValidationError("--max-kl is \(maxKL); it must be greater than 0")
    }
    if let maxError, !(maxError > 0 && maxError < 1) {
      throw ValidationError("--max-error is \(maxError); it must lie between 0 and 1")
    }
    if let budget, ByteSize.parse(budget).map({ $0 > 0 }) != true {
      throw ValidationError("--budget '\(budget)' is no size such as 9MB or 9437184")
    }
    let unused: [(String, Bool)] = [
      ("--rates", rates != nil && (method != .ec || bits == nil)),
      ("--curvature", curvature != nil && method != .ec),
      ("--tie-groups", tieGroups && !chooses),
      ("--sensitivities", sensitivities != nil && !(measuresSensitivities(chooses))),
    ]
    if let option = unused.first(where: { $0.1 }) {
      throw ValidationError("\(option.0) does nothing with these options")
    }
  }

  /// Whether sensitivities are measured.
  private func measuresSensitivities(_ chooses: Bool) -> Bool {
    chooses || budget != nil || maxKL != nil || (bits != nil && rates != .equal && method == .ec)
  }

  private var goal: ModelGoal? {
    if let bits { return .bits(bits) }
    if let budget { return ByteSize.parse(budget).map { .budget($0) } }
    if let maxKL { return .drift(maxKL) }
    return maxError.map { .error($0) }
  }

  private var rules: [EncodingRule] {
    get throws {
      let own = try encoding.map { try EncodingRule($0) }
      let isNamed = method != .ec || own.contains { $0.pattern == nil }
      return isNamed ? own : [try EncodingRule("ec")] + own
    }
  }

  /// An option that would do nothing is a mistake of the caller.
  private func refuseUnused() throws {
    let ofGPTQ: [(String, Bool)] = [
      ("--damping", damping != nil), ("--block-size", blockSize != nil),
      ("--act-order", actOrder != nil),
    ]
    if method != .gptq, method != .qronos, let option = ofGPTQ.first(where: { $0.1 }) {
      throw ValidationError(
        "\(option.0) does nothing with --method \(method.rawValue); it is for gptq and qronos")
    }
    if smoothing != nil, method != .smoothquant {
      throw ValidationError(
        "--smoothing does nothing with --method \(method.rawValue); it is for smoothquant")
    }
    try text.refuseUnused(
      seedHasUse: rotate != nil,
      others: [("--limit", limit), ("--true-sequential", trueSequential != nil)])
  }

  func run() throws {
    let progress = common.start()
    var request = QuantizeRequest(
      method: method, rules: try rules,
      calibration: text.request)
    request.goal = goal
    request.rates = rates ?? request.rates
    request.usesCurvature = curvature
    request.tiesGroups = tieGroups
    request.sensitivities = sensitivities
    request.measuresLimit = limit
    request.damping = damping ?? request.damping
    request.blockSize = blockSize ?? request.blockSize
    request.actOrder = actOrder ?? request.actOrder
    request.rotation = rotate
    request.rotationSeed = text.seed ?? 0
    request.smoothing = smoothing ?? request.smoothing
    request.search = grid ?? request.search
    request.trueSequential = trueSequential ?? request.trueSequential
    request.imatrix = imatrix
    request.pruning = try zeros()
    request.keepsZeros = keepZeros
    request.repairRank = repairRank
    if !request.usesGrids,
      let option = grid != nil ? "--grid" : actOrder != nil ? "--act-order" : nil
    {
      throw ValidationError(
        "\(option) does nothing here: it is for group integers such as int4-g32")
    }
    let checkpoint = try source.open(input)
    let stage = QuantizeRun(input: checkpoint, request: request)
    let measure =
      validation.isEmpty
      ? nil
      : try StageMeasurement(
        ValidationText(text: validation, context: text.context), reference: checkpoint)
    var drift: MeasuredDrift?
    let table = LayerTable(isQuiet: common.quiet || json)
    let result = try stage.run(
      output: output, force: force, hasDrift: measure != nil,
      complete: { drift = try measure?.writeDrift(of: $0) { progress.show("measure", $0) } },
      progress: progress.show, finished: { table.add($0, seconds: $1) })
    if json {
      Terminal.print(LayerTable.json(result, drift: drift).indentedText)
    } else if !common.quiet {
      table.finish(result, output: output)
      if let drift { Terminal.print(Eval.table(drift)) }
    }
    Self.warn(result.requantized, input: input)
    let fallbacks = result.layers.reduce(0) { $0 + $1.fallbacks }
    guard fallbacks == 0 else {
      Terminal.printError("\(output): \(fallbacks) fallbacks (none is allowed); see lineage.json")
      throw ExitCode(ExitStatus.answerIsNo)
    }
  }
}

extension Quantize {
  /// A word on weights that were quantized before: what they lost then is not in any figure of this stage.
  static func warn(_ requantized: [(tensor: String, encoding: String)], input: String) {
    guard let first = requantized.first else { return }
    let names = Set(requantized.map(\.encoding)).sorted().joined(separator: ", ")
    Terminal.printError(
      "warning: \(input): \(requantized.count) weights (first '\(first.tensor)') were quantized before, as "
        + "\(names); errors and drift are measured against those, and what was lost then is lost on top: "
        + "quantize the original instead")
  }
}

extension QuantizationMethod: ExpressibleByArgument {}
extension GridSearch: ExpressibleByArgument {}
extension RateChoice: ExpressibleByArgument {}
extension Rotation: ExpressibleByArgument {}

public import ArgumentParser
import Encodings
import JSONDocuments
public import Pipeline
public import Pruning

struct Prune: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make weights zero, or the model smaller.",
    discussion: """
      PATTERN is unstructured, N:M (at most N of M consecutive inputs stay, such as 2:4 or 4:8) or 1xB \
      (blocks of B inputs go together, such as 1x16). The goal is for the linear layers of all branches; \
      NAMES=SPARSITY, NAMES=PATTERN and NAMES=copy are for the weights whose names match, embeddings and heads \
      included. Weights that are zero already stay zero and count. The sparsity is reached to the weight. \
      An interrupted run resumes when the same command runs again. \
      With --target-parameters, --heads, --ffn, --width or --layers whole parts of the network go instead, and the \
      result is an ordinary smaller model; --branches takes single attentions and MLPs, which no ordinary model lacks. \
      --filters makes networks over pictures smaller.
      """)

  @Argument(help: "A checkpoint folder or a bundle.") var input: String
  @Argument(help: "The checkpoint folder to write.") var output: String
  @Option(
    name: .customLong("method"),
    help:
      "magnitude, wanda, sparsegpt or alps; or svd, which makes each matrix a product of two thin ones (default: sparsegpt)."
  )
  var askedMethod: PruneMethod?
  @Option(help: "svd: share of the squares of singular values that stays, such as 0.95.")
  var energy: Double?
  @Option(help: "svd: rank of each matrix, as a share of its smaller side.")
  var rankRatio: Double?
  @Option(
    help: ArgumentHelp(
      "svd: bytes of the result's weights, such as 15MB; all matrices keep the largest energy that fits.",
      valueName: "bytes"))
  var budget: String?
  @Option(help: "Share of the weights that become zero, such as 0.5; N:M says it itself.")
  var sparsity: Double?
  @Option(help: "Where zeros may lie: unstructured, N:M or 1xB (default: unstructured).")
  var pattern: String?
  @Option(
    help:
      "How tensors share the zeros: uniform, owl (by outliers of each layer) or measured (by what the model feels of each) (default: uniform)."
  )
  var allocation: SparsityAllocation?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Other goals by tensor name, * for any run of characters; the last match counts.",
      valueName: "names=goal"))
  var tensors: [String] = []
  @Option(
    help:
      "sparsegpt, alps, and fits behind a cut: share of H's mean diagonal that is added to the diagonal (default: 0.01)."
  )
  var damping: Double?
  @Option(help: "sparsegpt: columns whose masks are chosen together (default: 128).")
  var blockSize: Int?
  @Option(
    help:
      "wanda: swap at most so many removed weights of a row against kept ones while its error falls (DSnoT) (default: 0)."
  )
  var swaps: Int?
  @Flag(
    inversion: .prefixedNo,
    help:
      "sparsegpt, alps: towards the outputs of the original model, which the pruned layers before no longer give (default: yes)."
  )
  var correction: Bool?
  @Flag(
    inversion: .prefixedNo,
    help: "Each group of layers sees its inputs as the groups before it left them (default: yes).")
  var trueSequential: Bool?
  @Flag(help: "Store the zeros, so that other programs read the folder as it is.")
  var dense = false
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to measure the drift on, which becomes drift.json of the output.", valueName: "file"))
  var validation: [String] = []
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print the layer table as one JSON document.") var json = false
  @OptionGroup(title: "Smaller models") var structure: StructureOptions
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
    try structure.validate(damping: damping, hasCalibration: text.isGiven)
    if structure.isAsked {
      try refuseUnused()
      return
    }
    if let budget, ByteSize.parse(budget) ?? 0 < 1 {
      throw ValidationError("--budget is '\(budget)'; it must be a number of bytes such as 15MB")
    }
    if !isLowRank, energy != nil || rankRatio != nil || budget != nil {
      throw ValidationError("--energy, --rank-ratio and --budget are for --method svd")
    }
    if isLowRank {
      guard text.isGiven else {
        throw ValidationError("--method svd needs --calibration FILE")
      }
      guard damping != 0 else { throw ValidationError("--damping must be greater than 0 for svd") }
      _ = try rank()
      try refuseUnused()
      return
    }
    guard !method.needsCalibration || text.isGiven else {
      throw ValidationError("--method \(method.rawValue) needs --calibration FILE")
    }
    if let swaps, swaps < 0 {
      throw ValidationError("--swaps is \(swaps); it must not be negative")
    }
    guard allocation == nil || allocation == .uniform || text.isGiven else {
      throw ValidationError("--allocation \(allocation?.rawValue ?? "") needs --calibration FILE")
    }
    try refuseUnused()
    do throws(SparsityRuleError) {
      _ = try weights()
    } catch {
      throw ValidationError("\(error)")
    }
  }

  private var method: PruningMethod { askedMethod?.zeros ?? .sparsegpt }
  private var isLowRank: Bool { askedMethod == .svd && !structure.isAsked }

  private func rank() throws -> LowRankPruning {
    do throws(LowRankError) {
      var rank = try LowRankPruning(
        energy: energy, ratio: rankRatio, budget: budget.flatMap { ByteSize.parse($0) })
      rank.damping = damping ?? rank.damping
      return rank
    } catch {
      throw ValidationError("\(error)")
    }
  }

  /// An option that would do nothing is a mistake of the caller.
  private func refuseUnused() throws {
    if structure.isAsked || isLowRank { return try refuseOptionsOfWeights() }
    if blockSize != nil, method != .sparsegpt {
      throw ValidationError(
        "--block-size does nothing with --method \(method.rawValue); it is for sparsegpt")
    }
    if swaps != nil, method != .wanda {
      throw ValidationError(
        "--swaps does nothing with --method \(method.rawValue); it is for wanda")
    }
    let ofUpdates: [(String, Bool)] = [
      ("--damping", damping != nil), ("--correction", correction != nil),
    ]
    if !method.updatesWeights, let option = ofUpdates.first(where: { $0.1 }) {
      throw ValidationError(
        "\(option.0) does nothing with --method \(method.rawValue), which leaves the other weights as they are"
      )
    }
    try text.refuseUnused(others: [("--true-sequential", trueSequential != nil)])
  }

  /// Options of single weights, where the result is a smaller model.
  private func refuseOptionsOfWeights() throws {
    let others: [(String, Bool)] = [
      ("--method", structure.isAsked && askedMethod != nil),
      ("--energy", structure.isAsked && energy != nil),
      ("--rank-ratio", structure.isAsked && rankRatio != nil),
      ("--budget", structure.isAsked && budget != nil), ("--sparsity", sparsity != nil),
      ("--pattern", pattern != nil), ("--allocation", allocation != nil),
      ("--tensors", !tensors.isEmpty), ("--block-size", blockSize != nil),
      ("--correction", correction != nil), ("--swaps", swaps != nil), ("--dense", dense),
      ("--true-sequential", trueSequential != nil),
    ]
    if let option = others.first(where: { $0.1 }) {
      throw ValidationError(
        "\(option.0) is for single weights; here whole matrices or parts of the model change")
    }
    try text.refuseUnused()
  }

  private func weights() throws(SparsityRuleError) -> WeightPruning {
    let name = pattern ?? "unstructured"
    guard let zeros = SparsityPattern(name) else { throw .unknownPattern(name) }
    var weights = try WeightPruning(method: method, pattern: zeros, sparsity: sparsity)
    for rule in tensors { weights.rules.append(try SparsityRule(rule)) }
    weights.allocation = allocation ?? weights.allocation
    try weights.checkAllocation()
    weights.damping = damping ?? weights.damping
    weights.blockSize = blockSize ?? weights.blockSize
    weights.swaps = swaps ?? weights.swaps
    weights.correctsDrift = correction ?? weights.correctsDrift
    weights.trueSequential = trueSequential ?? weights.trueSequential
    weights.storesZeros = dense
    return weights
  }

  /// What is removed.
  private func target() throws -> PruneRequest.Target {
    if let filters = try structure.filterRequest(damping: damping) { return .filters(filters) }
    if structure.isAsked { return .structure(try structure.request(damping: damping)) }
    return isLowRank ? .rank(try rank()) : .weights(try weights())
  }

  func run() throws {
    let progress = common.start()
    let request = PruneRequest(try target(), calibration: text.request)
    let checkpoint = try source.open(input)
    let stage = PruneRun(input: checkpoint, request: request)
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
    let fallbacks = result.layers.reduce(0) { $0 + $1.fallbacks }
    guard fallbacks == 0 else {
      Terminal.printError("\(output): \(fallbacks) fallbacks (none is allowed); see lineage.json")
      throw ExitCode(ExitStatus.answerIsNo)
    }
  }
}

extension PruneMethod: ExpressibleByArgument {}
extension PruningMethod: ExpressibleByArgument {}
extension SparsityAllocation: ExpressibleByArgument {}

import JSONDocuments
public import ArgumentParser
import Bundles
import Pipeline
public import Quantization

struct Quantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Store weights as integers of a few bits.",
    discussion: """
      ENCODING is intB-gN or intB-channel with B from 2 to 8 and N one of 16, 32, 64, 128, 256, and -sym \
      for grids without zero points. A plain ENCODING is for the linear layers of all branches; \
      PATTERN=ENCODING is for the weights whose names match, embeddings and heads included, and \
      PATTERN=copy leaves them as they are. An interrupted run resumes when the same command runs again.
      """)

  @Argument(help: "A checkpoint folder or a bundle.") var input: String
  @Argument(help: "The checkpoint folder to write.") var output: String
  @Option(help: "rtn or gptq.") var method = QuantizationMethod.gptq
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("What becomes of the weights.", valueName: "[pattern=]encoding"))
  var encoding: [String]
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Calibration text; encoders read a sentence a line.", valueName: "file"))
  var calibration: [String] = []
  @Option(
    help: ArgumentHelp(
      "A file of llama-imatrix with the importance of each input, for rtn without calibration text.",
      valueName: "file.gguf"))
  var imatrix: String?
  @Option(help: "Calibration tokens.") var tokens = 65536
  @Option(help: "Tokens of a calibration window.") var context = 256
  @Option(help: "Of the choice of calibration windows.") var seed = 0
  @Option(help: "gptq: share of H's mean diagonal that is added to the diagonal.")
  var damping = 0.01
  @Option(help: "gptq: columns updated at once.") var blockSize = 128
  @Flag(inversion: .prefixedNo, help: "gptq: columns with the largest activations first.")
  var actOrder = true
  @Option(help: "How grids are chosen: mse or minmax.") var grid = GridSearch.mse
  @Flag(
    inversion: .prefixedNo,
    help: "Each group of layers sees its inputs as the groups before it left them.")
  var trueSequential = true
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to measure the drift on, which becomes drift.json of the output.", valueName: "file"))
  var validation: [String] = []
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print the layer table as one JSON document.") var json = false
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard tokens >= 1 else { throw ValidationError("--tokens is \(tokens); it must be at least 1") }
    guard (1...1 << 20).contains(context) else {
      throw ValidationError("--context is \(context); it must be 1 to 1048576")
    }
    guard seed >= 0 else { throw ValidationError("--seed is \(seed); it must not be negative") }
    guard damping >= 0, damping.isFinite else {
      throw ValidationError("--damping is \(damping); it must be 0 or more")
    }
    guard (1...1 << 16).contains(blockSize) else {
      throw ValidationError("--block-size is \(blockSize); it must be 1 to 65536")
    }
    guard imatrix == nil || (method == .rtn && calibration.isEmpty) else {
      throw ValidationError("--imatrix is for --method rtn without --calibration")
    }
    guard method != .gptq || !calibration.isEmpty else {
      throw ValidationError("--method gptq needs --calibration FILE")
    }
  }

  func run() throws {
    let progress = common.start()
    var request = QuantizeRequest(
      method: method, rules: try encoding.map { try EncodingRule($0) },
      calibration: calibration.isEmpty
        ? nil
        : CalibrationRequest(text: calibration, tokens: tokens, context: context, seed: seed))
    request.damping = damping
    request.blockSize = blockSize
    request.actOrder = actOrder
    request.search = grid
    request.trueSequential = trueSequential
    request.imatrix = imatrix
    let checkpoint = try source.open(input)
    let stage = QuantizeRun(input: checkpoint, request: request)
    let measure =
      validation.isEmpty
      ? nil
      : try StageMeasurement(
        ValidationText(text: validation, context: context), reference: checkpoint)
    var drift: MeasuredDrift?
    let table = LayerTable(isQuiet: common.quiet || json)
    table.start()
    let result = try stage.run(
      output: output, force: force,
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

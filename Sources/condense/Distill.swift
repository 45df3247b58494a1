public import ArgumentParser
public import Distillation
import JSONDocuments
import Pipeline

struct Distill: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a student on what a teacher said.",
    discussion: """
      The teacher speaks through a log (condense teacher-log), which any number of runs read, or runs beside the \
      student (--teacher). The state with the least validation divergence is kept; where none is better than the \
      input, nothing is written and the status is 1. An interrupted run goes on when the same command runs again, and \
      ends in the same bytes.
      """)

  @Argument(help: "The student: a checkpoint folder or a bundle.") var student: String
  @Argument(help: "The checkpoint folder to write.") var output: String
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Teacher logs to learn from.", valueName: "log.h5"))
  var logs: [String] = []
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Text to learn from, where there are no logs.", valueName: "file"))
  var text: [String] = []
  @OptionGroup(title: "Networks over pictures") var samples: SampleTrainingOptions
  @Option(help: ArgumentHelp("A teacher that runs beside the student.", valueName: "checkpoint"))
  var teacher: String?
  @Option(help: "What is trained: all, adapters, scales or quantized (default: all).")
  var train = TrainedParts.all
  @Option(
    help:
      "quantized: the encoding that float weights of the branches are trained in, such as int2-g64 or TQ2_0."
  )
  var encoding: String?
  @OptionGroup(title: "Loss") var loss: DistillLossOptions
  @OptionGroup(title: "Training") var training: TrainingArguments
  @Flag(
    help:
      "Tune each block to give what the teacher's gives, one after the other, instead of training the whole."
  )
  var blockwise = false
  @Option(help: "blockwise: tokens of the text that are used (default: 32768).")
  var blockTokens: Int?
  @Option(help: "blockwise: passes over them for each block (default: 8).") var passes: Int?
  @Option(help: "How the student starts: input or random (default: input).")
  var start = StudentStart.input
  @Option(
    help: ArgumentHelp(
      "A config.json with fewer layers, for which the input's layers are taken evenly.",
      valueName: "file"))
  var studentConfig: String?
  @Flag(help: "Weights that are zero stay zero (of sparse encodings they always do).")
  var keepZeros = false
  @Option(
    help: ArgumentHelp("Write the loss curve as a table while it grows.", valueName: "file.csv"))
  var curve: String?
  @Option(
    help: ArgumentHelp("Write the loss curve as event files of TensorBoard.", valueName: "folder"))
  var tensorboard: String?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to measure the drift on, from the teacher or else from the input; becomes drift.json.",
      valueName: "file"))
  var validation: [String] = []
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    _ = try request()
  }

  private func request() throws -> DistillRequest {
    var request = DistillRequest()
    request.logs = logs
    request.text = text
    request.teacher = teacher
    request.parts = train
    request.encoding = encoding
    request.keepsZeros = keepZeros
    request.start = start
    request.studentConfiguration = studentConfig
    try samples.apply(to: &request)
    try training.apply(to: &request)
    try loss.apply(to: &request)
    try samples.finish(&request, training, loss)
    if train != .adapters, training.rank != nil || training.alpha != nil {
      throw ValidationError("--rank and --alpha are for --train adapters")
    }
    if train != .scales, train != .quantized, training.scaleRate != nil {
      throw ValidationError("--scale-rate is for --train scales or quantized")
    }
    if blockwise {
      if let option = training.unusedByBlocks.first {
        throw ValidationError(
          "\(option) does nothing with --blockwise; see --block-tokens and --passes")
      }
      var blocks = BlockOptions()
      blocks.passes = passes ?? blocks.passes
      blocks.batch = training.batch ?? blocks.batch
      blocks.learningRate = training.learningRate ?? BlockOptions.learningRate(train)
      blocks.scaleRate = training.scaleRate ?? blocks.scaleRate
      blocks.optimizer = training.optimizer ?? blocks.optimizer
      blocks.seed = UInt64(training.seed ?? 0)
      guard blocks.passes > 0, (blockTokens ?? 1) > 0 else {
        throw ValidationError("--passes and --block-tokens must be at least 1")
      }
      request.blocks = blocks
      request.blockTokens = blockTokens ?? request.blockTokens
    } else if blockTokens != nil || passes != nil {
      throw ValidationError("--block-tokens and --passes are for --blockwise")
    }
    do throws(DistillRequestError) {
      try request.check()
    } catch {
      throw ValidationError("\(error)")
    }
    return request
  }

  func run() throws {
    let progress = common.start()
    let request = try request()
    let checkpoint = try source.open(student)
    let stage = DistillRun(input: checkpoint, request: request)
    let measure =
      validation.isEmpty
      ? nil
      : try StageMeasurement(
        ValidationText(text: validation, context: training.context ?? 256),
        reference: teacher.map { try source.open($0) } ?? checkpoint)
    var drift: MeasuredDrift?
    let files = try LossCurveFiles(csv: curve, tensorboard: tensorboard)
    let table = CurveTable(
      isQuiet: common.quiet || json, options: request.training,
      hasLabels: request.images.isEmpty ? nil : !request.labels.isEmpty)
    let result = try stage.run(
      output: output, force: force,
      complete: { drift = try measure?.writeDrift(of: $0) { progress.show("measure", $0) } },
      progress: progress.show,
      trained: { report in
        try files.add(report.curve)
        table.add(report)
        progress.show(
          "distill", Double(report.step) / Double(report.steps), detail: table.detail(report))
      }, finished: table.add)
    guard let result else {
      if !common.quiet { progress.note("\(output): finished before") }
      return
    }
    if json {
      Terminal.print(CurveTable.json(result, drift: drift).indentedText)
    } else if !common.quiet {
      table.finish(result, output: output)
      if let drift { Terminal.print(Eval.table(drift)) }
    }
  }
}

extension TrainedParts: ExpressibleByArgument {}
extension StudentStart: ExpressibleByArgument {}

import ArgumentParser
import JSONDocuments
import Networks
import Pipeline

struct TeacherLogCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "teacher-log",
    abstract: "Log what a teacher predicts on a text, for distillation and for measuring.",
    discussion: """
      One HDF5 file with, for each token: the log-probability of the true next token, the most probable tokens, \
      samples of the whole distribution, log-sum-exp and entropy. docs/teacher-logs.md specifies it. An interrupted \
      run goes on when the same command runs again, and ends in the same bytes.

      The answers of a server, as condense collect or a batch wrote them, are aligned to a student's tokenizer: \
      condense teacher-log LOG.h5 --from-api ANSWERS.jsonl --student MODEL
      """)

  @Argument(
    help: ArgumentHelp(
      "The teacher, a checkpoint folder or a bundle (not with --from-api), and the log to write.",
      valueName: "teacher> <log.h5"))
  var paths: [String]
  @OptionGroup(title: "Input") var source: InputOptions
  @Option(
    name: .long, parsing: .upToNextOption,
    help: ArgumentHelp("Text to log on.", valueName: "file"))
  var text: [String] = []
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Pictures, or other samples, for networks that read such: arrays of U8 or floats.",
      valueName: "file.npy"))
  var images: [String] = []
  @Option(
    help: ArgumentHelp(
      "How the views of a picture differ from it (default: none).", valueName: "flip,shift=4,mix"))
  var augment: String?
  @Option(
    help: "Views of each picture, itself among them (default: 1; 20 with --augment).")
  var views: Int?
  @Option(help: "At most this many tokens, in whole windows from the start; all by default.")
  var tokens: Int?
  @Option(help: "Tokens of a window; 256 by default, with --from-api a whole answer.")
  var context: Int?
  @Option(help: "Most probable tokens of a row, 0 to 256; 8 by default, with --from-api 20.")
  var topK: Int?
  @Option(help: "Samples of a row, 0 to 65535 (default: 50).") var samples: Int?
  @Option(help: "Temperature of the samples; everything else is at 1 (default: 1).")
  var temperature: Double?
  @Option(
    help: ArgumentHelp(
      "Layers whose outputs are logged too: 0 is the embedding.", valueName: "2,4"))
  var hiddenLayers: String?
  @Option(help: "Seed of the samples, or of the views.") var seed = 0
  @Option(help: ArgumentHelp("A server's answers as JSON lines.", valueName: "answers.jsonl"))
  var fromApi: String?
  @Option(
    help: ArgumentHelp(
      "The model whose tokenizer a server's answers are aligned to.", valueName: "model"))
  var student: String?
  @Option(
    help: ArgumentHelp(
      "How a chat's message stands in the text, with {role} and {content}; \\n is a line feed.",
      valueName: "format"))
  var messageFormat: String?
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  /// Options of the other kinds of logs.
  private func refuseUnused() throws {
    let ofText: [(String, Bool)] = [
      ("--text", !text.isEmpty), ("--tokens", tokens != nil), ("--context", context != nil),
      ("--top-k", topK != nil), ("--samples", samples != nil),
      ("--temperature", temperature != nil), ("--hidden-layers", hiddenLayers != nil),
      ("--from-api", fromApi != nil),
    ]
    let ofImages: [(String, Bool)] = [("--augment", augment != nil), ("--views", views != nil)]
    if !images.isEmpty, let option = ofText.first(where: { $0.1 }) {
      throw ValidationError("\(option.0) does not go with --images")
    }
    if images.isEmpty, let option = ofImages.first(where: { $0.1 }) {
      throw ValidationError("\(option.0) does nothing without --images")
    }
    if let views {
      guard (1...1 << 16).contains(views) else {
        throw ValidationError("--views is \(views); it must be 1 to 65536")
      }
      if views > 1, augment == nil || augment == "none" {
        throw ValidationError("--views does nothing without --augment: all views would be alike")
      }
    }
    _ = try augment.map(SampleTrainingOptions.augmentation)
  }

  func validate() throws {
    try refuseUnused()
    if fromApi == nil {
      guard paths.count == 2 else {
        throw ValidationError("expected a teacher and a log to write, found \(paths.count) paths")
      }
      guard !text.isEmpty || !images.isEmpty else {
        throw ValidationError(
          "--text FILE is missing: a teacher is logged on a text (or on --images)")
      }
      guard student == nil, messageFormat == nil else {
        throw ValidationError("--student and --message-format go with --from-api")
      }
      if let tokens, tokens < context ?? 256 {
        throw ValidationError(
          "--tokens is \(tokens); it must be at least a window (\(context ?? 256))")
      }
    } else {
      guard paths.count == 1 else {
        throw ValidationError(
          "with --from-api, expected the log to write, found \(paths.count) paths")
      }
      guard student != nil else {
        throw ValidationError("--student MODEL is missing: a server's answers need its tokenizer")
      }
      guard text.isEmpty, tokens == nil, hiddenLayers == nil else {
        throw ValidationError("--text, --tokens and --hidden-layers do not go with --from-api")
      }
      guard messageFormat?.contains("{content}") ?? true else {
        throw ValidationError("--message-format has no {content}")
      }
    }
    if let context, !(2...1 << 20).contains(context) {
      throw ValidationError("--context is \(context); it must be 2 to 1048576")
    }
    if let topK, !(0...256).contains(topK) {
      throw ValidationError("--top-k is \(topK); it must be 0 to 256")
    }
    if let samples, !(0...65_535).contains(samples) {
      throw ValidationError("--samples is \(samples); it must be 0 to 65535")
    }
    if let temperature, !(temperature > 0 && temperature.isFinite) {
      throw ValidationError("--temperature is \(temperature); it must be above 0")
    }
    _ = try layers()
  }

  private func layers() throws -> [Int] {
    guard let hiddenLayers else { return [] }
    let numbers = hiddenLayers.split(separator: ",", omittingEmptySubsequences: false).map {
      Int($0)
    }
    let layers = numbers.compactMap { $0 }
    guard layers.count == numbers.count, layers.allSatisfy({ $0 >= 0 }) else {
      throw ValidationError("--hidden-layers is '\(hiddenLayers)'; it must be a list such as 2,4")
    }
    return Set(layers).sorted()
  }

  func run() throws {
    let progress = common.start()
    if let fromApi, let student {
      var request = APILogRequest(path: fromApi)
      request.context = context
      request.topCount = topK ?? request.topCount
      request.messageFormat = messageFormat?.split(
        separator: "\\n", omittingEmptySubsequences: false
      ).joined(separator: "\n")
      let (result, report) = try APILogRun(student: try source.open(student), request: request)
        .run(output: paths[0], force: force) { progress.show($0, $1) }
      Self.print(result, api: report, json: json, quiet: common.quiet)
      return
    }
    if !images.isEmpty {
      var request = SampleLogRequest(images: images)
      request.augmentation =
        try augment.map(SampleTrainingOptions.augmentation) ?? request.augmentation
      request.views = views ?? (request.augmentation.isNone ? 1 : 20)
      request.seed = seed
      let summary = try SampleLogRun(teacher: try source.open(paths[0]), request: request)
        .run(output: paths[1], force: force) { progress.show($0, $1) }
      if json {
        Terminal.print(summary.json.indentedText)
      } else if !common.quiet {
        Terminal.print(summary.text)
      }
      return
    }
    var request = TeacherLogRequest(text: text)
    request.tokens = tokens
    request.context = context ?? request.context
    request.topCount = topK ?? request.topCount
    request.sampleCount = samples ?? request.sampleCount
    request.temperature = temperature ?? request.temperature
    request.hiddenLayers = try layers()
    request.seed = seed
    let result = try TeacherLogRun(teacher: try source.open(paths[0]), request: request)
      .run(output: paths[1], force: force) { progress.show($0, $1) }
    Self.print(result, asked: tokens, json: json, quiet: common.quiet)
  }

  private static func print(
    _ result: TeacherLogResult, asked: Int? = nil, api: APILogReport? = nil, json: Bool, quiet: Bool
  ) {
    if json {
      var document = result.json(asked: asked)
      if let api, var object = document.object {
        object["import"] = api.json
        document = .object(object)
      }
      Terminal.print(document.indentedText)
    } else if !quiet {
      Terminal.print(result.text(asked: asked) + (api.map { "\n" + $0.text } ?? ""))
    }
  }
}

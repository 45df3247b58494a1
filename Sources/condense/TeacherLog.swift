import ArgumentParser
import JSONDocuments
import Pipeline

struct TeacherLogCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "teacher-log",
    abstract: "Log what a teacher predicts on a text, for distillation and for measuring.",
    discussion: """
      One HDF5 file with, for each token: the log-probability of the true next token, the most probable tokens, \
      samples of the whole distribution, log-sum-exp and entropy. docs/teacher-logs.md specifies it. An interrupted \
      run goes on when the same command runs again, and ends in the same bytes.
      """)

  @Argument(help: "The teacher: a checkpoint folder or a bundle.") var teacher: String
  @Argument(help: ArgumentHelp("The log to write.", valueName: "log.h5")) var output: String
  @OptionGroup(title: "Input") var source: InputOptions
  @Option(
    name: .long, parsing: .upToNextOption,
    help: ArgumentHelp("Text to log on.", valueName: "file"))
  var text: [String] = []
  @Option(help: "At most this many tokens, in whole windows from the start; all by default.")
  var tokens: Int?
  @Option(help: "Tokens of a window.") var context = 256
  @Option(help: "Most probable tokens of a row, 0 to 256.") var topK = 8
  @Option(help: "Samples of a row, 0 to 65535.") var samples = 50
  @Option(help: "Temperature of the samples; everything else is at 1.") var temperature = 1.0
  @Option(
    help: ArgumentHelp(
      "Layers whose outputs are logged too: 0 is the embedding.", valueName: "2,4"))
  var hiddenLayers: String?
  @Option(help: "Seed of the samples.") var seed = 0
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard !text.isEmpty else {
      throw ValidationError("--text FILE is missing: a teacher is logged on a text")
    }
    guard (2...1 << 20).contains(context) else {
      throw ValidationError("--context is \(context); it must be 2 to 1048576")
    }
    if let tokens, tokens < context {
      throw ValidationError("--tokens is \(tokens); it must be at least a window (\(context))")
    }
    guard (0...256).contains(topK) else {
      throw ValidationError("--top-k is \(topK); it must be 0 to 256")
    }
    guard (0...65_535).contains(samples) else {
      throw ValidationError("--samples is \(samples); it must be 0 to 65535")
    }
    guard temperature > 0, temperature.isFinite else {
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
    var request = TeacherLogRequest(text: text)
    request.tokens = tokens
    request.context = context
    request.topCount = topK
    request.sampleCount = samples
    request.temperature = temperature
    request.hiddenLayers = try layers()
    request.seed = seed
    let result = try TeacherLogRun(teacher: try source.open(teacher), request: request)
      .run(output: output, force: force) { progress.show($0, $1) }
    Self.print(result, asked: tokens, json: json, quiet: common.quiet)
  }

  static func print(_ result: TeacherLogResult, asked: Int?, json: Bool, quiet: Bool) {
    if json {
      Terminal.print(result.json(asked: asked).indentedText)
    } else if !quiet {
      Terminal.print(result.text(asked: asked))
    }
  }
}

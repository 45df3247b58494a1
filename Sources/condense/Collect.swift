import ArgumentParser
import JSONDocuments
import Pipeline

struct Collect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Collect answers with log-probabilities from an OpenAI-compatible endpoint.",
    discussion: """
      Writes JSON lines as a batch's output has them, for condense teacher-log --from-api. Nothing is asked twice: the \
      same command goes on with what is missing. The key comes from an environment variable and is written nowhere.
      """)

  @Option(help: ArgumentHelp("The address, such as https://host/v1.", valueName: "url"))
  var endpoint: String
  @Option(help: "The model's name there.") var model: String
  @Option(
    help: ArgumentHelp(
      "A prompt a line, or FILE.jsonl with 'prompt' or 'messages' a line.", valueName: "file"))
  var prompts: String
  @Argument(help: ArgumentHelp("The log to write.", valueName: "log.jsonl")) var output: String
  @Option(name: .customLong("api"), help: "What is asked for: chat or completions.")
  var interface = "chat"
  @Option(help: "Entries of the lists of log-probabilities; 0 asks for none.") var topK = 20
  @Option(help: "The longest answer in tokens.") var maxTokens = 512
  @Option(help: "Temperature of the answers.") var temperature = 1.0
  @Option(help: "Seed that is sent; none by default.") var seed: Int?
  @Option(
    help: ArgumentHelp(
      "The environment variable that holds the key; none is sent by default.", valueName: "name"))
  var keyVariable: String?
  @Option(help: "Requests at a time.") var concurrency = 4
  @Option(help: "Requests that are started a minute; no limit by default.")
  var requestsPerMinute: Double?
  @Option(help: "Seconds for one request.") var timeout = 120.0
  @Option(help: "Seconds for all; no limit by default.") var overallTimeout: Double?
  @Option(help: "Attempts of a request.") var attempts = 8
  @Flag(help: "Replace an existing output of other prompts.") var force = false
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard CollectRequest.Interface(rawValue: interface) != nil else {
      throw ValidationError("--api is '\(interface)'; it must be chat or completions")
    }
    guard (1...256).contains(concurrency) else {
      throw ValidationError("--concurrency is \(concurrency); it must be 1 to 256")
    }
    guard (1...100).contains(attempts) else {
      throw ValidationError("--attempts is \(attempts); it must be 1 to 100")
    }
    guard (0...100).contains(topK) else {
      throw ValidationError("--top-k is \(topK); it must be 0 to 100")
    }
    guard maxTokens > 0 else {
      throw ValidationError("--max-tokens is \(maxTokens); it must be at least 1")
    }
    for (name, value) in [
      ("timeout", timeout), ("overall-timeout", overallTimeout ?? 1),
      ("requests-per-minute", requestsPerMinute ?? 1),
    ] where !(value > 0 && value <= 1e9) {
      throw ValidationError("--\(name) is \(value); it must be above 0")
    }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature is \(temperature); it must not be negative")
    }
  }

  func run() throws {
    let progress = common.start()
    var request = CollectRequest(endpoint: endpoint, model: model, prompts: prompts)
    request.interface = .init(rawValue: interface) ?? .chat
    request.topCount = topK
    request.tokens = maxTokens
    request.temperature = temperature
    request.seed = seed
    request.keyVariable = keyVariable
    request.concurrency = concurrency
    request.requestsPerMinute = requestsPerMinute
    request.timeout = timeout
    request.overallTimeout = overallTimeout
    request.attempts = attempts
    let report = try CollectRun(request).run(output: output, force: force) {
      progress.show("collect", $0)
    }
    if json {
      let document: JSONValue = [
        "schema": 1, "requests": .integer(report.requests), "found": .integer(report.found),
        "retries": .integer(report.retries),
      ]
      Terminal.print(document.indentedText)
    } else if !common.quiet {
      Terminal.print(
        "requests      \(report.requests), of which \(report.found) were answered before\n"
          + "repeated      \(report.retries) attempts")
    }
  }
}

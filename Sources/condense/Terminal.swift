import ArgumentParser
import Glibc
import JSONDocuments
import Tensors

/// What goes to the terminal: results on standard output, everything else on standard error.
enum Terminal {
  /// Writes text to a descriptor; a failure there has nowhere to be said.
  static func write(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
      var offset = 0
      while offset < bytes.count {
        let rest = unsafe UnsafeBufferPointer(rebasing: bytes[offset...])
        let count = unsafe Glibc.write(descriptor, rest.baseAddress, rest.count)
        if count <= 0 { return }
        offset += count
      }
    }
  }

  /// A line on standard output.
  static func print(_ line: String) { write(line + "\n", to: STDOUT_FILENO) }

  /// An array that was made of files: one line, or a JSON document.
  static func printArray(
    _ path: String, shape: [Int], files: [String], json: Bool, isQuiet: Bool
  ) {
    if json {
      let document: JSONValue = [
        "shape": .array(shape.map { .integer($0) }), "files": .array(files.map { .string($0) }),
      ]
      print(document.indentedText)
    } else if !isQuiet {
      print("\(path): " + shape.map(String.init).joined(separator: " x "))
    }
  }

  /// The one line of an error.
  static func printError(_ message: String) { write("Error: \(message)\n", to: STDERR_FILENO) }
}

/// Progress on standard error: a line that is rewritten on a terminal, JSON lines for machines, or nothing.
final class ProgressReporter {
  enum Style: String, CaseIterable, ExpressibleByArgument {
    case auto, bar, jsonl, none
  }

  private let style: Style
  private var started = ContinuousClock.now
  private var lastShown: ContinuousClock.Instant?
  private var task = ""

  init(_ style: Style, quiet: Bool) {
    let isTerminal = unsafe isatty(STDERR_FILENO) == 1 && getenv("CI") == nil
    switch style {
    case .auto: self.style = quiet || !isTerminal ? .none : .bar
    default: self.style = quiet && style == .bar ? .none : style
    }
  }

  /// Says how far a task is: at most ten times a second, with the time left.
  func show(_ task: String, _ share: Double) { show(task, share, detail: nil) }

  /// The same, with more that is known of the task.
  func show(_ task: String, _ share: Double, detail: String?) {
    let now = ContinuousClock.now
    if task != self.task {
      self.task = task
      started = now
      lastShown = nil
    }
    if let lastShown, share < 1, now - lastShown < .milliseconds(100) { return }
    lastShown = now
    switch style {
    case .none, .auto: break
    case .jsonl:
      Terminal.write(
        "{\"task\":\"\(task)\",\"done\":\(share)"
          + (detail.map { ",\"detail\":\"\($0)\"" } ?? "") + "}\n", to: STDERR_FILENO)
    case .bar:
      let elapsed = (now - started) / .seconds(1)
      let left = share > 0.01 ? elapsed / share * (1 - share) : 0
      let percent = Int(share * 100)
      Terminal.write(
        "\r\u{1B}[K\(task) \(percent) %" + (detail.map { ", " + $0 } ?? "")
          + (left >= 1 ? ", \(Int(left)) s left" : ""),
        to: STDERR_FILENO)
      if share >= 1 { Terminal.write("\r\u{1B}[K", to: STDERR_FILENO) }
    }
  }

  /// A line that stays, on standard error.
  func note(_ line: String) {
    if style == .bar { Terminal.write("\r\u{1B}[K", to: STDERR_FILENO) }
    Terminal.write(line + "\n", to: STDERR_FILENO)
  }
}

/// Options that every command has.
struct CommonOptions: ParsableArguments {
  @Option(help: "Threads to use; all cores by default.") var threads: Int?
  @Flag(help: "Print errors and results only.") var quiet = false
  @Option(help: "Progress on standard error: auto, bar, jsonl or none.")
  var progress = ProgressReporter.Style.auto

  func validate() throws {
    if let threads, threads < 1 {
      throw ValidationError("--threads is \(threads); it must be at least 1")
    }
  }

  /// Applies the options to the process, and gives the progress reporter.
  func start() -> ProgressReporter {
    if let threads { ParallelLoop.threads = threads }
    return ProgressReporter(progress, quiet: quiet)
  }
}

/// Options of what a model is measured on.
struct MeasureOptions: ParsableArguments {
  @Option(
    name: .long, parsing: .upToNextOption,
    help: ArgumentHelp("Text to measure on; encoders read a sentence a line.", valueName: "file"))
  var text: [String] = []
  @Option(help: "Tokens of a window.") var context = 256
  @Option(help: "Predictions that count: all, or half a window as llama-perplexity does.")
  var score = "all"
  @Option(help: "At most this many windows, sentences, samples or recordings, from the start.")
  var windows: Int?
  @Option(help: ArgumentHelp("Labelled pairs: sentence1,sentence2,score.", valueName: "file.csv"))
  var pairs: String?
  @Option(
    help: ArgumentHelp(
      "A teacher log to measure against, on its own text.", valueName: "log.h5"))
  var teacherLog: String?
  @Option(
    help: ArgumentHelp(
      "Pictures, or other samples, in place of text: an array of bytes, floats or ids (.npy); for several inputs "
        + "an archive (.npz) of arrays by the inputs' names.",
      valueName: "file.npy"))
  var images: String?
  @Option(help: ArgumentHelp("The right labels of --images.", valueName: "file.npy"))
  var labels: String?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Recordings, in place of text: WAV files, folders of them, or arrays of features (.npy).",
      valueName: "path"))
  var audio: [String] = []
  @Option(
    help: ArgumentHelp(
      "What is said in --audio, a line a recording: its file's name, a tab, the text.",
      valueName: "file.tsv"))
  var transcripts: String?
  @Option(
    help: ArgumentHelp(
      "The language of --audio, such as en; the models tell it otherwise.", valueName: "code"))
  var language: String?

  func validate() throws {
    let others = !text.isEmpty || pairs != nil || teacherLog != nil
    if images != nil, others {
      throw ValidationError("--images stands in place of --text, --pairs and --teacher-log")
    }
    if !audio.isEmpty, others || images != nil {
      throw ValidationError(
        "--audio stands in place of --text, --pairs, --images and --teacher-log")
    }
    for (option, value) in [("--transcripts", transcripts), ("--language", language)]
    where value != nil && audio.isEmpty {
      throw ValidationError("\(option) does nothing without --audio")
    }
    if labels != nil, images == nil {
      throw ValidationError("--labels does nothing without --images")
    }
    guard images != nil || !audio.isEmpty || others else {
      throw ValidationError(
        "--text FILE is missing: a model is measured on a text (or on --images, --audio)")
    }
    guard teacherLog == nil || text.isEmpty && pairs == nil else {
      throw ValidationError("--teacher-log brings its own text; leave out --text and --pairs")
    }
    guard (2...1 << 20).contains(context) else {
      throw ValidationError("--context is \(context); it must be 2 to 1048576")
    }
    guard score == "all" || score == "half" else {
      throw ValidationError("--score is '\(score)'; it must be all or half")
    }
    guard score == "all" || context >= 4 else {
      throw ValidationError("--score half needs a --context of at least 4: nothing would count")
    }
    if let windows, windows < 1 {
      throw ValidationError("--windows is \(windows); it must be at least 1")
    }
  }
}

import ArgumentParser
import CondenseInference
import JSONDocuments
import Pipeline

struct Transcribe: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write down what is said in recordings, with a speech recognizer.",
    discussion: """
      A line a recording: its file's name, a tab, the text; such lines are what --transcripts reads. The likeliest token is \
      taken each time, without timestamps; recordings longer than the model's window (30 seconds) are cut into windows that \
      follow each other.
      """)

  @Argument(help: "A bundle or a checkpoint folder of a speech recognizer.") var model: String
  @Argument(help: "WAV files of any rate, folders of them, or arrays of features (.npy).")
  var recordings: [String]
  @Option(
    help: ArgumentHelp(
      "The language, such as en; a model of several languages tells it from each recording's first window otherwise.",
      valueName: "code"))
  var language: String?
  @Flag(help: "Print one JSON document, with tokens and windows.") var json = false
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    let progress = common.start()
    let run = try TranscribeRun(
      try Model(try source.open(model)), paths: recordings, language: language)
    var results: [JSONValue] = []
    try run.run(progress: { progress.show("transcribe", $0) }) { result in
      if !result.transcript.isComplete {
        progress.note(
          "\(result.name): the text is cut where the decoder's positions ran out")
      }
      if json {
        results.append(result.json)
      } else {
        Terminal.print("\(result.name)\t\(result.transcript.text)")
      }
    }
    if json {
      let document: JSONValue = ["schema": 1, "transcripts": .array(results)]
      Terminal.print(document.indentedText)
    }
  }
}

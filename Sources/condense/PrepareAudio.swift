import ArgumentParser
import Pipeline

struct PrepareAudio: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prepare-audio",
    abstract: "Write WAV files as the array of features that Whisper reads.",
    discussion: """
      Sounds of any rate become one channel of 16 kHz, are cut or filled with silence to 30 seconds, and are written as the \
      logarithm of their power in bands, float32 [sounds, 3000, bands]: a hundred frames a second.
      """)

  @Argument(help: "WAV files, and folders of them.") var sounds: [String]
  @Option(help: "Bands of a frame: 80, or 128 for Whisper large-v3.") var bands = 80
  @Option(help: "Seconds of a sound, 30 for every published Whisper.") var seconds = 30
  @Option(name: .shortAndLong, help: "The array to write (.npy).") var output: String
  @Flag(help: "Print one JSON document with the files and the shape.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard (1...1024).contains(bands) else {
      throw ValidationError("--bands is \(bands); it must be 1 to 1024")
    }
    guard (1...600).contains(seconds) else {
      throw ValidationError("--seconds is \(seconds); it must be 1 to 600")
    }
  }

  func run() throws {
    let progress = common.start()
    let array = try FeatureArray(paths: sounds, bands: bands, seconds: seconds)
    let shape = try array.write(to: output) { progress.show("prepare", $0) }
    Terminal.printArray(
      output, shape: shape, files: array.files, json: json, isQuiet: common.quiet)
  }
}

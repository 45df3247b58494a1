import ArgumentParser
import Pipeline

/// The calibration text of the stages that change weights.
struct CalibrationArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Calibration text; encoders read a sentence a line. 'self' lets a language model write its own. "
        + "Networks over pictures or other samples read arrays (.npy), speech recognizers WAV files, folders of them "
        + "or arrays of features.",
      valueName: "file"))
  var calibration: [String] = []
  @Option(help: "Calibration tokens (default: 65536).") var tokens: Int?
  @Option(
    help:
      "Calibration samples, for networks over pictures or other samples, or windows of recordings (default: 512)."
  )
  var samples: Int?
  @Option(
    help: ArgumentHelp(
      "What is said in the calibration recordings, a line each: the file's name, a tab, the text. "
        + "The model writes it otherwise.", valueName: "file.tsv"))
  var transcripts: String?
  @Option(help: "Tokens of a calibration window.") var context = 256
  @Option(help: "Of every random choice: calibration windows, rotations (default: 0).")
  var seed: Int?

  /// Whether there is text.
  var isGiven: Bool { !calibration.isEmpty }

  /// What is asked for; nil without text.
  var request: CalibrationRequest? {
    guard isGiven else { return nil }
    return CalibrationRequest(
      text: calibration, tokens: tokens ?? 65536, context: context, seed: seed ?? 0,
      samples: samples ?? 512, transcripts: transcripts)
  }

  func validate() throws {
    if let tokens, tokens < 1 {
      throw ValidationError("--tokens is \(tokens); it must be at least 1")
    }
    if let samples, samples < 1 {
      throw ValidationError("--samples is \(samples); it must be at least 1")
    }
    guard (1...1 << 20).contains(context) else {
      throw ValidationError("--context is \(context); it must be 1 to 1048576")
    }
    if let seed, seed < 0 {
      throw ValidationError("--seed is \(seed); it must not be negative")
    }
  }

  /// Refuses options that do nothing without text.
  ///
  /// - Parameters:
  ///   - seedHasUse: Whether something else draws from the seed.
  ///   - others: Options of the command that need text too.
  func refuseUnused(seedHasUse: Bool = false, others: [(name: String, isGiven: Bool)] = []) throws {
    let options =
      [
        ("--tokens", tokens != nil), ("--samples", samples != nil),
        ("--transcripts", transcripts != nil),
        ("--seed", seed != nil && !seedHasUse),
      ]
      + others.map { ($0.name, $0.isGiven) }
    if !isGiven, let option = options.first(where: { $0.1 }) {
      throw ValidationError("\(option.0) does nothing without --calibration")
    }
  }
}

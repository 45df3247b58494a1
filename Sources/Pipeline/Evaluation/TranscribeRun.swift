// Recordings to transcripts, as `condense transcribe` prints them.

public import CondenseInference
public import JSONDocuments
import Networks

/// Transcripts of recordings.
public struct TranscribeRun {
  /// What was said in one of them.
  public struct Result: Sendable {
    /// The recording's name: its file's, or that of an array with its number in brackets.
    public let name: String
    /// What was said.
    public let transcript: Transcript

    /// What `--json` prints of it.
    public var json: JSONValue {
      [
        "name": .string(name), "text": .string(transcript.text),
        "language": transcript.language.map { .string($0) } ?? .null,
        "complete": .bool(transcript.isComplete),
        "windows": .array(
          transcript.windows.map { window in
            [
              "start": .number(window.start), "text": .string(window.text),
              "ids": .array(window.ids.map { .integer(Int($0)) }),
              "complete": .bool(window.isComplete),
            ]
          }),
      ]
    }
  }

  private let recordings: Recordings
  private let transcriber: Transcriber

  /// - Parameters:
  ///   - paths: WAV files, folders of them, and arrays of features.
  ///   - language: A code, such as `en`; nil lets the model tell it.
  public init(_ model: Model, paths: [String], language: String?) throws {
    transcriber = try Transcriber(model, language: language)
    recordings = try Recordings(paths, for: try model.speechRecognizer())
  }

  /// Transcribes one recording after the other.
  public func run(
    progress: (Double) -> Void = { _ in }, _ finished: (Result) -> Void
  ) throws {
    for index in 0..<recordings.count {
      let windows = try recordings.windows(of: index, transcriber.features)
      let transcript = try transcriber.transcribe(windows: windows) {
        progress((Double(index) + $0) / Double(recordings.count))
      }
      finished(Result(name: recordings.names[index], transcript: transcript))
    }
  }
}

// Recordings for calibration: features, and the tokens that the decoder reads beside them.

import Calibration
import Checkpoints
import CondenseInference
import Networks
import Tensors

extension CalibrationRequest {
  /// Windows left out that are kept for measuring: a window of 30 seconds is a million bytes of features.
  private static let restWindows = 64

  /// Windows of recordings in a random order, and others for measuring, up to a limit. The decoder reads the given
  /// transcripts, or what the model itself writes.
  func loadRecordings(
    for model: Model, _ progress: (String, Double) -> Void
  ) throws -> Loaded {
    let network = try model.speechRecognizer()
    guard text != Self.selfWritten else {
      throw CheckpointError(
        path: Self.selfWritten[0],
        .unsupported("a \(network.family) model that makes its own recordings"))
    }
    let recordings = try Recordings(text, for: network)
    let given = try transcripts.map { try recordings.transcripts(in: $0) }
    let transcriber = try Transcriber(model)
    var stream = RandomStream(seed: UInt64(seed), name: "calibration")
    let wanted = samples + Self.restWindows
    var features: [Matrix] = [], tokens: [[Int32]] = []
    for index in stream.permutation(recordings.count) where features.count < wanted {
      progress("transcribe calibration", Double(features.count) / Double(wanted))
      let windows = try recordings.windows(of: index, transcriber.features)
      if given != nil, windows.count > 1 {
        throw CheckpointError(
          path: recordings.names[index],
          .unsupported(
            "a given transcript for a recording of \(windows.count) windows, whose borders it does not tell,"
          ))
      }
      let written: [Transcriber.Written]
      if let given {
        let language = try transcriber.language(of: windows[0])
        do {
          written = [try transcriber.written(given[index], language: language)]
        } catch {
          throw CheckpointError(
            path: "\(transcripts ?? ""), \(recordings.names[index])",
            .badValue(found: "\(error)", expected: "a transcript for this model"))
        }
      } else {
        written = try transcriber.write(windows: windows)
      }
      features += windows
      tokens += written.map(\.sequence)
    }
    func set(_ range: Range<Int>, asked: Int) -> CalibrationSet {
      CalibrationSet(
        samples: SampleSet(
          Matrix.stack(Array(features[range])), tokens: Array(tokens[range]), for: network),
        asked: asked)
    }
    let own = min(samples, features.count)
    return Loaded(
      set: set(0..<own, asked: samples),
      rest: own < features.count
        ? set(own..<features.count, asked: features.count - own) : nil,
      files: try Self.hashed(recordings.files + (transcripts.map { [$0] } ?? [])))
  }
}

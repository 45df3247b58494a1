// Speech recognizers on recordings: each writes its own transcripts, and both predict along the reference's.

import Checkpoints
import CondenseInference
import Drift
import Networks
import Tensors

/// Measures speech recognizers on recordings.
final class SpeechMeasurement {
  private let recordings: Recordings
  private let transcripts: [String]?
  private let language: String?
  /// What the last reference wrote, by recording and window: the same one is asked for again and again.
  private var known: (network: any SpeechRecognizer, written: [[Transcriber.Written]])?

  /// Finds the recordings and reads their transcripts.
  init(_ text: ValidationText, for model: Model) throws {
    let recordings = try Recordings(
      text.text, for: try model.speechRecognizer(), limit: text.windows)
    self.recordings = recordings
    transcripts = try text.transcripts.map { try recordings.transcripts(in: $0) }
    language = text.language
  }

  /// The figures of a model, against a reference where there is one.
  func drift(
    of model: Model, from reference: Model?, progress: (Double) -> Void
  ) throws -> SpeechDrift {
    let network = try model.speechRecognizer()
    let transcriber = try Transcriber(model, language: language)
    let other = try reference.map {
      (network: try $0.speechRecognizer(), transcriber: try Transcriber($0, language: language))
    }
    var scores: [RecordingScore] = [], writtenByReference: [[Transcriber.Written]] = []
    let last = other.flatMap { other in
      known.flatMap { $0.network === other.network ? $0.written : nil }
    }
    for index in 0..<recordings.count {
      progress(Double(index) / Double(recordings.count))
      let windows = try recordings.windows(of: index, transcriber.features)
      let text = try transcriber.transcribe(windows: windows).text
      var score = RecordingScore()
      if let transcripts { score.toTranscript = WordErrors(text, against: transcripts[index]) }
      if let other {
        let written = try last?[index] ?? other.transcriber.write(windows: windows)
        writtenByReference.append(written)
        let right = Transcriber.joined(written.map { other.transcriber.text($0.ids) })
        score.toReference = WordErrors(text, against: right)
        score.referenceToTranscript = transcripts.map { WordErrors(right, against: $0[index]) }
        var tokens: [RecordingScore.Token] = []
        for (features, written) in zip(windows, written) {
          tokens += try RecordingScore.compare(
            network, with: other.network, features: features, sequence: written.sequence,
            rows: written.scored)
        }
        score.tokens = tokens
      }
      scores.append(score)
    }
    if let other { known = (other.network, writtenByReference) }
    progress(1)
    return SpeechDrift(scores)
  }

  /// Refuses models that do not read and write the same.
  static func checkComparable(
    _ network: any SpeechRecognizer, _ reference: any Network
  ) throws(DriftError) {
    guard let other = reference as? any SpeechRecognizer else {
      throw .differentModels("one transcribes recordings, the other does not")
    }
    guard network.input == other.input else {
      throw .differentModels("one reads \(network.input), the other \(other.input)")
    }
    guard network.vocabularySize == other.vocabularySize,
      network.contextLimit == other.contextLimit
    else {
      throw .differentModels(
        "vocabularies of \(network.vocabularySize) and \(other.vocabularySize) tokens, "
          + "\(network.contextLimit) and \(other.contextLimit) positions")
    }
  }
}

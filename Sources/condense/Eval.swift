import ArgumentParser
import CondenseInference
import Drift
import JSONDocuments
import Pipeline

struct Eval: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measure a model: perplexity, accuracy or word errors, and KL, top-1 or cosine against a reference.",
    discussion: """
      Text is cut into windows without overlap and without special tokens; encoders read a sentence a \
      line, networks over pictures an array of them, speech recognizers recordings. docs/metrics.md defines every figure.
      """)

  @Argument(help: "A checkpoint folder or a bundle.") var model: String
  @Option(help: ArgumentHelp("The model to compare with.", valueName: "model"))
  var reference: String?
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Measure") var measure: MeasureOptions
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard measure.teacherLog == nil || reference == nil else {
      throw ValidationError("--teacher-log is the reference; leave out --reference")
    }
    guard measure.audio.isEmpty || reference != nil || measure.transcripts != nil else {
      throw ValidationError(
        "--audio alone measures nothing: give --reference, --transcripts or both")
    }
  }

  func run() throws {
    let progress = common.start()
    let subject = try Model(try source.open(model))
    if let path = measure.teacherLog {
      let drift = try TeacherLogEvaluation(path: path, windows: measure.windows)
        .drift(of: subject) { progress.show("eval", $0) }
      Terminal.print(json ? drift.json.indentedText : drift.text)
      return
    }
    let other = try reference.map { try Model(try source.open($0)) }
    let text = ValidationText(
      text: measure.images.map { [$0] } ?? measure.text + measure.audio, context: measure.context,
      scoring: measure.score == "half" ? .half : .all, windows: measure.windows,
      pairs: measure.pairs, labels: measure.labels, transcripts: measure.transcripts,
      language: measure.language)
    let measurement = try Measurement(text, tokenizedFor: subject, reference: other)
    let drift = try measurement.drift(of: subject) { progress.show("eval", $0) }
    Terminal.print(json ? drift.json.indentedText : Self.table(drift))
  }

  static func table(_ drift: MeasuredDrift) -> String {
    switch drift {
    case .language(let drift):
      var lines = [
        "tokens scored      \(drift.tokens)",
        "perplexity         \(Figures.text(drift.perplexity, 4))",
      ]
      if let ratio = drift.perplexityRatio {
        lines.append("perplexity ratio   \(Figures.text(ratio, 5))")
      }
      if let kl = drift.divergence {
        lines += [
          "KL mean            \(Figures.text(kl.mean, 6))  "
            + "(95 %: \(Figures.text(kl.interval.lowerBound, 6)) … "
            + "\(Figures.text(kl.interval.upperBound, 6)))",
          "KL median          \(Figures.text(kl.median, 6))",
          "KL 99 %            \(Figures.text(kl.p99, 5))",
          "KL 99.9 %          \(Figures.text(kl.p999, 5))",
          "KL max             \(Figures.text(kl.max, 5))",
        ]
      }
      if let top1 = drift.top1 {
        lines.append("top-1 agreement    \(Figures.text(top1 * 100, 3)) %")
      }
      return lines.joined(separator: "\n")
    case .encoder(let drift):
      var lines = ["sentences          \(drift.sentences)"]
      if let cosine = drift.cosine {
        lines += [
          "cosine mean        \(Figures.text(cosine.mean, 6))  "
            + "(95 %: \(Figures.text(cosine.interval.lowerBound, 6)) … "
            + "\(Figures.text(cosine.interval.upperBound, 6)))",
          "cosine 1 %         \(Figures.text(cosine.p01, 6))",
          "cosine min         \(Figures.text(cosine.min, 6))",
        ]
      }
      if let neighbours = drift.neighbours {
        lines.append(
          "neighbours         \(Figures.text(neighbours.mean * 100, 2)) % of "
            + "\(neighbours.count) stay  "
            + "(95 %: \(Figures.text(neighbours.interval.lowerBound * 100, 2)) … "
            + "\(Figures.text(neighbours.interval.upperBound * 100, 2)))")
      }
      if let spearman = drift.spearman {
        lines.append(
          "Spearman × 100     \(Figures.text(spearman, 2))"
            + (drift.referenceSpearman.map { "  (reference \(Figures.text($0, 2)))" } ?? ""))
      }
      return lines.joined(separator: "\n")
    case .samples(let drift): return table(drift)
    case .speech(let drift): return table(drift)
    }
  }

  private static func table(_ drift: SpeechDrift) -> String {
    func percent(_ value: Double) -> String { Figures.text(100 * value, 2) + " %" }
    func line(_ title: String, _ value: Double, _ range: ClosedRange<Double>?) -> String {
      title + percent(value)
        + (range.map {
          "  (95 %: \(Figures.text(100 * $0.lowerBound, 2)) … \(Figures.text(100 * $0.upperBound, 2)))"
        } ?? "")
    }
    var lines = ["recordings         \(drift.recordings)"]
    if let own = drift.wordErrorRate {
      lines.append(line("word error rate    ", own.rate, own.interval))
    }
    if let reference = drift.referenceWordErrorRate {
      lines.append("of the reference   " + percent(reference))
    }
    if let own = drift.toReference {
      lines.append(line("WER to reference   ", own.rate, own.interval))
    }
    if let tokens = drift.tokens { lines.append("tokens scored      \(tokens)") }
    if let kl = drift.divergence { lines += self.lines(kl) }
    if let top1 = drift.top1 {
      lines.append(line("top-1 agreement    ", top1, drift.top1Interval))
    }
    return lines.joined(separator: "\n")
  }

  /// The divergence where its middle says little.
  private static func lines(_ kl: LanguageDrift.Divergence) -> [String] {
    [
      "KL mean            \(Figures.text(kl.mean, 6))  "
        + "(95 %: \(Figures.text(kl.interval.lowerBound, 6)) … "
        + "\(Figures.text(kl.interval.upperBound, 6)))",
      "KL 99 %            \(Figures.text(kl.p99, 5))",
      "KL max             \(Figures.text(kl.max, 5))",
    ]
  }

  private static func table(_ drift: SampleDrift) -> String {
    func percent(_ value: Double) -> String { Figures.text(100 * value, 3) + " %" }
    func interval(_ range: ClosedRange<Double>?) -> String {
      range.map {
        "  (95 %: \(Figures.text(100 * $0.lowerBound, 3)) … \(Figures.text(100 * $0.upperBound, 3)))"
      } ?? ""
    }
    var lines = ["samples            \(drift.samples)"]
    if let accuracy = drift.accuracy {
      lines.append("accuracy           " + percent(accuracy) + interval(drift.accuracyInterval))
    }
    if let reference = drift.referenceAccuracy {
      lines.append("of the reference   " + percent(reference))
    }
    if let agreement = drift.agreement {
      lines.append("label agreement    " + percent(agreement) + interval(drift.agreementInterval))
    }
    if let kl = drift.divergence { lines += self.lines(kl) }
    if let error = drift.outputError {
      lines.append("output error       \(Figures.text(error, 8))")
    }
    for result in drift.results {
      var parts = ["output error \(Figures.text(result.outputError, 8))"]
      if let agreement = result.agreement {
        parts.insert("label agreement " + percent(agreement), at: 0)
      }
      if let kl = result.divergence { parts.append("KL \(Figures.text(kl, 6))") }
      lines.append("  '\(result.name)': " + parts.joined(separator: ", "))
    }
    return lines.joined(separator: "\n")
  }
}

// The loss curve on the terminal, as JSON, and in files for those who plot elsewhere.

import Distillation
import JSONDocuments
import Pipeline

/// Prints a line a validation.
final class CurveTable {
  private let isQuiet: Bool
  private let options: TrainingOptions
  private var shown = 0

  init(isQuiet: Bool, options: TrainingOptions) {
    self.isQuiet = isQuiet
    self.options = options
  }

  /// What stands beside the progress.
  func detail(_ report: TrainingProgress) -> String {
    let seconds = report.elapsed / .seconds(1)
    let rate = seconds > 0 ? Double(report.tokens) / seconds : 0
    var parts: [String] = []
    if let point = report.curve.last {
      parts.append("loss " + Figures.text(Self.loss(point, options), 4))
    }
    if options.targets != .text { parts.append("KL " + Figures.text(report.best.divergence, 4)) }
    parts.append("\(Int(rate)) tokens/s")
    return parts.joined(separator: ", ")
  }

  private static func loss(_ point: TrainingPoint, _ options: TrainingOptions) -> Double {
    options.targets == .text
      ? point.text
      : options.divergenceWeight * point.divergence + options.textWeight * point.text
        + point.representation
  }

  /// Shows the validations that were not shown yet.
  func add(_ report: TrainingProgress) {
    guard !isQuiet else { return }
    if shown == 0 {
      Terminal.print("   step      tokens   train loss   valid KL   valid ppl   rate")
      line(0, 0, nil, report.first, 0)
    }
    for point in report.curve {
      guard let validation = point.validation, point.step > shown else { continue }
      shown = point.step
      line(point.step, point.tokens, Self.loss(point, options), validation, point.rate)
    }
    shown = max(shown, 1)
  }

  private func line(
    _ step: Int, _ tokens: Int, _ loss: Double?, _ validation: ValidationPoint, _ rate: Double
  ) {
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    Terminal.print(
      right("\(step)", 7) + right("\(tokens)", 12)
        + right(loss.map { Figures.text($0, 4) } ?? "-", 13)
        + right(
          options.targets == .text ? "-" : Figures.text(validation.divergence, 5), 11)
        + right(Figures.text(validation.perplexity, 3), 12) + "   "
        + Figures.text(rate, 6))
  }

  /// Shows a block that was tuned by itself.
  func add(_ block: BlockOutcome) {
    guard !isQuiet else { return }
    if block.block == 0 { Terminal.print("  block   error before   error after") }
    let number = "\(block.block)"
    Terminal.print(
      String(repeating: " ", count: max(0, 7 - number.count)) + number + "       "
        + Figures.text(block.before, 6) + "      " + Figures.text(block.after, 6))
  }

  /// The last lines.
  func finish(_ result: DistillResult, output: String) {
    guard case .training(let outcome) = result.work else {
      Terminal.print("wrote \(output)")
      return
    }
    let early = outcome.steps < outcome.planned ? ", stopped early" : ""
    Terminal.print(
      "best at step \(outcome.bestStep) of \(outcome.steps)\(early): "
        + (options.targets == .text
          ? ""
          : "KL \(Figures.text(outcome.first.divergence, 5)) -> "
            + "\(Figures.text(outcome.best.divergence, 5)), ")
        + "perplexity \(Figures.text(outcome.first.perplexity, 3)) -> "
        + "\(Figures.text(outcome.best.perplexity, 3)), \(result.parameters) parameters trained"
    )
    Terminal.print("wrote \(output)")
  }

  /// The document of `--json`.
  static func json(_ result: DistillResult, drift: MeasuredDrift?) -> JSONValue {
    var object = JSONObject()
    object["schema"] = 1
    if case .training(let outcome) = result.work {
      object[result.work.key] = outcome.document
    } else {
      object[result.work.key] = result.work.json
    }
    object["parameters"] = .integer(result.parameters)
    object["layers"] = .array(result.layers.map(\.json))
    if let drift { object["drift"] = drift.json }
    return .object(object)
  }
}

// The loss curve on the terminal, as JSON, and in files for those who plot elsewhere.

import Distillation
import JSONDocuments
import Pipeline

/// Prints a line a validation.
final class CurveTable {
  private let isQuiet: Bool
  private let options: TrainingOptions
  /// Of samples: whether there are labels; nil for texts.
  private let hasLabels: Bool?
  private var shown = 0
  private var unit: String { hasLabels == nil ? "tokens" : "samples" }

  init(isQuiet: Bool, options: TrainingOptions, hasLabels: Bool?) {
    self.isQuiet = isQuiet
    self.options = options
    self.hasLabels = hasLabels
  }

  /// What stands beside the progress.
  func detail(_ report: TrainingProgress) -> String {
    let seconds = report.elapsed / .seconds(1)
    let rate = seconds > 0 ? Double(report.tokens) / seconds : 0
    var parts: [String] = []
    if let point = report.curve.last {
      parts.append("loss " + Figures.text(Self.loss(point, options), 4))
    }
    if !options.targets.areHard { parts.append("KL " + Figures.text(report.best.divergence, 4)) }
    parts.append("\(Int(rate)) \(unit)/s")
    return parts.joined(separator: ", ")
  }

  private static func loss(_ point: TrainingPoint, _ options: TrainingOptions) -> Double {
    options.targets.areHard
      ? point.text
      : options.divergenceWeight * point.divergence + options.textWeight * point.text
        + point.representation
  }

  /// Shows the validations that were not shown yet.
  func add(_ report: TrainingProgress) {
    guard !isQuiet else { return }
    if shown == 0 {
      Terminal.print(
        hasLabels == nil
          ? "   step      tokens   train loss   valid KL   valid ppl   rate"
          : "   step     samples   train loss   valid KL   valid acc   rate")
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
          options.targets.areHard ? "-" : Figures.text(validation.divergence, 5), 11)
        + right(quality(validation), 12) + "   "
        + Figures.text(rate, 6))
  }

  /// The perplexity, or the accuracy where there are labels.
  private func quality(_ point: ValidationPoint) -> String {
    guard hasLabels != nil else { return Figures.text(point.perplexity, 3) }
    return point.accuracy.map { Figures.text(100 * $0, 2) + " %" } ?? "-"
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
        + (options.targets.areHard
          ? ""
          : "KL \(Figures.text(outcome.first.divergence, 5)) -> "
            + "\(Figures.text(outcome.best.divergence, 5)), ")
        + (hasLabels == false
          ? ""
          : (hasLabels == nil ? "perplexity " : "accuracy ")
            + "\(quality(outcome.first)) -> \(quality(outcome.best)), ")
        + "\(result.parameters) parameters trained"
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

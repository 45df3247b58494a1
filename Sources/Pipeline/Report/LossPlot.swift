// The loss curve of a stage that trains: training loss as a line, validations as points.

import Distillation

extension Markup {
  /// The plot, or `nil` when nothing was trained.
  static func lossPlot(_ curve: [TrainingPoint], title: String) -> Markup? {
    guard let last = curve.last, curve.count > 1 else { return nil }
    // Where nothing is known of a teacher, the text's loss is what was trained on.
    let isOfText = curve.allSatisfy { $0.divergence == 0 }
    func training(_ point: TrainingPoint) -> Double { isOfText ? point.text : point.divergence }
    let validations = curve.compactMap { point in
      point.validation.map { (point.tokens, isOfText ? $0.text : $0.divergence) }
    }
    let (width, left, right, top, bottom) = (1016.0, 52.0, 8.0, 12.0, 250.0)
    let values = curve.map(training) + validations.map { $0.1 }
    let scale = PlotScale.logarithmic(values, from: bottom, to: top)
    let tokens = PlotScale.linear(
      [Double(last.tokens)], from: left, to: width - right, count: 6,
      label: {
        $0 >= 1e6 ? ReportNumbers.fixed($0 / 1e6, 2) + "M" : ReportNumbers.fixed($0 / 1e3, 0) + "k"
      })
    var pieces = gridLines(scale, from: left, to: width - right)
    for tick in tokens.ticks {
      pieces.append(
        .element(
          "text",
          attributes([("x", tokens.position(tick.value)), ("y", bottom + 22)])
            + [("text-anchor", "middle"), ("class", "name")], tick.label))
    }
    let line = curve.map { point in
      coordinate(tokens.position(Double(point.tokens))) + ","
        + coordinate(scale.position(training(point)))
    }.joined(separator: " ")
    pieces.append(.element("polyline", [("points", line), ("class", "curve")], []))
    for (seen, value) in validations {
      pieces.append(
        .element(
          "circle",
          attributes([
            ("cx", tokens.position(Double(seen))), ("cy", scale.position(value)), ("r", 3.2),
          ]) + [("class", "dot")],
          [.element("title", [], "\(seen) tokens: \(ReportNumbers.significant(value)) nats")]))
    }
    return plot(width: width, height: bottom + 34, title: title, pieces)
  }
}

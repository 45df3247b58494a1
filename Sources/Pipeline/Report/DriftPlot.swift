// Size against drift: one point a stage, with the interval of its drift.

import Drift

/// A stage's place in the plot.
private struct DriftPoint {
  let name: String
  let bytes: Int
  let drift: Double
  let interval: Interval
}

extension Markup {
  /// The plot, or `nil` when no stage has a drift to show.
  static func driftPlot(_ report: RunReport) -> Markup? {
    let points = report.stages.compactMap { stage -> DriftPoint? in
      let (drift, interval): (Double, Interval)
      switch stage.referenceDrift {
      case .decoder(let summary)?: (drift, interval) = (summary.kl.mean, summary.kl.ci95)
      case .encoder(let summary)?:
        let cosine = summary.cosine
        (drift, interval) = (1 - cosine.mean, Interval(1 - cosine.ci95.high, 1 - cosine.ci95.low))
      case .samples(let summary)?:
        guard let kl = summary.divergence else { return nil }
        (drift, interval) = (kl.mean, Interval(kl.interval.lowerBound, kl.interval.upperBound))
      case .speech(let summary)?:
        guard let kl = summary.divergence else { return nil }
        (drift, interval) = (kl.mean, Interval(kl.interval.lowerBound, kl.interval.upperBound))
      case nil: return nil
      }
      guard drift.isFinite, interval.low.isFinite, interval.high.isFinite else { return nil }
      return DriftPoint(
        name: stage.name, bytes: stage.bytes, drift: max(0, drift), interval: interval)
    }
    guard !points.isEmpty else { return nil }

    let (width, left, right, top, bottom) = (1016.0, 64.0, 28.0, 26.0, 270.0)
    let reference = Double(report.referenceBytes)
    let x = PlotScale.linear(
      points.map { Double($0.bytes) } + [reference], from: left, to: width - right, count: 8
    ) { $0 == 0 ? "0" : ReportNumbers.trimmed(ReportNumbers.bytes(Int(exactly: $0) ?? .max)) }
    let y = PlotScale.linear(points.map(\.interval.high), from: bottom, to: top, count: 5)

    var pieces = gridLines(y, from: left, to: width - right)
    for tick in x.ticks {
      let position = x.position(tick.value)
      pieces.append(
        .element(
          "text",
          attributes([("x", position), ("y", bottom + 20)]) + [("text-anchor", "middle")],
          tick.label))
    }
    let what = report.driftKind == .encoder ? "1 − mean cosine" : "mean KL, nats"
    pieces.append(.element("text", attributes([("x", left), ("y", top - 13)]), what))
    pieces.append(
      .element(
        "text", attributes([("x", width - right), ("y", bottom + 42)]) + [("text-anchor", "end")],
        "size of the result"))

    let trail =
      [(x.position(reference), y.position(0))]
      + points.map { (x.position(Double($0.bytes)), y.position($0.drift)) }
    pieces.append(
      .element(
        "polyline",
        [
          (
            "points", trail.map { "\(coordinate($0.0)),\(coordinate($0.1))" }.joined(separator: " ")
          ),
          ("class", "trail"),
        ], []))
    pieces.append(
      .element(
        "circle",
        attributes([("cx", x.position(reference)), ("cy", y.position(0)), ("r", 4.5)])
          + [("class", "origin")], []))
    var labels = [Label(text: "reference", x: x.position(reference), y: y.position(0))]
    for point in points {
      let place = (x: x.position(Double(point.bytes)), y: y.position(point.drift))
      let (low, high) = (y.position(point.interval.low), y.position(point.interval.high))
      pieces.append(
        .element(
          "line",
          attributes([("x1", place.x), ("x2", place.x), ("y1", low), ("y2", high)])
            + [("class", "whisker")], []))
      let note =
        "\(point.name): \(ReportNumbers.bytes(point.bytes)), "
        + ReportNumbers.significant(point.drift)
      pieces.append(
        .element(
          "circle",
          attributes([("cx", place.x), ("cy", place.y), ("r", 4.5)]) + [("class", "dot")],
          [.element("title", [], note)]))
      labels.append(Label(text: point.name, x: place.x, y: place.y))
    }
    pieces += Label.merged(labels).map { $0.markup(width: width) }
    return plot(
      width: width, height: bottom + 52, title: "Size of the result against drift", pieces)
  }
}

/// A name beside a point; points that nearly coincide share one label.
private struct Label {
  var text: String
  let x: Double
  let y: Double

  static func merged(_ labels: [Label]) -> [Label] {
    var merged: [Label] = []
    for label in labels {
      if let near = merged.firstIndex(where: {
        abs($0.x - label.x) < 48 && abs($0.y - label.y) < 14
      }) {
        merged[near].text += ", " + label.text
      } else {
        merged.append(label)
      }
    }
    return merged
  }

  /// Right of the point, or left of it where that would leave the plot.
  func markup(width: Double) -> Markup {
    let isLeft = x + 10 + Markup.width(of: text) > width
    return .element(
      "text",
      Markup.attributes([("x", isLeft ? x - 10 : x + 10), ("y", y - 9)])
        + [("text-anchor", isLeft ? "end" : "start"), ("class", "name")], text)
  }
}

extension Markup {
  /// A plot as a figure that scrolls where it does not fit.
  static func plot(width: Double, height: Double, title: String, _ pieces: [Markup]) -> Markup {
    .element(
      "figure", class: "scroll",
      [
        .element(
          "svg",
          [
            ("viewBox", "0 0 \(coordinate(width)) \(coordinate(height))"), ("role", "img"),
            ("aria-label", title), ("xmlns", "http://www.w3.org/2000/svg"),
          ], pieces)
      ])
  }

  /// About how wide a label is; a little more with most fonts.
  static func width(of text: String) -> Double { Double(text.count) * 6.8 }

  /// A horizontal line with a label for each tick, and the axis at the bottom.
  static func gridLines(_ scale: PlotScale, from left: Double, to right: Double) -> [Markup] {
    func line(at y: Double, _ kind: String) -> Markup {
      .element(
        "line",
        attributes([("x1", left), ("x2", right), ("y1", y), ("y2", y)])
          + [("class", kind)], [])
    }
    return [line(at: scale.start, "axis")]
      + scale.ticks.flatMap { tick -> [Markup] in
        let y = scale.position(tick.value)
        return (tick.value == scale.low ? [] : [line(at: y, "grid")]) + [
          .element(
            "text", attributes([("x", left - 10), ("y", y + 4)]) + [("text-anchor", "end")],
            tick.label)
        ]
      }
  }

  static func attributes(_ values: [(String, Double)]) -> [(String, String)] {
    values.map { ($0.0, coordinate($0.1)) }
  }

  /// A position with at most one digit after the point.
  static func coordinate(_ value: Double) -> String {
    let text = ReportNumbers.fixed(value, 1).replacing("−", with: "-")
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}

// One figure of every layer, its output error or its share of zeros: a strip for each kind of layer, from the first block
// to the last.

/// The strips of a layer plot.
struct LayerGroups {
  struct Group {
    /// The part of the names after the number of the block.
    let kind: String
    /// The shortest end of `kind` that no other kind shares.
    var label: String
    var layers: [LayerResult]
  }

  private(set) var groups: [Group] = []
  /// Layers without a positive figure, which an axis may not be able to show.
  private(set) var withoutError = 0

  init(
    _ layers: [LayerResult], figure: (LayerResult) -> Double? = { $0.relativeOutputError }
  ) {
    for layer in layers {
      guard let value = figure(layer), value.isFinite, value > 0 else {
        withoutError += 1
        continue
      }
      let kind = Self.kind(of: layer.tensor)
      if let index = groups.firstIndex(where: { $0.kind == kind }) {
        groups[index].layers.append(layer)
      } else {
        groups.append(Group(kind: kind, label: kind, layers: [layer]))
      }
    }
    let kinds = groups.map(\.kind)
    for index in groups.indices { groups[index].label = Self.label(kinds[index], among: kinds) }
  }

  /// `self_attn.q_proj` for `model.layers.3.self_attn.q_proj.weight`.
  static func kind(of tensor: String) -> String {
    var parts = tensor.split(separator: ".")
    if parts.count > 1, parts.last == "weight" { parts.removeLast() }
    let number = parts.lastIndex { part in part.utf8.allSatisfy { (0x30...0x39).contains($0) } }
    let rest = number.map { parts[($0 + 1)...] } ?? parts[...]
    return rest.isEmpty ? tensor : rest.joined(separator: ".")
  }

  private static func label(_ kind: String, among kinds: [String]) -> String {
    let parts = kind.split(separator: ".")
    for length in 1...max(1, parts.count) {
      let end = parts.suffix(length).joined(separator: ".")
      let shared = kinds.contains { $0 != kind && ($0 == end || $0.hasSuffix("." + end)) }
      if !shared { return end }
    }
    return kind
  }
}

extension Markup {
  /// The plot of output errors, or `nil` when no layer has an error to show.
  static func layerPlot(_ layers: [LayerResult], title: String) -> Markup? {
    layerPlot(layers, title: title, figure: { $0.relativeOutputError }) {
      PlotScale.logarithmic($0, from: $1, to: $2)
    }
  }

  /// The plot of shares of zeros, or `nil` when no layer was pruned.
  static func sparsityPlot(_ layers: [LayerResult], title: String) -> Markup? {
    layerPlot(layers, title: title, figure: { $0.sparsity }) {
      PlotScale.linear($0, from: $1, to: $2, count: 5)
    }
  }

  private static func layerPlot(
    _ layers: [LayerResult], title: String, figure: (LayerResult) -> Double?,
    scale makeScale: ([Double], _ bottom: Double, _ top: Double) -> PlotScale
  ) -> Markup? {
    let strips = LayerGroups(layers, figure: figure).groups
    guard !strips.isEmpty else { return nil }
    let (width, left, right, top, bottom) = (1016.0, 52.0, 8.0, 12.0, 250.0)
    let scale = makeScale(strips.flatMap { $0.layers.compactMap(figure) }, bottom, top)
    var pieces = gridLines(scale, from: left, to: width - right)

    // A strip is as wide as its number of layers, but wide enough for its name.
    let least = 1.6
    let weights = strips.map { max(least, Double($0.layers.count).squareRoot() * 2) }
    let unit = (width - left - right) / weights.reduce(0, +)
    let tilted = zip(strips, weights).contains { Markup.width(of: $0.label) > $1 * unit }
    let height = bottom + (tilted ? 96 : 34)
    var x = left
    for (index, strip) in strips.enumerated() {
      let span = weights[index] * unit
      if index % 2 == 1 {
        pieces.insert(
          .element(
            "rect",
            attributes([("x", x), ("y", top), ("width", span), ("height", bottom - top)])
              + [("class", "band")], []), at: 0)
      }
      let inner = span - 16
      let count = strip.layers.count
      for (position, layer) in strip.layers.enumerated() {
        let share = count == 1 ? 0.5 : (Double(position) + 0.5) / Double(count)
        pieces.append(dot(layer, figure(layer) ?? 0, at: x + 8 + share * inner, scale))
      }
      let middle = x + span / 2
      let turn = "rotate(-35 \(coordinate(middle + 4)) \(coordinate(bottom + 18)))"
      pieces.append(
        .element(
          "text",
          attributes([("x", middle + (tilted ? 4 : 0)), ("y", bottom + (tilted ? 18 : 22))])
            + [("text-anchor", tilted ? "end" : "middle"), ("class", "name")]
            + (tilted ? [("transform", turn)] : []), strip.label))
      x += span
    }
    return plot(width: width, height: height, title: title, pieces)
  }

  private static func dot(
    _ layer: LayerResult, _ value: Double, at x: Double, _ scale: PlotScale
  ) -> Markup {
    let note = "\(layer.tensor): \(ReportNumbers.significant(value)), \(layer.encoding)"
    return .element(
      "circle",
      attributes([("cx", x), ("cy", scale.position(value)), ("r", 3.2)])
        + [("class", layer.fallbacks > 0 ? "dot fallback" : "dot")], [.element("title", [], note)])
  }
}

// The page: one file without scripts and without anything from elsewhere.

import Drift
internal import JSONDocuments

extension RunReport {
  /// The report as one self-contained HTML page.
  public var html: String { "<!DOCTYPE html>\n" + page.html }

  private var page: Markup {
    .element(
      "html", [("lang", "en")],
      [
        .element(
          "head", [],
          [
            .element("meta", [("charset", "utf-8")], []),
            .element(
              "meta", [("name", "viewport"), ("content", "width=device-width, initial-scale=1")], []
            ),
            .element(
              "meta",
              [
                ("http-equiv", "Content-Security-Policy"),
                ("content", "default-src 'none'; style-src 'unsafe-inline'"),
              ], []),
            .element("title", [], "\(model): \(verdictWords)"), .style(Markup.reportStyle),
          ]),
        .element("body", [], [.element("main", [], sections)]),
      ])
  }

  private var sections: [Markup] {
    var sections: [Markup] = [heading]
    sections.append(
      section(
        "Drift by stage",
        "Against the model that the run started from\(scored). Below a mean stands its 95\u{A0}% interval."
          + (driftKind == .encoder ? "" : " KL divergence is in nats."),
        [.table(.drift(of: self), label: "Drift by stage")]))
    let gates = ReportTable.gates(of: self)
    if !gates.rows.isEmpty {
      sections.append(section("Gates", nil, [.table(gates, label: "Gates")]))
    }
    if let plot = Markup.driftPlot(self) {
      sections.append(
        section(
          "Size against drift", "Each point is a stage; the bar is its 95\u{A0}% interval.", [plot])
      )
    }
    sections += stages.compactMap(layerPlot)
    sections += stages.compactMap(sparsityPlot)
    sections += stages.compactMap(lossPlot)
    if !stages.isEmpty { sections.append(section("Stages", nil, stages.map(lineage))) }
    sections += stages.filter { !$0.layers.isEmpty }.map(layerTable)
    sections.append(.element("footer", [], "Made by condense \(toolVersion)."))
    return sections
  }

  private func section(_ title: String, _ words: String?, _ content: [Markup]) -> Markup {
    .element(
      "section", [],
      [.element("h2", [], title)] + (words.map { [.element("p", [], $0)] } ?? []) + content)
  }

  // MARK: the headline

  private var heading: Markup {
    let count = stages.count
    let work = stages.map(\.seconds).filter(\.isFinite).reduce(0, +)
    var tiles: [Markup] = []
    if let last = stages.last {
      tiles = [
        tile("size", [.text(ReportNumbers.bytes(last.bytes))], shrinkage ?? ""),
        tile(
          "bits per weight", [.text(ReportNumbers.bitsPerWeight(last.bitsPerWeight))],
          "scales and tables included"),
      ]
    }
    tiles += driftTile
    let words = gateCounts
    tiles.append(tile("gates", [.verdict(verdict, verdict?.rawValue ?? "none")], words))
    return .element(
      "header", [],
      [
        .element("p", [], "Compression report"), .element("h1", [], model),
        .element(
          "p", [],
          "\(architecture) · \(count) \(count == 1 ? "stage" : "stages") in "
            + ReportNumbers.seconds(work)),
        .element("div", class: "tiles", tiles),
      ])
  }

  private var scored: String {
    switch stages.lazy.compactMap(\.referenceDrift).first {
    case .decoder(let drift)?: ", over \(ReportNumbers.count(drift.tokens)) tokens"
    case .encoder(let drift)?: ", over \(ReportNumbers.count(drift.sentences)) sentences"
    case .samples(let drift)?: ", over \(ReportNumbers.count(drift.samples)) samples"
    case .speech(let drift)?: ", over \(ReportNumbers.count(drift.recordings)) recordings"
    case nil: ""
    }
  }

  private var driftTile: [Markup] {
    switch stages.last(where: { $0.referenceDrift != nil })?.referenceDrift {
    case .decoder(let drift)?:
      return [
        tile(
          "mean KL, nats", [.text(ReportNumbers.significant(drift.kl.mean))],
          ReportNumbers.interval(drift.kl.ci95, ReportNumbers.significant))
      ]
    case .encoder(let drift)?:
      return [
        tile(
          "mean cosine", [.text(ReportNumbers.cosine(drift.cosine.mean))],
          ReportNumbers.interval(drift.cosine.ci95, ReportNumbers.cosine))
      ]
    case .samples(let drift)?:
      if let accuracy = drift.accuracy {
        return [
          tile(
            "accuracy", [.text(ReportNumbers.percent(accuracy))],
            drift.referenceAccuracy.map { "reference " + ReportNumbers.percent($0) } ?? "")
        ]
      }
      if let agreement = drift.agreement {
        return [tile("label agreement", [.text(ReportNumbers.percent(agreement))], "")]
      }
      return [
        tile("output error", [.text(ReportNumbers.significant(drift.outputError ?? .nan))], "")
      ]
    case .speech(let drift)?:
      if let own = drift.wordErrorRate {
        return [
          tile(
            "word error rate", [.text(ReportNumbers.percent(own.rate))],
            drift.referenceWordErrorRate.map { "reference " + ReportNumbers.percent($0) } ?? "")
        ]
      }
      return [
        tile(
          "word errors to the reference",
          [.text(ReportNumbers.percent(drift.toReference?.rate ?? .nan))], "")
      ]
    case nil: return [tile("drift", [.text(ReportNumbers.absent)], "nothing was measured")]
    }
  }

  private func tile(_ label: String, _ value: [Markup], _ note: String) -> Markup {
    .element(
      "div", class: "tile",
      [.element("p", [], label), .element("p", class: "value", value), .element("p", [], note)])
  }

  private var gateCounts: String {
    let gates = stages.flatMap(\.gates)
    guard !gates.isEmpty else { return "the recipe sets no limit" }
    return Verdict.allCases.compactMap { verdict in
      let count = gates.count { $0.verdict == verdict }
      return count > 0 ? "\(count) \(verdict.rawValue)" : nil
    }.joined(separator: ", ")
  }

  // MARK: layers and stages

  private func lossPlot(of stage: StageReport) -> Markup? {
    guard let plot = Markup.lossPlot(stage.curve, title: "Loss curve, \(stage.name)") else {
      return nil
    }
    return .element(
      "section", [],
      [
        .element("h2", [], [.text("Loss curve, "), .element("code", [], stage.name)]),
        .element(
          "p", [],
          "Nats a token by tokens of training: the line is the training loss, the points are validations."
        ),
        plot,
      ])
  }

  private func sparsityPlot(of stage: StageReport) -> Markup? {
    let title = "Zeros by layer, \(stage.name)"
    guard let plot = Markup.sparsityPlot(stage.layers, title: title) else { return nil }
    return .element(
      "section", [],
      [
        .element("h2", [], [.text("Zeros by layer, "), .element("code", [], stage.name)]),
        .element(
          "p", [],
          "Share of weights that are zero, by kind of layer, from the first block to the last."),
        plot,
      ])
  }

  private func layerPlot(of stage: StageReport) -> Markup? {
    let title = "Output error by layer, \(stage.name)"
    guard let plot = Markup.layerPlot(stage.layers, title: title) else { return nil }
    let hidden = LayerGroups(stage.layers).withoutError
    var words = "‖(W−Ŵ)X‖² / ‖WX‖² on a logarithmic scale, by kind of layer, from the first block "
    words += "to the last."
    if hidden > 0 {
      words += " \(hidden) \(hidden == 1 ? "tensor without one is" : "tensors without one are")"
      words += " in the table only."
    }
    return .element(
      "section", [],
      [
        .element("h2", [], [.text("Output error by layer, "), .element("code", [], stage.name)]),
        .element("p", [], words), plot,
      ])
  }

  private func layerTable(of stage: StageReport) -> Markup {
    .element(
      "section", class: "dense",
      [
        .element("h2", [], [.text("Layers of "), .element("code", [], stage.name)]),
        .table(.layers(stage.layers), label: "Layers of \(stage.name)"),
      ])
  }

  private func lineage(of stage: StageReport) -> Markup {
    var entries: [(String, [Markup])] = []
    let options = stage.options.object?.members ?? []
    if !options.isEmpty {
      entries.append(
        (
          "options",
          options.map { member in
            let value = member.value.string ?? member.value.compactText
            return .element(
              "span", class: "option", [.element("code", [], "\(member.key): \(value)")])
          }
        ))
    }
    if let use = stage.calibration {
      let used = ReportNumbers.count(use.used)
      entries.append(
        (
          "calibration",
          [.text("\(used) \(use.unit) used of \(ReportNumbers.count(use.asked)) asked for")]
        ))
    }
    if let drift = stage.inputDrift { entries.append(("against its input", [.text(words(drift))])) }
    entries.append(("time", [.text(ReportNumbers.seconds(stage.seconds))]))
    entries.append(("input SHA-256", [.element("code", [], stage.inputHash)]))
    entries.append(("output SHA-256", [.element("code", [], stage.outputHash)]))
    return .element(
      "div", class: "stage",
      [
        .element(
          "h3", [],
          [.text(stage.name)]
            + (stage.name == stage.kind ? [] : [.element("small", [], stage.kind)])),
        .element(
          "dl", [],
          entries.flatMap { [.element("dt", [], $0.0), .element("dd", [], $0.1)] }),
      ])
  }

  private func words(_ drift: DriftSummary) -> String {
    switch drift {
    case .decoder(let drift):
      "mean KL \(ReportNumbers.significant(drift.kl.mean)) nats "
        + "(\(ReportNumbers.interval(drift.kl.ci95, ReportNumbers.significant))), perplexity ratio "
        + "\(ReportNumbers.ratio(drift.perplexityRatio)), top-1 \(ReportNumbers.percent(drift.top1))"
    case .encoder(let drift):
      "mean cosine \(ReportNumbers.cosine(drift.cosine.mean)) "
        + "(\(ReportNumbers.interval(drift.cosine.ci95, ReportNumbers.cosine)))"
    case .samples(let drift):
      [
        drift.accuracy.map { "accuracy " + ReportNumbers.percent($0) },
        drift.agreement.map { "label agreement " + ReportNumbers.percent($0) },
        drift.divergence.map { "mean KL \(ReportNumbers.significant($0.mean)) nats" },
        drift.outputError.map { "output error " + ReportNumbers.significant($0) },
      ].compactMap { $0 }.joined(separator: ", ")
    case .speech(let drift):
      [
        drift.wordErrorRate.map { "word error rate " + ReportNumbers.percent($0.rate) },
        drift.toReference.map {
          "word errors to the reference " + ReportNumbers.percent($0.rate)
        },
        drift.divergence.map { "mean KL \(ReportNumbers.significant($0.mean)) nats" },
      ].compactMap { $0 }.joined(separator: ", ")
    }
  }
}

extension Markup {
  /// A verdict as sign and word: never by colour alone.
  static func verdict(_ verdict: Verdict?, _ word: String) -> Markup {
    guard let verdict else { return .text(word) }
    return .element(
      "span", class: "verdict \(verdict.rawValue)", [.text("\(verdict.mark) \(word)")])
  }

  static func table(_ table: ReportTable, label: String) -> Markup {
    func kind(_ index: Int) -> [(String, String)] {
      table.columns[index].isNumber ? [("class", "number")] : []
    }
    let head = table.columns.enumerated().map { index, column in
      Markup.element("th", kind(index) + [("scope", "col")], column.title)
    }
    let rows = table.rows.map { row in
      Markup.element(
        "tr", row.isPart ? [("class", "part")] : [],
        row.cells.enumerated().map { index, cell in
          var content: [Markup] =
            [cell.verdict != nil ? verdict(cell.verdict, cell.text) : .text(cell.text)]
          if cell.isCode { content = [.element("code", [], content)] }
          if let note = cell.note { content.append(.element("small", [], note)) }
          return .element("td", kind(index), content)
        })
    }
    return .element(
      "div",
      [
        ("class", "scroll wide"), ("role", "region"), ("aria-label", label), ("tabindex", "0"),
      ],
      [
        .element(
          "table", [],
          [.element("thead", [], [.element("tr", [], head)]), .element("tbody", [], rows)])
      ])
  }
}

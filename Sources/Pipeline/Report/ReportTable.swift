// The tables of a report, once for Markdown and HTML.

import Drift

/// A table of text.
struct ReportTable {
  struct Column {
    let title: String
    var isNumber = true
  }

  struct Cell {
    var text: String
    /// A second, quieter line, such as an interval.
    var note: String?
    var verdict: Verdict?
    /// A name that a file gave.
    var isCode = false
  }

  struct Row {
    var cells: [Cell]
    /// A part of the row above it.
    var isPart = false
  }

  var columns: [Column]
  var rows: [Row] = []
}

extension ReportTable {
  private typealias Numbers = ReportNumbers

  /// Stages and slices with size and drift.
  static func drift(of report: RunReport) -> ReportTable {
    let kinds = report.driftKinds
    let figures = kinds.flatMap(\.columns)
    let titles = ["size", "bits/weight"] + figures + ["time"]
    var table = ReportTable(
      columns: ["stage", "gate"].map { Column(title: $0, isNumber: false) }
        + titles.map { Column(title: $0) })
    let size = Numbers.bytes(report.referenceBytes)
    let blanks = Array(repeating: Cell(text: ""), count: figures.count + 2)
    table.rows.append(
      Row(cells: [Cell(text: "reference"), Cell(text: ""), Cell(text: size)] + blanks))
    for stage in report.stages {
      table.rows.append(
        Row(
          cells: [
            Cell(text: stage.name, isCode: true),
            Cell(text: stage.verdict?.rawValue ?? "none", verdict: stage.verdict),
            Cell(text: Numbers.bytes(stage.bytes)),
            Cell(text: Numbers.bitsPerWeight(stage.bitsPerWeight)),
          ] + cells(stage.referenceDrift, kinds) + [
            Cell(text: Numbers.seconds(stage.seconds))
          ]))
      for slice in stage.slices {
        let gate = stage.gates.filter { $0.slice == slice.name }.worst
        table.rows.append(
          Row(
            cells: [
              Cell(text: slice.name, isCode: true), Cell(text: gate?.rawValue ?? "", verdict: gate),
              Cell(text: ""), Cell(text: ""),
            ] + cells(slice.drift, kinds) + [Cell(text: "")], isPart: true))
      }
    }
    return table
  }

  private static func cells(_ drift: DriftSummary?, _ kinds: [DriftKind]) -> [Cell] {
    kinds.flatMap { cells(drift, $0) }
  }

  private static func cells(_ drift: DriftSummary?, _ kind: DriftKind) -> [Cell] {
    let absent = Array(repeating: Cell(text: Numbers.absent), count: kind.columns.count)
    switch drift {
    case .decoder(let drift)? where kind == .decoder:
      let kl = drift.kl
      return [
        Cell(text: Numbers.perplexity(drift.perplexity)),
        Cell(text: Numbers.ratio(drift.perplexityRatio)),
        Cell(
          text: Numbers.significant(kl.mean),
          note: Numbers.interval(kl.ci95, Numbers.significant)),
      ] + [kl.median, kl.p99, kl.p999, kl.max].map { Cell(text: Numbers.significant($0)) } + [
        Cell(text: Numbers.percent(drift.top1))
      ]
    case .encoder(let drift)? where kind == .encoder:
      let cosine = drift.cosine
      return [
        Cell(
          text: Numbers.cosine(cosine.mean), note: Numbers.interval(cosine.ci95, Numbers.cosine)),
        Cell(text: Numbers.cosine(cosine.p01)), Cell(text: Numbers.cosine(cosine.min)),
        drift.neighbours.map {
          Cell(text: Numbers.percent($0.mean), note: Numbers.interval($0.ci95, Numbers.percent))
        } ?? Cell(text: Numbers.absent),
        Cell(text: drift.spearman.map { Numbers.fixed($0, 2) } ?? Numbers.absent),
      ]
    case .samples(let drift)? where kind == .samples:
      func percent(_ value: Double?) -> String { value.map(Numbers.percent) ?? Numbers.absent }
      return [
        Cell(
          text: percent(drift.accuracy),
          note: drift.accuracyInterval.map {
            Numbers.interval(Interval($0.lowerBound, $0.upperBound), Numbers.percent)
          }), Cell(text: percent(drift.agreement)),
        Cell(text: drift.divergence.map { Numbers.significant($0.mean) } ?? Numbers.absent),
        Cell(text: drift.divergence.map { Numbers.significant($0.p99) } ?? Numbers.absent),
        Cell(text: drift.outputError.map(Numbers.significant) ?? Numbers.absent),
      ]
    case .speech(let drift)? where kind == .speech:
      func percent(_ value: Double?) -> String { value.map(Numbers.percent) ?? Numbers.absent }
      func cell(_ rate: SpeechDrift.WordErrorRate?) -> Cell {
        Cell(
          text: percent(rate?.rate),
          note: rate.map {
            Numbers.interval(
              Interval($0.interval.lowerBound, $0.interval.upperBound), Numbers.percent)
          })
      }
      return [
        cell(drift.wordErrorRate), cell(drift.toReference),
        Cell(text: drift.divergence.map { Numbers.significant($0.mean) } ?? Numbers.absent),
        Cell(text: drift.divergence.map { Numbers.significant($0.p99) } ?? Numbers.absent),
        Cell(text: percent(drift.top1)),
      ]
    default: return absent
    }
  }

  /// Every limit with what was measured.
  static func gates(of report: RunReport) -> ReportTable {
    var table = ReportTable(columns: [
      Column(title: "stage", isNumber: false), Column(title: "gate", isNumber: false),
      Column(title: "limit"), Column(title: "measured"), Column(title: "95 % interval"),
      Column(title: "verdict", isNumber: false),
    ])
    for stage in report.stages {
      for gate in stage.gates {
        func text(_ value: Double) -> String { Numbers.gate(gate.metric, value) }
        table.rows.append(
          Row(cells: [
            Cell(text: stage.name, isCode: true),
            Cell(text: gate.metric + (gate.slice.map { " of \($0)" } ?? ""), isCode: true),
            Cell(text: text(gate.limit)), Cell(text: text(gate.value)),
            Cell(text: gate.ci95.map { Numbers.interval($0, text) } ?? "exact"),
            Cell(text: gate.verdict.rawValue, verdict: gate.verdict),
          ]))
      }
    }
    return table
  }

  /// The layers of one stage.
  static func layers(_ layers: [LayerResult]) -> ReportTable {
    let hasLimit = layers.contains { $0.bitsAboveLimit != nil }
    let hasDrift = layers.contains { $0.predictedDrift != nil }
    let hasZeros = layers.contains { $0.sparsity != nil }
    let titles =
      ["bits/weight", "output error"] + (hasZeros ? ["zeros"] : [])
      + (hasLimit ? ["bits above limit"] : [])
      + (hasDrift ? ["predicted drift"] : []) + ["time", "fallbacks"]
    var table = ReportTable(
      columns: ["tensor", "encoding", "method"].map { Column(title: $0, isNumber: false) }
        + titles.map { Column(title: $0) })
    table.rows = layers.map { layer in
      var cells = [
        Cell(text: layer.tensor, isCode: true), Cell(text: layer.encoding, isCode: true),
        Cell(text: layer.method, isCode: true),
        Cell(text: Numbers.bitsPerWeight(layer.bitsPerWeight)),
        Cell(text: layer.relativeOutputError.map(Numbers.significant) ?? Numbers.absent),
      ]
      if hasZeros {
        cells.append(Cell(text: layer.sparsity.map { Numbers.fixed($0, 6) } ?? Numbers.absent))
      }
      if hasLimit {
        cells.append(
          Cell(text: layer.bitsAboveLimit.map { Numbers.fixed($0, 3) } ?? Numbers.absent))
      }
      if hasDrift {
        cells.append(Cell(text: layer.predictedDrift.map(Numbers.significant) ?? Numbers.absent))
      }
      cells += [
        Cell(text: Numbers.seconds(layer.seconds)),
        Cell(
          text: Numbers.count(layer.fallbacks), verdict: layer.fallbacks > 0 ? .failed : nil),
      ]
      return Row(cells: cells)
    }
    return table
  }
}

extension [GateResult] {
  /// The worst verdict; `nil` when there is none.
  fileprivate var worst: Verdict? {
    [.failed, .undecided, .passed].first { verdict in contains { $0.verdict == verdict } }
  }
}

/// What kind of figures a run's drift has.
public enum DriftKind: Sendable {
  /// Of next-token predictions.
  case decoder
  /// Of embeddings.
  case encoder
  /// Of the numbers that a network over samples gives.
  case samples
  /// Of a speech recognizer.
  case speech

  /// The titles of the drift's columns.
  var columns: [String] {
    switch self {
    case .decoder:
      ["perplexity", "ratio", "KL mean", "median", "99 %", "99.9 %", "largest", "top-1"]
    case .encoder: ["cosine", "1 %", "least", "neighbours", "Spearman"]
    case .samples: ["accuracy", "label agreement", "KL mean", "99 %", "output error"]
    case .speech: ["WER", "WER to reference", "KL mean", "99 %", "top-1"]
    }
  }
}

extension DriftSummary {
  /// What kind of figures it has.
  var kind: DriftKind {
    switch self {
    case .decoder: .decoder
    case .encoder: .encoder
    case .samples: .samples
    case .speech: .speech
    }
  }
}

extension RunReport {
  /// What was measured, each kind once: towers of one model may be of several. A decoder's figures where nothing was.
  public var driftKinds: [DriftKind] {
    var kinds: [DriftKind] = []
    for stage in stages {
      let all = [stage.referenceDrift].compactMap { $0 } + stage.slices.map(\.drift)
      for kind in all.map(\.kind) where !kinds.contains(kind) { kinds.append(kind) }
    }
    return kinds.isEmpty ? [.decoder] : kinds
  }

  /// The first of them.
  public var driftKind: DriftKind { driftKinds[0] }
}

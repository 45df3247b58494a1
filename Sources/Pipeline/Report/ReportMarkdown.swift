// The Markdown summary, for the summary page of a CI job.

import Drift

extension RunReport {
  /// A summary: verdict, sizes, drift, gates, and the layers with the largest errors.
  public var markdown: String {
    var text = "# \(Markdown.escape(model)): \(verdictWords)\n\n\(headline)\n"
    text += "\n## Drift against the reference\n\n" + Markdown.table(.drift(of: self))
    let gates = ReportTable.gates(of: self)
    if !gates.rows.isEmpty { text += "\n## Gates\n\n" + Markdown.table(gates) }
    for stage in stages where !stage.layers.isEmpty {
      let worst = stage.layers.largestErrors(5)
      let fallbacks = stage.layers.reduce(0) { $0 &+ $1.fallbacks }
      let count = stage.layers.count
      text += "\n## Layers of \(Markdown.code(stage.name))\n\n"
      text +=
        "\(count) \(count == 1 ? "tensor" : "tensors"), "
        + "\(fallbacks) \(fallbacks == 1 ? "fallback" : "fallbacks")."
      if let calibration = stage.calibration {
        text +=
          " Calibration: \(ReportNumbers.count(calibration.used)) of "
          + "\(ReportNumbers.count(calibration.asked)) \(calibration.unit) asked for."
      }
      text += " The largest output errors:\n\n" + Markdown.table(.layers(worst))
    }
    return text + "\nMade by condense \(Markdown.escape(toolVersion)).\n"
  }

  var verdictWords: String {
    switch verdict {
    case .passed?: "every gate passed"
    case .failed?: "a gate failed"
    case .undecided?: "a gate is undecided"
    case nil: "no gate"
    }
  }

  private var headline: String {
    guard let last = stages.last else { return "No stage ran." }
    var parts = ["**\(ReportNumbers.bytes(last.bytes))**"]
    if let ratio = shrinkage { parts.append(ratio) }
    parts.append("\(ReportNumbers.bitsPerWeight(last.bitsPerWeight)) bits per weight")
    return parts.joined(separator: " · ")
  }

  /// How much smaller the result is than the reference, in words.
  var shrinkage: String? {
    guard let bytes = stages.last?.bytes, bytes > 0, referenceBytes > 0 else { return nil }
    let ratio = ReportNumbers.fixed(Double(referenceBytes) / Double(bytes), 1)
    return "\(ratio)× smaller than \(ReportNumbers.bytes(referenceBytes))"
  }
}

extension [LayerResult] {
  /// The layers with the largest known errors, largest first, then all with fallbacks.
  fileprivate func largestErrors(_ count: Int) -> [LayerResult] {
    let sorted = enumerated().sorted { a, b in
      let x = a.element.knownError ?? -1
      let y = b.element.knownError ?? -1
      return x == y ? a.offset < b.offset : x > y
    }.map(\.element)
    return sorted.prefix(count) + sorted.dropFirst(count).filter { $0.fallbacks > 0 }
  }
}

extension LayerResult {
  /// The output error, unless it is not a number.
  var knownError: Double? { relativeOutputError.flatMap { $0.isNaN ? nil : $0 } }
}

/// Markdown that no name can break out of.
enum Markdown {
  static func table(_ table: ReportTable) -> String {
    var text = line(table.columns.map { escape($0.title) })
    text += line(table.columns.map { $0.isNumber ? "---:" : "---" })
    for row in table.rows {
      text += line(
        row.cells.enumerated().map { index, cell in
          let body = cell.isCode ? code(cell.text) : escape(cell.text)
          let part = row.isPart && index == 0 ? "↳ " : ""
          let mark = cell.verdict.map { $0.mark + " " } ?? ""
          return part + mark + body + (cell.note.map { " (\(escape($0)))" } ?? "")
        })
    }
    return text
  }

  private static func line(_ cells: [String]) -> String {
    "| " + cells.joined(separator: " | ") + " |\n"
  }

  /// Text with everything that Markdown or HTML gives a meaning to escaped, on one line.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for character in oneLine(text) {
      switch character {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\\", "`", "*", "_", "[", "]", "|", "#", "!", "~": escaped += "\\\(character)"
      default: escaped.append(character)
      }
    }
    return escaped
  }

  /// A name as code.
  static func code(_ text: String) -> String {
    // A cell's `|` must be escaped in code too, and a name with a backtick cannot stand in code.
    guard !text.contains("`"), !text.isEmpty else { return escape(text) }
    return "`" + oneLine(text).replacing("|", with: "\\|") + "`"
  }

  private static func oneLine(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }))
  }
}

extension Verdict {
  /// A sign that stands beside the word.
  var mark: String {
    switch self {
    case .passed: "✓"
    case .failed: "✗"
    case .undecided: "?"
    }
  }
}

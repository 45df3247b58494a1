import JSONDocuments
import Networks
import Pipeline

/// The layer table, printed row by row as layers finish.
final class LayerTable {
  private let isQuiet: Bool
  private var hasHeader = false

  init(isQuiet: Bool) { self.isQuiet = isQuiet }

  /// Before the first row, so that an error before it stands alone.
  private func start() {
    guard !hasHeader else { return }
    hasHeader = true
    Terminal.print(
      Self.pad("tensor", 46) + Self.pad("encoding", 16) + Self.pad("method", 12)
        + Self.pad("bpw", 8) + Self.pad("rel. error", 12) + "seconds")
  }

  func add(_ row: LayerRecord, seconds: Double) {
    guard !isQuiet else { return }
    start()
    var line =
      Self.pad(row.tensor, 46) + Self.pad(row.encoding, 16) + Self.pad(row.method, 12)
      + Self.pad(Figures.text(row.bitsPerWeight, 3), 8)
      + Self.pad(Figures.text(row.relativeError, 6), 12) + Figures.text(seconds, 2)
    if let limit = row.extras.bitsAboveLimit {
      line += "  " + (limit.map { Figures.text($0, 3) } ?? "–") + " bits above the limit"
    }
    if let zeros = row.extras.zeros {
      line += "  \(Figures.text(100 * zeros.share, 3)) % zeros"
      if zeros.reached < zeros.asked {
        line += " (\(zeros.asked - zeros.reached) fewer than before)"
      }
      if zeros.reached > zeros.asked {
        line += " (\(zeros.reached - zeros.asked) were more before)"
      }
    }
    if let tokens = row.extras.routedTokens { line += "  \(tokens) tokens" }
    if row.deadInputs > 0 { line += "  \(row.deadInputs) dead inputs" }
    if row.fallbacks > 0 { line += "  \(row.fallbacks) fallbacks" }
    Terminal.print(line)
  }

  func finish(_ result: StageResult, output: String) {
    if let calibration = result.calibration {
      Terminal.print(
        "calibration \(calibration.unit): \(calibration.used) used, \(calibration.asked) asked for")
    }
    if let allocation = result.allocation {
      Terminal.print(
        "goal: drift \(Figures.text(allocation.measuredDrift, 6)) on \(allocation.table.isHeldOut ? "held-out" : "its own") "
          + "calibration text, \(Figures.text(allocation.predictedDrift, 6)) by the linear model, "
          + (allocation.attempts == 1 ? "1 walk" : "\(allocation.attempts) walks"))
    }
    if let structure = result.structure { Self.show(structure) }
    if let filters = result.filters { Self.show(filters) }
    if let bytes = result.untiedBytes {
      Terminal.print("head untied from the embedding: + \(bytes) bytes")
    }
    if result.resumedLayers > 0 {
      Terminal.print("resumed: \(result.resumedLayers) layers were finished by an earlier run")
    }
    Terminal.print("wrote \(output)")
  }

  /// The sizes of a smaller model, and what the search for them measured.
  private static func show(_ structure: StructureOutcome) {
    for candidate in structure.candidates {
      let s = candidate.sizes
      Terminal.print(
        "candidate: \(s.layers) layers, \(s.heads) heads (\(s.keyHeads) of keys), ffn \(s.inner), width \(s.width): "
          + "\(candidate.parameters) parameters, loss \(Figures.text(candidate.loss, 4))"
          + (structure.isHeldOut ? " on held-out text" : " on calibration text"))
    }
    let old = structure.before, new = structure.after
    let sizes = [
      ("layers", old.layers, new.layers), ("heads", old.heads, new.heads),
      ("heads of keys", old.keyHeads, new.keyHeads), ("ffn", old.inner, new.inner),
      ("width", old.width, new.width),
    ].map { $0.1 == $0.2 ? "\($0.0) \($0.1)" : "\($0.0) \($0.1) → \($0.2)" }
    Terminal.print(sizes.joined(separator: ", "))
    if new.withoutAttention + new.withoutMLP > 0 {
      Terminal.print(
        "layers without attention: \(new.withoutAttention), without MLP: \(new.withoutMLP)")
    }
    Terminal.print(
      "parameters \(structure.parametersBefore) → \(structure.parametersAfter), "
        + Figures.text(
          100 * Double(structure.parametersAfter) / Double(structure.parametersBefore), 2) + " %")
  }

  /// The channels of a smaller network over samples.
  private static func show(_ filters: FilterOutcome) {
    func share(_ before: Int, _ after: Int) -> String {
      "\(before) → \(after), " + Figures.text(100 * Double(after) / Double(max(1, before)), 2)
        + " %"
    }
    let before = filters.groups.reduce(0) { $0 + $1.before }
    Terminal.print(
      "filters \(before) → \(filters.groups.reduce(0) { $0 + $1.after }) in \(filters.groups.count) groups"
    )
    Terminal.print("parameters " + share(filters.parametersBefore, filters.parametersAfter))
    Terminal.print(
      "multiplications " + share(filters.multiplicationsBefore, filters.multiplicationsAfter))
  }

  static func json(_ result: StageResult, drift: MeasuredDrift?) -> JSONValue {
    var object = JSONObject()
    object["schema"] = 1
    object["layers"] = .array(result.layers.map(\.json))
    if let calibration = result.calibration {
      object["calibration"] = [
        "\(calibration.unit)_asked": .integer(calibration.asked),
        "\(calibration.unit)_used": .integer(calibration.used),
      ]
    }
    if let allocation = result.allocation { object["allocation"] = allocation.json }
    if let structure = result.structure { object["structure"] = structure.json }
    if let filters = result.filters { object["filters"] = filters.json }
    if let bytes = result.untiedBytes { object["untied_head_bytes"] = .integer(bytes) }
    if let drift { object["drift"] = drift.json }
    return .object(object)
  }

  static func pad(_ text: String, _ width: Int) -> String {
    text.count >= width ? text + " " : text + String(repeating: " ", count: width - text.count)
  }
}

// How figures are written: the same figure looks the same in every document, whatever the locale.

/// Figures as text. What is not finite is `–`.
enum ReportNumbers {
  static let absent = "–"

  /// With this many digits after the point.
  static func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return value == .infinity ? "∞" : absent }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    guard scaled < 1e15 else { return "\(value)" }
    let all = String(Int(scaled))
    let padded = String(repeating: "0", count: max(0, digits + 1 - all.count)) + all
    let sign = value < 0 && scaled > 0 ? "−" : ""
    return digits == 0
      ? sign + padded : sign + padded.dropLast(digits) + "." + padded.suffix(digits)
  }

  /// With three significant digits, whole thousands in full; powers of ten outside 0.001 to 9994.
  static func significant(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return fixed(value, 0) }
    var exponent = 0
    var mantissa = abs(value)
    while mantissa >= 9.995 {
      mantissa /= 10
      exponent += 1
    }
    while mantissa < 0.9995 {
      mantissa *= 10
      exponent -= 1
    }
    if (-3...3).contains(exponent) { return fixed(value, max(0, 2 - exponent)) }
    return (value < 0 ? "−" : "") + fixed(mantissa, 2) + "e" + (exponent < 0 ? "−" : "")
      + String(abs(exponent))
  }

  /// The same figure without zeros at its end, for axes.
  static func trimmed(_ text: String) -> String {
    let parts = text.split(separator: " ", maxSplits: 1).map(String.init)
    guard var figure = parts.first, figure.contains("."), !figure.contains("e") else { return text }
    while figure.hasSuffix("0") { figure.removeLast() }
    if figure.hasSuffix(".") { figure.removeLast() }
    return ([figure] + parts.dropFirst()).joined(separator: " ")
  }

  static func interval(_ interval: Interval, _ format: (Double) -> String) -> String {
    "\(format(interval.low)) to \(format(interval.high))"
  }

  static func bytes(_ count: Int) -> String {
    var value = Double(count)
    for unit in ["B", "kB", "MB", "GB"] {
      if value < 999.5 { return unit == "B" ? "\(count) B" : threeDigits(value) + " " + unit }
      value /= 1000
    }
    return threeDigits(value) + " TB"
  }

  private static func threeDigits(_ value: Double) -> String {
    fixed(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0)
  }

  static func seconds(_ value: Double) -> String {
    guard value.isFinite, value >= 0, value < 1e9 else { return absent }
    if value < 9.95 { return fixed(value, value < 0.095 ? 2 : 1) + " s" }
    let whole = Int(value.rounded())
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
  }

  /// Groups of three digits with a thin space between them.
  static func count(_ value: Int) -> String {
    let digits = String(value.magnitude)
    var text = value < 0 ? "−" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text += "\u{202F}" }
      text.append(digit)
    }
    return text
  }

  static func perplexity(_ value: Double) -> String { fixed(value, value < 9.9995 ? 3 : 2) }
  static func ratio(_ value: Double) -> String { fixed(value, 4) }
  static func percent(_ share: Double) -> String { fixed(share * 100, 1) + " %" }
  static func cosine(_ value: Double) -> String { fixed(value, 5) }
  static func bitsPerWeight(_ value: Double) -> String { fixed(value, 2) }

  /// A gate's figure in the unit of its metric.
  static func gate(_ metric: String, _ value: Double) -> String {
    switch metric {
    case "max-perplexity-ratio": ratio(value)
    case "min-top1", "min-neighbour-overlap", "min-label-agreement", "max-accuracy-drop":
      percent(value)
    case "min-cosine": cosine(value)
    case "max-spearman-drop": fixed(value, 2)
    case "max-fallbacks": fixed(value, 0)
    default: significant(value)
    }
  }
}

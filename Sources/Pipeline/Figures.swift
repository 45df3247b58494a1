/// Numbers as text: fixed digits, the same on every machine and in every language.
public enum Figures {
  /// A number with so many digits after the point.
  public static func text(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded(.toNearestOrEven)
    guard scaled < 9e15 else { return String(value) }
    let integer = Int(scaled), unit = Int(scale)
    let sign = value < 0 && integer > 0 ? "-" : ""
    guard digits > 0 else { return "\(sign)\(integer)" }
    let fraction = String(integer % unit)
    return sign + "\(integer / unit)."
      + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  /// A byte count in the unit that fits.
  public static func bytes(_ count: Int) -> String {
    switch count {
    case ..<1000: "\(count) B"
    case ..<1_000_000: text(Double(count) / 1e3, 1) + " kB"
    case ..<1_000_000_000: text(Double(count) / 1e6, 2) + " MB"
    default: text(Double(count) / 1e9, 2) + " GB"
    }
  }
}

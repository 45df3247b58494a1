// Sizes as people write them.

/// Sizes in bytes, such as `500MB`, `2GiB`, `1.5G` or `1048576`.
public enum ByteSize {
  private static let units: [(name: String, bytes: Double)] = [
    ("KIB", 1024), ("MIB", 1_048_576), ("GIB", 1_073_741_824), ("KB", 1e3), ("MB", 1e6),
    ("GB", 1e9), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("B", 1),
  ]

  /// The bytes; nil when it is no size.
  public static func parse(_ text: String) -> Int? {
    let upper = text.uppercased()
    let unit = units.first { upper.hasSuffix($0.name) }
    guard let number = Double(upper.dropLast(unit?.name.count ?? 0)), number.isFinite,
      number >= 0, number * (unit?.bytes ?? 1) < 1e18
    else { return nil }
    return Int(number * (unit?.bytes ?? 1))
  }
}

// How HDF5Writer names things. Every tensor is one dataset of the root: a slash in its name would make
// groups, so that it is escaped, as are the names that HDF5 reserves.

/// Names of our own HDF5 files.
enum HDF5Names {
  /// The root's attribute that says which version of these rules the file follows.
  static let versionAttribute = "condense_version"
  static let version = "1"
  /// The root's attributes with JSON.
  static let configurationAttribute = "condense_configuration"
  static let manifestAttribute = "condense_manifest"
  /// The group of side files.
  static let files = "condense_files"

  /// A name that is one link: `%`, `/` and control characters as `%` and two hexadecimal digits.
  static func escaped(_ name: String) -> String {
    if name.isEmpty { return "%" }
    let hexadecimal = Array("0123456789ABCDEF".utf8)
    let isOnlyDots = name.utf8.allSatisfy { $0 == UInt8(ascii: ".") }
    var bytes: [UInt8] = []
    for byte in name.utf8 {
      if byte == UInt8(ascii: "/") || byte == UInt8(ascii: "%") || byte < 0x20 || isOnlyDots {
        bytes += [UInt8(ascii: "%"), hexadecimal[Int(byte >> 4)], hexadecimal[Int(byte & 15)]]
      } else {
        bytes.append(byte)
      }
    }
    let text = String(decoding: bytes, as: UTF8.self)
    // The group's name is taken.
    return text == files ? "%63" + text.dropFirst() : text
  }

  /// The name that was escaped; nil when it is none.
  static func unescaped(_ text: String) -> String? {
    if text == "%" { return "" }
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

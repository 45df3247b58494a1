// A strict JSON reader: RFC 8259, UTF-8 checked, duplicate keys refused, depth limited.
//
// Source   https://www.rfc-editor.org/rfc/rfc8259
// Cost     One pass over the bytes. Strings without escapes are copied once.

/// Why a text is not the JSON that this project reads.
public struct JSONError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong.
  public enum Problem: Sendable, Equatable {
    /// The text ends inside a value.
    case truncated
    /// Another byte stands where `expected` should.
    case unexpected(byte: UInt8, expected: String)
    /// A number that is not written as JSON wants it, or that no double holds.
    case badNumber
    /// A `\` sequence that JSON does not know, or half of a surrogate pair.
    case badEscape
    /// A string with bytes that are not UTF-8.
    case notUTF8
    /// Two members of one object have this key.
    case duplicateKey(String)
    /// Arrays and objects are nested deeper than this.
    case tooDeep(limit: Int)
    /// Bytes follow the document.
    case trailingBytes
  }

  /// What is wrong.
  public let problem: Problem
  /// Bytes from the start of the text.
  public let offset: Int

  /// An error at a byte.
  public init(_ problem: Problem, offset: Int) {
    self.problem = problem
    self.offset = offset
  }

  /// One line without a full stop.
  public var description: String {
    let what =
      switch problem {
      case .truncated: "the JSON ends too early"
      case .unexpected(let byte, let expected):
        "expected \(expected), found \(Self.name(byte))"
      case .badNumber: "not a JSON number"
      case .badEscape: "not a JSON escape sequence"
      case .notUTF8: "a string is not UTF-8"
      case .duplicateKey(let key): "the key '\(key)' stands twice in one object"
      case .tooDeep(let limit): "nested deeper than \(limit) levels"
      case .trailingBytes: "bytes follow the JSON document"
      }
    return "\(what) (byte \(offset))"
  }

  private static func name(_ byte: UInt8) -> String {
    (0x21..<0x7F).contains(byte)
      ? "'\(Character(Unicode.Scalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
  }
}

extension JSONValue {
  /// Arrays and objects nested deeper than this are refused: the reader recurses.
  public static let depthLimit = 128

  /// Reads one document that fills `bytes`; white space (and nothing else) may surround it.
  ///
  /// - Throws: `JSONError` with the byte at fault.
  /// - Complexity: O(bytes); memory is proportional to the text, whatever it claims.
  public init(parsing bytes: Span<UInt8>) throws(JSONError) {
    var offset = 0
    self = try JSONParser.value(bytes, &offset, depth: 0)
    JSONParser.skipSpace(bytes, &offset)
    guard offset == bytes.count else { throw JSONError(.trailingBytes, offset: offset) }
  }

  /// Reads one document from an array of bytes.
  public init(parsing bytes: [UInt8]) throws(JSONError) {
    try self.init(parsing: bytes.span)
  }

  /// Reads one document from a string.
  public init(parsing text: String) throws(JSONError) {
    try self.init(parsing: Array(text.utf8).span)
  }
}

private enum JSONParser {
  static func skipSpace(_ bytes: Span<UInt8>, _ offset: inout Int) {
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0A, 0x0D: offset += 1
      default: return
      }
    }
  }

  static func peek(_ bytes: Span<UInt8>, _ offset: Int) throws(JSONError) -> UInt8 {
    guard offset < bytes.count else { throw JSONError(.truncated, offset: bytes.count) }
    return bytes[offset]
  }

  static func value(
    _ bytes: Span<UInt8>, _ offset: inout Int, depth: Int
  ) throws(JSONError) -> JSONValue {
    skipSpace(bytes, &offset)
    let first = try peek(bytes, offset)
    switch first {
    case UInt8(ascii: "{"): return .object(try object(bytes, &offset, depth: depth + 1))
    case UInt8(ascii: "["): return .array(try array(bytes, &offset, depth: depth + 1))
    case UInt8(ascii: "\""): return .string(try string(bytes, &offset))
    case UInt8(ascii: "t"): return try word("true", .bool(true), bytes, &offset)
    case UInt8(ascii: "f"): return try word("false", .bool(false), bytes, &offset)
    case UInt8(ascii: "n"): return try word("null", .null, bytes, &offset)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
      return try number(bytes, &offset)
    default: throw JSONError(.unexpected(byte: first, expected: "a value"), offset: offset)
    }
  }

  static func word(
    _ text: StaticString, _ value: JSONValue, _ bytes: Span<UInt8>, _ offset: inout Int
  ) throws(JSONError) -> JSONValue {
    for expected in "\(text)".utf8 {
      let found = try peek(bytes, offset)
      guard found == expected else {
        throw JSONError(.unexpected(byte: found, expected: "'\(text)'"), offset: offset)
      }
      offset += 1
    }
    return value
  }

  static func array(
    _ bytes: Span<UInt8>, _ offset: inout Int, depth: Int
  ) throws(JSONError) -> [JSONValue] {
    guard depth <= JSONValue.depthLimit else {
      throw JSONError(.tooDeep(limit: JSONValue.depthLimit), offset: offset)
    }
    offset += 1
    var elements: [JSONValue] = []
    skipSpace(bytes, &offset)
    if try peek(bytes, offset) == UInt8(ascii: "]") {
      offset += 1
      return elements
    }
    while true {
      elements.append(try value(bytes, &offset, depth: depth))
      skipSpace(bytes, &offset)
      let next = try peek(bytes, offset)
      offset += 1
      if next == UInt8(ascii: "]") { return elements }
      guard next == UInt8(ascii: ",") else {
        throw JSONError(.unexpected(byte: next, expected: "',' or ']'"), offset: offset - 1)
      }
    }
  }

  static func object(
    _ bytes: Span<UInt8>, _ offset: inout Int, depth: Int
  ) throws(JSONError) -> JSONObject {
    guard depth <= JSONValue.depthLimit else {
      throw JSONError(.tooDeep(limit: JSONValue.depthLimit), offset: offset)
    }
    offset += 1
    var members: [JSONObject.Member] = []
    var seen = SeenKeys()
    skipSpace(bytes, &offset)
    if try peek(bytes, offset) == UInt8(ascii: "}") {
      offset += 1
      return JSONObject(members)
    }
    while true {
      skipSpace(bytes, &offset)
      let start = offset
      let quote = try peek(bytes, offset)
      guard quote == UInt8(ascii: "\"") else {
        throw JSONError(.unexpected(byte: quote, expected: "a key in quotes"), offset: offset)
      }
      let key = try string(bytes, &offset)
      guard seen.insert(key) else { throw JSONError(.duplicateKey(key), offset: start) }
      skipSpace(bytes, &offset)
      let colon = try peek(bytes, offset)
      guard colon == UInt8(ascii: ":") else {
        throw JSONError(.unexpected(byte: colon, expected: "':'"), offset: offset)
      }
      offset += 1
      members.append(.init(key: key, value: try value(bytes, &offset, depth: depth)))
      skipSpace(bytes, &offset)
      let next = try peek(bytes, offset)
      offset += 1
      if next == UInt8(ascii: "}") { return JSONObject(members) }
      guard next == UInt8(ascii: ",") else {
        throw JSONError(.unexpected(byte: next, expected: "',' or '}'"), offset: offset - 1)
      }
    }
  }

  static func number(_ bytes: Span<UInt8>, _ offset: inout Int) throws(JSONError) -> JSONValue {
    let start = offset
    var isInteger = true
    func digits() -> Int {
      let before = offset
      while offset < bytes.count, (0x30...0x39).contains(bytes[offset]) { offset += 1 }
      return offset - before
    }
    if bytes[offset] == UInt8(ascii: "-") { offset += 1 }
    let leading = try peek(bytes, offset)
    let count = digits()
    guard count > 0, count == 1 || leading != 0x30 else {
      throw JSONError(.badNumber, offset: start)
    }
    if offset < bytes.count, bytes[offset] == UInt8(ascii: ".") {
      isInteger = false
      offset += 1
      guard digits() > 0 else { throw JSONError(.badNumber, offset: start) }
    }
    if offset < bytes.count, bytes[offset] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      offset += 1
      if offset < bytes.count, bytes[offset] == 0x2B || bytes[offset] == 0x2D { offset += 1 }
      guard digits() > 0 else { throw JSONError(.badNumber, offset: start) }
    }
    if isInteger, let integer = integerValue(bytes.extracting(start..<offset)) {
      return .integer(integer)
    }
    let text = String(decoding: (start..<offset).map { bytes[$0] }, as: UTF8.self)
    guard let value = Double(text), value.isFinite else {
      throw JSONError(.badNumber, offset: start)
    }
    return .number(value)
  }

  private static func integerValue(_ digits: Span<UInt8>) -> Int? {
    let negative = digits[0] == UInt8(ascii: "-")
    var value = 0
    for i in (negative ? 1 : 0)..<digits.count {
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let digit = Int(digits[i] - 0x30)
      let (sum, carry) =
        negative
        ? product.subtractingReportingOverflow(digit) : product.addingReportingOverflow(digit)
      if overflow || carry { return nil }
      value = sum
    }
    return value
  }

  static func string(_ bytes: Span<UInt8>, _ offset: inout Int) throws(JSONError) -> String {
    let start = offset + 1
    var end = start
    while end < bytes.count, bytes[end] != UInt8(ascii: "\""), bytes[end] != UInt8(ascii: "\\"),
      bytes[end] >= 0x20
    { end += 1 }
    var text = try utf8(bytes, start..<end)
    while true {
      let byte = try peek(bytes, end)
      if byte == UInt8(ascii: "\"") {
        offset = end + 1
        return text
      }
      guard byte == UInt8(ascii: "\\") else {
        throw JSONError(
          .unexpected(byte: byte, expected: "a string without control characters"), offset: end)
      }
      text.unicodeScalars.append(try escape(bytes, &end))
      let runStart = end
      while end < bytes.count, bytes[end] != UInt8(ascii: "\""), bytes[end] != UInt8(ascii: "\\"),
        bytes[end] >= 0x20
      { end += 1 }
      text += try utf8(bytes, runStart..<end)
    }
  }

  private static func utf8(
    _ bytes: Span<UInt8>, _ range: Range<Int>
  ) throws(JSONError) -> String {
    let part = bytes.extracting(range)
    let text = unsafe part.withUnsafeBufferPointer {
      unsafe String(validating: $0, as: UTF8.self)
    }
    guard let text else { throw JSONError(.notUTF8, offset: range.lowerBound) }
    return text
  }

  private static func escape(
    _ bytes: Span<UInt8>, _ offset: inout Int
  ) throws(JSONError) -> Unicode.Scalar {
    let start = offset
    let kind = try peek(bytes, offset + 1)
    offset += 2
    switch kind {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(kind)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw JSONError(.badEscape, offset: start)
    }
    let first = try hexadecimal(bytes, &offset, start: start)
    if let scalar = Unicode.Scalar(first) { return scalar }
    guard (0xD800..<0xDC00).contains(first), try peek(bytes, offset) == UInt8(ascii: "\\"),
      try peek(bytes, offset + 1) == UInt8(ascii: "u")
    else { throw JSONError(.badEscape, offset: start) }
    offset += 2
    let second = try hexadecimal(bytes, &offset, start: start)
    guard (0xDC00..<0xE000).contains(second),
      let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    else { throw JSONError(.badEscape, offset: start) }
    return scalar
  }

  private static func hexadecimal(
    _ bytes: Span<UInt8>, _ offset: inout Int, start: Int
  ) throws(JSONError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      let digit: UInt32? =
        switch try peek(bytes, offset) {
        case let byte where (0x30...0x39).contains(byte): UInt32(byte - 0x30)
        case let byte where (0x41...0x46).contains(byte): UInt32(byte - 0x41 + 10)
        case let byte where (0x61...0x66).contains(byte): UInt32(byte - 0x61 + 10)
        default: nil
        }
      guard let digit else { throw JSONError(.badEscape, offset: start) }
      value = value << 4 | digit
      offset += 1
    }
    return value
  }
}

/// The keys of one object so far, compared by bytes. Small objects are searched, large ones hashed.
private struct SeenKeys {
  private struct Key: Hashable {
    let text: String
    static func == (a: Key, b: Key) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }
    func hash(into hasher: inout Hasher) {
      var text = text
      text.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
  }

  private var few: [String] = []
  private var many: Set<Key> = []

  /// False when the key is there already.
  mutating func insert(_ key: String) -> Bool {
    if many.isEmpty {
      guard !few.contains(where: { $0.utf8.elementsEqual(key.utf8) }) else { return false }
      few.append(key)
      if few.count > 16 { many = Set(few.map { Key(text: $0) }) }
      return true
    }
    return many.insert(Key(text: key)).inserted
  }
}

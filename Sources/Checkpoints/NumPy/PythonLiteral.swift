// As much of Python's literals as the header of a NumPy file has.

/// A cursor over the literal's text.
struct PythonLiteral {
  enum Value: Equatable {
    case text(String)
    case bool(Bool)
    case integer(Int)
    case tuple([Value])
    case list
    case dictionary([Member])
  }

  struct Member: Equatable {
    let key: String
    let value: Value
  }

  private let bytes: [UInt8]
  private var position = 0
  /// Where the text stands in the file, for messages.
  private let start: Int

  init(_ bytes: [UInt8], offset: Int) {
    self.bytes = bytes
    start = offset
  }

  /// The one value that the text holds.
  mutating func document() throws(CheckpointError.Problem) -> Value {
    let value = try value(depth: 0)
    guard next() == nil else { throw damaged("text after the header") }
    return value
  }

  private func damaged(_ what: String) -> CheckpointError.Problem {
    .damaged(what: what, offset: start + position)
  }

  /// The next byte that is no white space, left in place.
  private mutating func next() -> UInt8? {
    while position < bytes.count, bytes[position] == 0x20 || (9...13).contains(bytes[position]) {
      position += 1
    }
    return position < bytes.count ? bytes[position] : nil
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next() == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func takeWord(_ word: String) -> Bool {
    guard bytes[position...].starts(with: word.utf8) else { return false }
    position += word.utf8.count
    return true
  }

  private mutating func value(depth: Int) throws(CheckpointError.Problem) -> Value {
    guard depth < 8 else { throw damaged("the header is nested too deep") }
    switch next() {
    case UInt8(ascii: "'"), UInt8(ascii: "\""): return .text(try text())
    case UInt8(ascii: "{"): return .dictionary(try members(depth: depth))
    case UInt8(ascii: "("):
      position += 1
      return .tuple(try elements(until: ")", depth: depth))
    case UInt8(ascii: "["):
      position += 1
      _ = try elements(until: "]", depth: depth)
      return .list
    case UInt8(ascii: "T") where takeWord("True"): return .bool(true)
    case UInt8(ascii: "F") where takeWord("False"): return .bool(false)
    default: return .integer(try integer())
    }
  }

  private mutating func members(depth: Int) throws(CheckpointError.Problem) -> [Member] {
    position += 1
    var members: [Member] = []
    while !take("}") {
      guard let quote = next(), quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
        throw damaged("a key of the header is no text")
      }
      let key = try text()
      guard take(":") else { throw damaged("no ':' after a key of the header") }
      members.append(Member(key: key, value: try value(depth: depth + 1)))
      guard take(",") || next() == UInt8(ascii: "}") else {
        throw damaged("no ',' or '}' after a value of the header")
      }
    }
    return members
  }

  private mutating func elements(
    until end: Unicode.Scalar, depth: Int
  ) throws(CheckpointError.Problem) -> [Value] {
    var elements: [Value] = []
    while !take(end) {
      elements.append(try value(depth: depth + 1))
      guard take(",") || next() == UInt8(ascii: end) else {
        throw damaged("no ',' between the values of the header")
      }
    }
    return elements
  }

  private mutating func text() throws(CheckpointError.Problem) -> String {
    let quote = bytes[position]
    let first = position + 1
    guard let end = bytes[first...].firstIndex(of: quote), !bytes[first..<end].contains(0x5C),
      let text = String(validating: bytes[first..<end], as: UTF8.self)
    else { throw damaged("a text of the header does not end") }
    position = end + 1
    return text
  }

  private mutating func integer() throws(CheckpointError.Problem) -> Int {
    let first = position
    if position < bytes.count, bytes[position] == UInt8(ascii: "-") { position += 1 }
    while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
    guard let value = Int(String(decoding: bytes[first..<position], as: UTF8.self)) else {
      throw damaged("a value of the header is neither text, number, tuple nor truth")
    }
    // Python 2 wrote long integers with this letter.
    _ = take("L")
    return value
  }
}

// Numbers, texts and containers of a pickle.

extension PickleMachine {
  // MARK: - Numbers

  /// A decimal number in a line of its own.
  mutating func decimal() throws(CheckpointError.Problem) -> Int {
    var digits = reader.array(try reader.line())
    if digits.last == UInt8(ascii: "L") { digits.removeLast() }
    guard digits.count <= 20, let value = Int(String(decoding: digits, as: UTF8.self)) else {
      throw damaged("no decimal number where one is expected")
    }
    return value
  }

  mutating func number(_ code: UInt8) throws(CheckpointError.Problem) -> PickleValue {
    switch code {
    case UInt8(ascii: "N"): return .none
    case 0x88: return .bool(true)
    case 0x89: return .bool(false)
    case UInt8(ascii: "J"): return .integer(try reader.int32())
    case UInt8(ascii: "K"): return .integer(Int(try reader.byte()))
    case UInt8(ascii: "M"): return .integer(Int(try reader.integer(2)))
    case UInt8(ascii: "L"): return .integer(try decimal())
    case UInt8(ascii: "I"):
      // Protocol 0 writes truth as these two words.
      let line = reader.array(try reader.line())
      if line.elementsEqual("00".utf8) { return .bool(false) }
      if line.elementsEqual("01".utf8) { return .bool(true) }
      guard line.count <= 20, let value = Int(String(decoding: line, as: UTF8.self)) else {
        throw damaged("no decimal number where one is expected")
      }
      return .integer(value)
    case 0x8A: return try longInteger(UInt64(try reader.byte()))
    case 0x8B: return try longInteger(try reader.integer(4))
    case UInt8(ascii: "G"):
      try reader.skip(8)
      return .float
    default:
      _ = try reader.line()
      return .float
    }
  }

  /// Two's complement, little-endian, of any length.
  private mutating func longInteger(_ count: UInt64) throws(CheckpointError.Problem) -> PickleValue
  {
    let range = try reader.claim(count)
    guard range.count <= 8 else {
      return .bigInteger(start: range.lowerBound, count: UInt32(clamping: range.count))
    }
    var bits: UInt64 = 0
    for (index, byte) in reader.array(range).enumerated() {
      bits |= UInt64(byte) << UInt64(8 * index)
    }
    guard range.count > 0 else { return .integer(0) }
    let shift = UInt64(64 - 8 * range.count)
    return .integer(Int(Int64(bitPattern: bits << shift) >> Int64(shift)))
  }

  // MARK: - Texts

  mutating func text(_ code: UInt8) throws(CheckpointError.Problem) -> PickleValue {
    switch code {
    case UInt8(ascii: "S"):
      // A Python literal in quotes.
      let line = try reader.line()
      guard line.count >= 2 else { throw damaged("a text without quotes") }
      return plain(line.lowerBound + 1..<line.upperBound - 1)
    case UInt8(ascii: "V"): return plain(try reader.line())
    case UInt8(ascii: "U"): return plain(try claim(1))
    case UInt8(ascii: "T"): return plain(try claim(4))
    case 0x8C: return value(try claim(1), isText: true)
    case UInt8(ascii: "X"): return value(try claim(4), isText: true)
    case 0x8D: return value(try claim(8), isText: true)
    case UInt8(ascii: "C"): return value(try claim(1), isText: false)
    case UInt8(ascii: "B"): return value(try claim(4), isText: false)
    default: return value(try claim(8), isText: false)
    }
  }

  /// A length of so many bytes, and what it counts.
  private mutating func claim(_ size: Int) throws(CheckpointError.Problem) -> Range<Int> {
    try reader.claim(try reader.integer(size))
  }

  private func value(_ range: Range<Int>, isText: Bool) -> PickleValue {
    let count = UInt32(clamping: range.count)
    return isText
      ? .text(start: range.lowerBound, count: count) : .bytes(start: range.lowerBound, count: count)
  }

  /// Texts of protocols 0 and 1 are names only where they need no decoding.
  private func plain(_ range: Range<Int>) -> PickleValue {
    let isPlain =
      range.count <= 1 << 16
      && reader.array(range).allSatisfy { (0x20..<0x7F).contains($0) && $0 != UInt8(ascii: "\\") }
    return value(range, isText: isPlain)
  }

  // MARK: - Containers

  mutating func container(_ code: UInt8) throws(CheckpointError.Problem) {
    switch code {
    case UInt8(ascii: ")"): try push(.tuple(try makeContainer([])))
    case UInt8(ascii: "]"): try push(.list(try makeContainer([])))
    case UInt8(ascii: "}"): try push(.dictionary(try makeContainer([])))
    case 0x8F: try push(.set(try makeContainer([])))
    case UInt8(ascii: "t"): try push(.tuple(try makeContainer(try popToMark())))
    case UInt8(ascii: "l"): try push(.list(try makeContainer(try popToMark())))
    case 0x91: try push(.set(try makeContainer(try popToMark())))
    case UInt8(ascii: "d"): try push(.dictionary(try makeContainer(try pairs(popToMark()))))
    case 0x85, 0x86, 0x87:
      var values: [PickleValue] = []
      for _ in 0...code - 0x85 { values.append(try popValue()) }
      try push(.tuple(try makeContainer(values.reversed())))
    case UInt8(ascii: "a"): try extend([try popValue()])
    case UInt8(ascii: "e"), 0x90: try extend(try popToMark())
    case UInt8(ascii: "s"):
      let value = try popValue()
      try extend([try popValue(), value], asPairs: true)
    case UInt8(ascii: "u"): try extend(try pairs(popToMark()), asPairs: true)
    case 0x82, 0x83, 0x84: throw .unsupported("a pickle with registered extensions")
    case 0x97, 0x98: throw .unsupported("a pickle with buffers outside of it")
    default: throw damaged("an opcode that does not exist, \(code)")
    }
  }

  mutating func popValue() throws(CheckpointError.Problem) -> PickleValue {
    let value = try pop()
    if case .mark = value { throw damaged("a mark where a value is expected") }
    return value
  }

  private func pairs(_ values: [PickleValue]) throws(CheckpointError.Problem) -> [PickleValue] {
    guard values.count.isMultiple(of: 2) else { throw damaged("a key without a value") }
    return values
  }

  private mutating func extend(
    _ values: [PickleValue], asPairs: Bool = false
  ) throws(CheckpointError.Problem) {
    switch try top() {
    case .list(let index) where !asPairs, .set(let index) where !asPairs: try add(values, to: index)
    case .dictionary(let index) where asPairs: try add(values, to: index)
    default: throw damaged("elements for what is no container")
    }
  }
}

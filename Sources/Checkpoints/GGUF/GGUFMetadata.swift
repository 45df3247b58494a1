// The key-value section of a GGUF file.
//
// Source   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3
// Layout   key: string · type: u32 · value; string: u64 length + bytes; array: u32 type · u64 count · values
//          all little-endian

import Tensors

/// The types of metadata values, with the numbers that files use.
public enum GGUFValueType: UInt32, Sendable {
  /// Unsigned and signed integers, a 32-bit float and a truth value of one byte.
  case uint8 = 0, int8, uint16, int16, uint32, int32, float32, bool
  /// A length and bytes, UTF-8 by convention.
  case string
  /// Values of one type.
  case array
  /// 64-bit numbers.
  case uint64, int64, float64

  /// Bytes of a value; nil where it depends on the value.
  var byteCount: Int? {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    case .string, .array: nil
    }
  }
}

/// One metadata value.
public enum GGUFValue: Sendable {
  /// An integer or a truth value.
  case integer(Int, GGUFValueType)
  /// A float.
  case number(Double, GGUFValueType)
  /// Text, UTF-8 by convention.
  case string([UInt8])
  /// Many values.
  case array(GGUFArray)

  /// A text value.
  public init(_ text: String) { self = .string(Array(text.utf8)) }
  /// A 32-bit unsigned integer.
  public init(_ value: Int) { self = .integer(value, .uint32) }
  /// A 32-bit float.
  public init(_ value: Float) { self = .number(Double(value), .float32) }
  /// A truth value.
  public init(_ value: Bool) { self = .integer(value ? 1 : 0, .bool) }

  /// The integer; nil for other kinds.
  public var integer: Int? {
    if case .integer(let value, _) = self { return value }
    return nil
  }
  /// The number, from an integer or a float; nil for other kinds.
  public var number: Double? {
    switch self {
    case .integer(let value, _): Double(value)
    case .number(let value, _): value
    default: nil
    }
  }
  /// The truth value; nil for other kinds.
  public var bool: Bool? {
    if case .integer(let value, .bool) = self { return value != 0 }
    return nil
  }
  /// The text, with U+FFFD for bytes that are not UTF-8; nil for other kinds.
  public var text: String? {
    if case .string(let bytes) = self { return String(decoding: bytes, as: UTF8.self) }
    return nil
  }
  /// The array; nil for other kinds.
  public var array: GGUFArray? {
    if case .array(let array) = self { return array }
    return nil
  }

  /// The type that a file says.
  var type: GGUFValueType {
    switch self {
    case .integer(_, let type), .number(_, let type): type
    case .string: .string
    case .array: .array
    }
  }
}

/// An array as it lies in a file: its values are read when they are asked for, so that a header costs no more
/// memory than its file.
public struct GGUFArray: Sendable {
  /// The type of every value.
  public let type: GGUFValueType
  /// How many values there are.
  public let count: Int
  let storage: StoredBytes
  let range: Range<Int>

  init(type: GGUFValueType, count: Int, storage: StoredBytes, range: Range<Int>) {
    self.type = type
    self.count = count
    self.storage = storage
    self.range = range
  }

  private init(_ type: GGUFValueType, count: Int, bytes: [UInt8]) {
    self.init(
      type: type, count: count, storage: StoredBytes(copying: bytes), range: 0..<bytes.count)
  }

  /// An array of texts.
  public init(_ texts: [[UInt8]]) {
    var bytes: [UInt8] = []
    for text in texts {
      bytes.append(UInt64(text.count))
      bytes += text
    }
    self.init(.string, count: texts.count, bytes: bytes)
  }

  /// An array of 32-bit floats.
  public init(_ values: [Float]) {
    var bytes: [UInt8] = []
    for value in values { bytes.append(value.bitPattern) }
    self.init(.float32, count: values.count, bytes: bytes)
  }

  /// An array of 32-bit signed integers.
  public init(_ values: [Int32]) {
    var bytes: [UInt8] = []
    for value in values { bytes.append(UInt32(bitPattern: value)) }
    self.init(.int32, count: values.count, bytes: bytes)
  }

  /// The texts; nil when the values are something else.
  public var texts: [[UInt8]]? {
    guard type == .string else { return nil }
    var reader = ByteReader(storage, at: range.lowerBound, end: range.upperBound)
    return (0..<count).compactMap { _ in
      (try? reader.length()).flatMap { try? reader.next($0) }
    }
  }

  /// The values as numbers; nil when they are texts or arrays.
  public var numbers: [Double]? {
    guard let size = type.byteCount else { return nil }
    return storage.withBytes(range) { span in
      (0..<count).map { index in
        let bytes = span.extracting(index * size..<(index + 1) * size)
        return switch type {
        case .float32:
          Double(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: Float.self))
        case .float64: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: Double.self)
        default: Double(GGUFMetadata.integer(bytes, type))
        }
      }
    }
  }
}

/// All metadata of a file, in its order.
public struct GGUFMetadata: Sendable {
  /// The keys, in the order of the file.
  public private(set) var keys: [String] = []
  private var values: [String: GGUFValue] = [:]

  /// Nothing yet.
  public init() {}

  /// The value of a key; nil when it is not there. Setting a new key appends it.
  public subscript(key: String) -> GGUFValue? {
    get { values[key] }
    set {
      if values[key] == nil, newValue != nil { keys.append(key) }
      if newValue == nil { keys.removeAll { $0 == key } }
      values[key] = newValue
    }
  }

  /// An array may hold arrays to this depth.
  private static let deepestArray = 4

  /// Reads the section; the reader stands at its first key.
  init(_ reader: inout ByteReader, count: UInt64) throws(CheckpointError.Problem) {
    // A key, a type and a value take at least 13 bytes.
    guard count <= UInt64(reader.available / 13) else {
      throw .countTooLarge(what: "metadata values", count: count, available: reader.available)
    }
    for _ in 0..<Int(count) {
      let key = String(decoding: try reader.next(try reader.length()), as: UTF8.self)
      guard !key.isEmpty, values[key] == nil else {
        throw .badValue(found: "the metadata key '\(key)'", expected: "a new key")
      }
      let value = try Self.value(
        &reader, type: try Self.type(UInt32(try reader.integer(4))))
      values[key] = value
      keys.append(key)
    }
  }

  private static func type(_ raw: UInt32) throws(CheckpointError.Problem) -> GGUFValueType {
    guard let type = GGUFValueType(rawValue: raw) else {
      throw .badValue(found: "the metadata type \(raw)", expected: "0 to 12")
    }
    return type
  }

  private static func value(
    _ reader: inout ByteReader, type: GGUFValueType
  ) throws(CheckpointError.Problem) -> GGUFValue {
    switch type {
    case .string: return .string(try reader.next(try reader.length()))
    case .array:
      let element = try Self.type(UInt32(try reader.integer(4)))
      let count = try reader.integer(8)
      let start = reader.offset
      try skip(&reader, type: element, count: count, depth: 0)
      return .array(
        GGUFArray(
          type: element, count: Int(count), storage: reader.bytes,
          range: start..<reader.offset))
    case .float32:
      return .number(Double(Float(bitPattern: UInt32(try reader.integer(4)))), type)
    case .float64: return .number(Double(bitPattern: try reader.integer(8)), type)
    default:
      let range = try reader.claim(UInt64(type.byteCount ?? 0))
      return .integer(reader.bytes.withBytes(range) { integer($0, type) }, type)
    }
  }

  private static func skip(
    _ reader: inout ByteReader, type: GGUFValueType, count: UInt64, depth: Int
  ) throws(CheckpointError.Problem) {
    let least = type.byteCount ?? (type == .string ? 8 : 12)
    guard count <= UInt64(reader.available / least) else {
      throw .countTooLarge(what: "array values", count: count, available: reader.available)
    }
    switch type {
    case .string:
      for _ in 0..<Int(count) { _ = try reader.claim(UInt64(try reader.length())) }
    case .array:
      guard depth < deepestArray else {
        throw .badValue(
          found: "arrays in arrays", expected: "at most \(deepestArray) levels of them")
      }
      for _ in 0..<Int(count) {
        let element = try Self.type(UInt32(try reader.integer(4)))
        try skip(&reader, type: element, count: try reader.integer(8), depth: depth + 1)
      }
    default: _ = try reader.claim(count * UInt64(least))
    }
  }

  /// An integer of a type; 64-bit unsigned ones beyond `Int` are clamped.
  static func integer(_ bytes: RawSpan, _ type: GGUFValueType) -> Int {
    switch type {
    case .uint8, .bool: Int(unsafe bytes.unsafeLoad(fromByteOffset: 0, as: UInt8.self))
    case .int8: Int(unsafe bytes.unsafeLoad(fromByteOffset: 0, as: Int8.self))
    case .uint16: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt16.self))
    case .int16: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: Int16.self))
    case .uint32: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt32.self))
    case .int32: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: Int32.self))
    case .int64: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: Int64.self))
    default:
      Int(clamping: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self))
    }
  }

  /// The section as a file holds it, without its count.
  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    for key in keys {
      guard let value = values[key] else { continue }
      bytes.append(UInt64(key.utf8.count))
      bytes += Array(key.utf8)
      bytes.append(value.type.rawValue)
      switch value {
      case .integer(let integer, let type):
        let pattern = UInt64(bitPattern: Int64(integer))
        for byte in 0..<(type.byteCount ?? 0) {
          bytes.append(UInt8(truncatingIfNeeded: pattern >> UInt64(8 * byte)))
        }
      case .number(let number, .float32): bytes.append(Float(number).bitPattern)
      case .number(let number, _): bytes.append(number.bitPattern)
      case .string(let text):
        bytes.append(UInt64(text.count))
        bytes += text
      case .array(let array):
        bytes.append(array.type.rawValue)
        bytes.append(UInt64(array.count))
        array.storage.withBytes(array.range) { span in
          unsafe span.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
        }
      }
    }
    return bytes
  }
}

extension [UInt8] {
  /// Appends an integer, least significant byte first.
  mutating func append<Integer: FixedWidthInteger>(_ value: Integer)
  where Integer: UnsignedInteger {
    for byte in 0..<MemoryLayout<Integer>.size {
      append(UInt8(truncatingIfNeeded: value >> Integer(8 * byte)))
    }
  }
}

// The header of a NumPy array file.
//
// Layout   0x93 "NUMPY", version (2 bytes), header length (u16, from version 2 on u32), a Python literal
//          {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, padding, line feed, data
// Source   https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

import Tensors

/// What a header says, checked on its own.
struct NumPyHeader: Equatable {
  var dtype: DType
  var isBigEndian: Bool
  var isColumnMajor: Bool
  var shape: [Int]
  /// Bytes before the data.
  var byteCount: Int

  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
  /// NumPy itself refuses more than 10,000 bytes from files that are not trusted.
  static let byteLimit = 10_000

  /// Bytes of the data.
  private(set) var dataByteCount = 0

  /// Reads the header at the start of some bytes.
  init(of bytes: StoredBytes, range: Range<Int>) throws(CheckpointError.Problem) {
    var reader = ByteReader(bytes, at: range.lowerBound, end: range.upperBound)
    let magic = try reader.claim(UInt64(Self.magic.count))
    guard reader.array(magic) == Self.magic else {
      throw .damaged(what: "no NumPy array starts here", offset: magic.lowerBound)
    }
    let major = try reader.byte()
    let minor = try reader.byte()
    guard (1...3).contains(major), minor == 0 else {
      throw .unsupported("version \(major).\(minor) of the NumPy format")
    }
    let length = try reader.integer(major == 1 ? 2 : 4)
    guard length <= UInt64(Self.byteLimit) else {
      throw .headerTooLarge(bytes: length, limit: Self.byteLimit)
    }
    let text = try reader.claim(length)
    var literal = PythonLiteral(reader.array(text), offset: text.lowerBound)
    byteCount = reader.offset - range.lowerBound
    guard case .dictionary(let members) = try literal.document() else {
      throw .damaged(what: "the header is not a dictionary", offset: text.lowerBound)
    }
    guard members.map(\.key).sorted() == ["descr", "fortran_order", "shape"] else {
      throw .damaged(what: "the header has other keys", offset: text.lowerBound)
    }
    (dtype, isBigEndian, isColumnMajor, shape) = (.float32, false, false, [])
    for member in members {
      switch (member.key, member.value) {
      case ("descr", .text(let type)): (dtype, isBigEndian) = try Self.elementType(type)
      case ("descr", _): throw .unsupported("a structured NumPy array")
      case ("fortran_order", .bool(let flag)): isColumnMajor = flag
      case ("shape", .tuple(let dimensions)): shape = try Self.shape(dimensions)
      default: throw .missing(key: member.key, expected: "of the type that NumPy writes")
      }
    }
    guard let dataByteCount = dtype.byteCount(of: shape) else { throw .badShape(shape) }
    self.dataByteCount = dataByteCount
  }

  private static func shape(
    _ dimensions: [PythonLiteral.Value]
  ) throws(CheckpointError.Problem) -> [Int] {
    var shape: [Int] = []
    for dimension in dimensions {
      guard case .integer(let size) = dimension else {
        throw .missing(key: "shape", expected: "a tuple of integers")
      }
      shape.append(size)
    }
    // NumPy has no arrays of more dimensions.
    guard shape.count <= 64 else {
      throw .tooMany(what: "dimensions", count: shape.count, limit: 64)
    }
    return shape
  }

  /// A type word such as `<f4`: byte order, kind, bytes of an element.
  private static func elementType(
    _ word: String
  ) throws(CheckpointError.Problem) -> (DType, isBigEndian: Bool) {
    let order = word.first
    let kind = word.dropFirst()
    guard order == "<" || order == ">" || order == "|" || order == "=" else {
      throw .unknownType(String(word.prefix(80)))
    }
    let dtype: DType
    switch kind {
    case "f8": dtype = .float64
    case "f4": dtype = .float32
    case "f2": dtype = .float16
    case "i8": dtype = .int64
    case "i4": dtype = .int32
    case "i2": dtype = .int16
    case "i1": dtype = .int8
    case "u8": dtype = .uint64
    case "u4": dtype = .uint32
    case "u2": dtype = .uint16
    case "u1": dtype = .uint8
    case "b1": dtype = .bool
    // The ml_dtypes package, and with it JAX, stores bfloat16 as two bytes without a type.
    case "V2": dtype = .bfloat16
    case _ where kind.hasPrefix("O"):
      throw .unsupported(
        "an array of Python objects (type '\(word.prefix(20))'), which is a pickle,")
    default: throw .unsupported("the NumPy type '\(word.prefix(80))'")
    }
    return (dtype, order == ">")
  }
}

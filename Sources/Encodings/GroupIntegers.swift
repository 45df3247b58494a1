// Integers of 2 to 8 bits on a uniform grid per group of input columns.
//
// Layout   W:codes   U8  [outputs, ceil(inputs * bits / 8)]  row by row, least significant bit first;
//                        every row starts on a byte
//          W:scales  F16 [outputs, groups]                   groups = ceil(inputs / groupSize)
//          W:zeros   U8  [outputs, ceil(groups * bits / 8)]  packed like the codes; absent when symmetric
// Decode   weight = scale * (code - zero); a symmetric grid has zero = 2^(bits - 1)
// Checked  GroupIntegersTests: pack and decode against a bit-by-bit definition, bits 2...8, ragged rows

public import Tensors

/// `intB-gN`, `intB-channel`, each with `-sym`.
public struct GroupIntegers: WeightEncoding, Equatable {
  /// Input columns that share a scale.
  public enum Grouping: Sendable, Equatable {
    /// This many consecutive columns; the last group of a row may be shorter.
    case columns(Int)
    /// The whole row.
    case channel
  }

  /// Bits of a code, 2 to 8.
  public let bits: Int
  /// What shares a scale.
  public let grouping: Grouping
  /// Whether the zero point is fixed in the middle.
  public let isSymmetric: Bool

  /// The group sizes that exist.
  public static let groupSizes = [16, 32, 64, 128, 256]

  /// An encoding; bits in 2...8, a group size of `groupSizes`.
  public init(bits: Int, grouping: Grouping, isSymmetric: Bool) {
    precondition((2...8).contains(bits), "bits is \(bits), not 2...8")
    self.bits = bits
    self.grouping = grouping
    self.isSymmetric = isSymmetric
  }

  /// Such as `int4-g32` or `int8-channel-sym`.
  public var name: String {
    let group =
      switch grouping {
      case .columns(let size): "g\(size)"
      case .channel: "channel"
      }
    return "int\(bits)-\(group)" + (isSymmetric ? "-sym" : "")
  }

  /// The names.
  public static let nameList =
    "int2…int8 with -g16, -g32, -g64, -g128, -g256 or -channel, and -sym for symmetric grids"

  /// The encoding of a name.
  public static func named(_ name: String) -> GroupIntegers? {
    let words = name.split(separator: "-", omittingEmptySubsequences: false)
    guard (2...3).contains(words.count), words[0].hasPrefix("int"),
      let bits = Int(words[0].dropFirst(3)), (2...8).contains(bits), words[0].count == 4,
      words.count == 2 || words[2] == "sym"
    else { return nil }
    let grouping: Grouping
    if words[1] == "channel" {
      grouping = .channel
    } else if words[1].hasPrefix("g"), let size = Int(words[1].dropFirst()),
      groupSizes.contains(size), words[1] == "g\(size)"
    {
      grouping = .columns(size)
    } else {
      return nil
    }
    return GroupIntegers(bits: bits, grouping: grouping, isSymmetric: words.count == 3)
  }

  /// The largest code.
  public var top: Int { (1 << bits) - 1 }
  /// The zero point of a symmetric grid.
  public var middle: Int { 1 << (bits - 1) }
  /// Columns of a full group of a row of `inputs`.
  public func groupSize(inputs: Int) -> Int {
    switch grouping {
    case .columns(let size): size
    case .channel: max(1, inputs)
    }
  }
  /// Groups of a row of `inputs`.
  public func groups(inputs: Int) -> Int {
    let size = groupSize(inputs: inputs)
    return (inputs + size - 1) / size
  }
  /// Bytes of `count` packed codes.
  func packedBytes(_ count: Int) -> Int { (count * bits + 7) / 8 }

  /// Codes, scales and, unless symmetric, zeros.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    let groups = groups(inputs: inputs)
    var parts = [
      EncodedPart(suffix: ":codes", dtype: .uint8, shape: [outputs, packedBytes(inputs)]),
      EncodedPart(suffix: ":scales", dtype: .float16, shape: [outputs, groups]),
    ]
    if !isSymmetric {
      parts.append(
        EncodedPart(suffix: ":zeros", dtype: .uint8, shape: [outputs, packedBytes(groups)]))
    }
    return parts
  }

  /// The matrix over its parts.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    GroupIntegerMatrix(encoding: self, outputs: outputs, inputs: inputs, parts: parts)
  }

  /// Packs codes and grids.
  ///
  /// - Parameters:
  ///   - codes: `[outputs, inputs]`, each at most `top`.
  ///   - scales: `[outputs, groups]`, half patterns.
  ///   - zeros: `[outputs, groups]`, each at most `top`; ignored when symmetric.
  public func encode(
    outputs: Int, inputs: Int, codes: [UInt8], scales: [UInt16], zeros: [UInt8]
  ) -> EncodedMatrix {
    let layout = parts(outputs: outputs, inputs: inputs)
    let groups = groups(inputs: inputs)
    precondition(codes.count == outputs * inputs && scales.count == outputs * groups)
    var tensors = [
      Tensor(
        .uint8, shape: layout[0].shape,
        copying: packRows(codes, bits: bits, rows: outputs, columns: inputs)),
      Tensor(.float16, shape: layout[1].shape, copying: scales),
    ]
    if !isSymmetric {
      precondition(zeros.count == outputs * groups)
      tensors.append(
        Tensor(
          .uint8, shape: layout[2].shape,
          copying: packRows(zeros, bits: bits, rows: outputs, columns: groups))
      )
    }
    return EncodedMatrix(encoding: self, outputs: outputs, inputs: inputs, parts: tensors)
  }
}

/// Group integers as a matrix. Codes stay packed; scales and zeros are widened when they are used.
struct GroupIntegerMatrix: LinearOperator {
  let encoding: GroupIntegers
  let outputs: Int
  let inputs: Int
  let parts: [Tensor]

  var storedBits: Int { parts.reduce(0) { $0 + 8 * $1.byteCount } }

  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    let groups = encoding.groups(inputs: inputs)
    let groupSize = encoding.groupSize(inputs: inputs)
    let scales = parts[1].floats(
      elements: rows.lowerBound * groups..<rows.upperBound * groups)
    var codes = [UInt8](repeating: 0, count: inputs)
    var zeros = [UInt8](repeating: UInt8(encoding.middle), count: groups)
    for (index, row) in rows.enumerated() {
      unpack(parts[0], row: row, count: inputs, into: &codes)
      if !encoding.isSymmetric { unpack(parts[2], row: row, count: groups, into: &zeros) }
      for group in 0..<groups {
        let columns = group * groupSize..<min((group + 1) * groupSize, inputs)
        var output = target._mutatingExtracting(
          index * inputs + columns.lowerBound..<index * inputs + columns.upperBound)
        decodeGroup(
          codes.span.extracting(columns), scale: scales[index * groups + group],
          zero: Float(zeros[group]), into: &output)
      }
    }
  }

  private func unpack(_ tensor: Tensor, row: Int, count: Int, into codes: inout [UInt8]) {
    let rowBytes = encoding.packedBytes(count)
    tensor.withBytes { bytes in
      unpackCodes(
        bytes.extracting(row * rowBytes..<(row + 1) * rowBytes), bits: encoding.bits, count: count,
        into: &codes)
    }
  }
}

/// Packs rows of codes, least significant bit first; every row starts on a byte.
func packRows(_ codes: [UInt8], bits: Int, rows: Int, columns: Int) -> [UInt8] {
  let rowBytes = (columns * bits + 7) / 8
  var packed = [UInt8](repeating: 0, count: rows * rowBytes)
  guard rowBytes > 0 else { return packed }
  ParallelLoop.parts(
    of: &packed, count: rows,
    range: {
      $0 * rowBytes..<($0 + 1) * rowBytes
    }
  ) { row, target in
    let source = codes.span.extracting(row * columns..<(row + 1) * columns)
    var word: UInt32 = 0
    var filled = 0
    var byte = 0
    for i in source.indices {
      word |= UInt32(source[i]) << UInt32(filled)
      filled += bits
      while filled >= 8 {
        target[byte] = UInt8(truncatingIfNeeded: word)
        byte += 1
        word >>= 8
        filled -= 8
      }
    }
    if filled > 0 { target[byte] = UInt8(truncatingIfNeeded: word) }
  }
  return packed
}

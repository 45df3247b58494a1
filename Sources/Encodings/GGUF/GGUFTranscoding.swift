// Group integers as blocks of the same values.
//
// Given    codes, half scales and integer zero points on groups of a multiple of 32 columns
// Result   Q4_0, Q5_0 or Q8_0: whichever is the smallest that holds code - zero; every decoded weight is equal
// Checked  GGUFTranscodingTests: decoded values equal for all bits, groupings and zero points

import Tensors

/// Changes of encoding that change no value.
public enum GGUFTranscoding {
  /// A matrix in blocks; nil when no block type holds its values.
  public static func blocks(of matrix: EncodedMatrix) -> EncodedMatrix? {
    switch matrix.encoding {
    case is GGUFBlocks: matrix
    case let encoding as GroupIntegers: blocks(of: matrix, encoding)
    default: nil
    }
  }

  /// The type that holds every `code - zero` of an encoding.
  public static func type(for encoding: GroupIntegers, inputs: Int) -> GGUFBlockType? {
    guard inputs % 32 == 0, encoding.groupSize(inputs: inputs) % 32 == 0 else { return nil }
    let largest = encoding.isSymmetric ? encoding.middle : encoding.top
    return switch largest {
    case ...7: .q4_0
    case 8 where encoding.isSymmetric: .q4_0
    case ...15: .q5_0
    case 16 where encoding.isSymmetric: .q5_0
    case ...127: .q8_0
    case 128 where encoding.isSymmetric: .q8_0
    default: nil
    }
  }

  private static func blocks(of matrix: EncodedMatrix, _ encoding: GroupIntegers) -> EncodedMatrix?
  {
    let inputs = matrix.inputs
    guard let type = type(for: encoding, inputs: inputs) else { return nil }
    let rowBytes = inputs / 32 * type.blockBytes
    var bytes = [UInt8](repeating: 0, count: matrix.outputs * rowBytes)
    ParallelLoop.parts(
      of: &bytes, count: matrix.outputs, range: { $0 * rowBytes..<($0 + 1) * rowBytes }
    ) { row, target in
      write(row: row, of: matrix, encoding, as: type, into: &target)
    }
    return EncodedMatrix(
      encoding: GGUFBlocks(type), outputs: matrix.outputs, inputs: inputs,
      parts: [Tensor(.uint8, shape: [matrix.outputs, rowBytes], copying: bytes)])
  }

  private static func write(
    row: Int, of matrix: EncodedMatrix, _ encoding: GroupIntegers, as type: GGUFBlockType,
    into target: inout MutableSpan<UInt8>
  ) {
    let inputs = matrix.inputs
    let groups = encoding.groups(inputs: inputs), size = encoding.groupSize(inputs: inputs)
    let codes = unpacked(matrix.parts[0], row: row, bits: encoding.bits, count: inputs)
    let zeros =
      encoding.isSymmetric
      ? [UInt8](repeating: UInt8(encoding.middle), count: groups)
      : unpacked(matrix.parts[2], row: row, bits: encoding.bits, count: groups)
    for block in 0..<inputs / 32 {
      let group = block * 32 / size
      let start = block * type.blockBytes
      matrix.parts[1].withBytes { scales in
        for byte in 0..<2 {
          target[start + byte] = unsafe scales.unsafeLoad(
            fromByteOffset: 2 * (row * groups + group) + byte, as: UInt8.self)
        }
      }
      let levels = (0..<32).map { Int(codes[block * 32 + $0]) - Int(zeros[group]) }
      switch type {
      case .q4_0: writeNibbles(levels.map { $0 + 8 }, at: start + 2, into: &target)
      case .q5_0:
        for i in 0..<32 where (levels[i] + 16) & 16 != 0 {
          target[start + 2 + i / 8] |= 1 << UInt8(i % 8)
        }
        writeNibbles(levels.map { ($0 + 16) & 15 }, at: start + 6, into: &target)
      default:
        for i in 0..<32 { target[start + 2 + i] = UInt8(bitPattern: Int8(levels[i])) }
      }
    }
  }

  /// Low nibbles hold the first half of a block, high ones the second.
  private static func writeNibbles(
    _ codes: [Int], at offset: Int, into target: inout MutableSpan<UInt8>
  ) {
    for i in 0..<16 { target[offset + i] = UInt8(codes[i] | codes[i + 16] << 4) }
  }

  private static func unpacked(_ tensor: Tensor, row: Int, bits: Int, count: Int) -> [UInt8] {
    let rowBytes = (count * bits + 7) / 8
    var codes = [UInt8](repeating: 0, count: count)
    tensor.withBytes { bytes in
      unpackCodes(
        bytes.extracting(row * rowBytes..<(row + 1) * rowBytes), bits: bits, count: count,
        into: &codes)
    }
    return codes
  }
}

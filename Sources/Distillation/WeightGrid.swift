// Codes on grids, taken apart for training: group integers, and the three values of ggml's ternary blocks.

public import Encodings
import Tensors

/// A matrix as codes, a scale a group and a zero point a group: `w = scale (code − zero)`.
public struct WeightGrid: Sendable {
  /// How it is stored.
  enum Storage: Sendable {
    case integers(GroupIntegers)
    /// Codes 0, 1, 2 with the zero point 1, in blocks of 256 with a half each.
    case ternary(GGUFBlocks)
  }

  let storage: Storage
  let outputs, inputs: Int
  /// Inputs that share a scale.
  let groupSize: Int
  /// Groups of a row.
  let groups: Int
  /// The largest code.
  let top: Float
  /// `[outputs, inputs]`.
  var codes: [Float]
  /// `[outputs, groups]`.
  var scales: [Float]
  /// `[outputs, groups]`, integers.
  var zeros: [Float]

  /// Whether zero points are stored.
  var hasZeros: Bool {
    if case .integers(let encoding) = storage { !encoding.isSymmetric } else { false }
  }

  /// Whether a matrix of an encoding is codes on such grids.
  public static func canTrain(_ encoding: any WeightEncoding) -> Bool {
    switch encoding {
    case is GroupIntegers: true
    case let blocks as GGUFBlocks: blocks.isTernary
    default: false
    }
  }

  /// Takes a matrix apart; nil when its encoding has no such grids.
  public init?(_ matrix: EncodedMatrix) {
    outputs = matrix.outputs
    inputs = matrix.inputs
    switch matrix.encoding {
    case let encoding as GroupIntegers:
      storage = .integers(encoding)
      groupSize = encoding.groupSize(inputs: inputs)
      groups = encoding.groups(inputs: inputs)
      top = Float(encoding.top)
      codes = Self.unpack(matrix.parts[0], bits: encoding.bits, rows: outputs, columns: inputs)
      scales = matrix.parts[1].floats()
      zeros =
        encoding.isSymmetric
        ? [Float](repeating: Float(encoding.middle), count: outputs * groups)
        : Self.unpack(matrix.parts[2], bits: encoding.bits, rows: outputs, columns: groups)
    case let blocks as GGUFBlocks where blocks.isTernary:
      storage = .ternary(blocks)
      groupSize = 256
      groups = (inputs + 255) / 256
      top = 2
      zeros = [Float](repeating: 1, count: outputs * groups)
      // A block's values are −d, 0 and d.
      let values = matrix.matrix.decoded().values
      var scales = [Float](repeating: 0, count: outputs * groups)
      for (index, value) in values.enumerated() where value != 0 {
        scales[index / inputs * groups + index % inputs / 256] = abs(value)
      }
      codes = values.map { $0 > 0 ? 2 : $0 < 0 ? 0 : 1 }
      self.scales = scales
    default: return nil
    }
  }

  private static func unpack(_ tensor: Tensor, bits: Int, rows: Int, columns: Int) -> [Float] {
    let rowBytes = (columns * bits + 7) / 8
    var row = [UInt8](repeating: 0, count: columns)
    var result: [Float] = []
    result.reserveCapacity(rows * columns)
    for index in 0..<rows {
      tensor.withBytes { bytes in
        unpackCodes(
          bytes.extracting(index * rowBytes..<(index + 1) * rowBytes), bits: bits, count: columns,
          into: &row)
      }
      for code in row { result.append(Float(code)) }
    }
    return result
  }

  /// The groups of a row as ranges of columns.
  func columns(ofGroup group: Int) -> Range<Int> {
    group * groupSize..<min((group + 1) * groupSize, inputs)
  }

  /// The matrix in its encoding.
  func encoded() -> EncodedMatrix {
    switch storage {
    case .integers(let encoding):
      return encoding.encode(
        outputs: outputs, inputs: inputs, codes: codes.map { UInt8($0) },
        scales: scales.map { Float16($0).bitPattern }, zeros: zeros.map { UInt8($0) })
    case .ternary(let blocks):
      var values = Matrix(rows: outputs, columns: inputs)
      for index in codes.indices {
        let scale = Float(Float16(scales[index / inputs * groups + index % inputs / 256]))
        values.values[index] = scale * (codes[index] - 1)
      }
      return blocks.encode(values, importance: nil)
    }
  }
}

extension GGUFBlocks {
  /// Whether the blocks hold −1, 0 and 1 times a scale.
  var isTernary: Bool { name == "TQ1_0" || name == "TQ2_0" }
}

// Codes into a table of levels that is the same everywhere, times a scale per group of input columns: FP8 and NF4.
//
// Source   FP8: E4M3 of Micikevicius et al., "FP8 Formats for Deep Learning", 2022, arXiv:2209.05433;
//          NF4: Dettmers et al., "QLoRA", 2023, arXiv:2305.14314, appendix E
// Layout   W:codes   U8  [outputs, ceil(inputs * bits / 8)]  fp8: a byte a weight; nf4: half a byte, the first in the low half
//          W:scales  fp8: F32, nf4: F16 [outputs, groups]    groups = ceil(inputs / groupSize)
// Decode   weight = scale * level(code)
// Checked  LevelGroupsTests: all codes against definitions in Double, rounding against a search through all levels

import CKernels
public import Tensors

/// `fp8-gN`, `fp8-channel`, `nf4-gN`, `nf4-channel`.
public struct LevelGroups: WeightEncoding, Equatable {
  /// A table of levels.
  public enum Levels: String, Sendable, CaseIterable {
    /// Floats of a sign, 4 bits of exponent, 3 of fraction: 0, and sizes from 2⁻⁹ to 448.
    case fp8
    /// Sixteen levels from −1 to 1, each nearest to as much of a normal distribution as the others.
    case nf4
  }

  /// The table.
  public let levels: Levels
  /// What shares a scale.
  public let grouping: GroupIntegers.Grouping

  /// An encoding; a group size of `GroupIntegers.groupSizes`.
  public init(_ levels: Levels, grouping: GroupIntegers.Grouping) {
    self.levels = levels
    self.grouping = grouping
  }

  /// Such as `nf4-g64`.
  public var name: String {
    switch grouping {
    case .columns(let size): "\(levels.rawValue)-g\(size)"
    case .channel: "\(levels.rawValue)-channel"
    }
  }

  /// The names.
  public static let nameList = "fp8 and nf4 with -g16, -g32, -g64, -g128, -g256 or -channel"

  /// Every name.
  public static let names: [String] = Levels.allCases.flatMap { levels in
    (GroupIntegers.groupSizes.map { .columns($0) } + [.channel]).map {
      LevelGroups(levels, grouping: $0).name
    }
  }

  /// The encoding of a name.
  public static func named(_ name: String) -> LevelGroups? {
    // The grammar of the rest is that of group integers.
    guard let dash = name.firstIndex(of: "-"), let levels = Levels(rawValue: String(name[..<dash])),
      let integers = GroupIntegers.named("int4" + name[dash...]), !integers.isSymmetric
    else { return nil }
    return LevelGroups(levels, grouping: integers.grouping)
  }

  /// Bits of a code.
  public var bits: Int { levels == .fp8 ? 8 : 4 }
  /// The size of the largest level.
  public var top: Float { levels == .fp8 ? 448 : 1 }
  /// The type of the scales: those of FP8 are often below the normal halves.
  public var scaleType: DType { levels == .fp8 ? .float32 : .float16 }

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

  /// Codes and scales.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    [
      EncodedPart(suffix: ":codes", dtype: .uint8, shape: [outputs, (inputs * bits + 7) / 8]),
      EncodedPart(
        suffix: ":scales", dtype: scaleType, shape: [outputs, groups(inputs: inputs)]),
    ]
  }

  /// The matrix over its parts.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    LevelGroupMatrix(encoding: self, outputs: outputs, inputs: inputs, parts: parts)
  }

  /// Packs codes and scales.
  ///
  /// - Parameters:
  ///   - codes: `[outputs, inputs]`.
  ///   - scales: `[outputs, groups]`; for NF4 exactly halves.
  public func encode(outputs: Int, inputs: Int, codes: [UInt8], scales: [Float]) -> EncodedMatrix {
    let layout = parts(outputs: outputs, inputs: inputs)
    precondition(codes.count == outputs * inputs && scales.count == layout[1].shape.reduce(1, *))
    let packed = packRows(codes, bits: bits, rows: outputs, columns: inputs)
    return EncodedMatrix(
      encoding: self, outputs: outputs, inputs: inputs,
      parts: [
        Tensor(.uint8, shape: layout[0].shape, copying: packed),
        Tensor(.float32, shape: layout[1].shape, copying: scales).converted(to: scaleType),
      ])
  }

  /// The levels by code; FP8's codes 0x7F and 0xFF are NaN.
  public var table: [Float] {
    var table = [Float](repeating: 0, count: 1 << bits)
    unsafe table.withUnsafeMutableBufferPointer { table in
      if let start = table.baseAddress { unsafe kernel_level_table(kind, start) }
    }
    return table
  }

  private var kind: UInt32 {
    switch levels {
    case .fp8: UInt32(KERNEL_E4M3)
    case .nf4: UInt32(KERNEL_NF4)
    }
  }

  /// Rounds a column of values, each with its own scale, to the nearest level; ties of FP8 to the even code, beyond the
  /// largest level to that.
  ///
  /// - Parameters:
  ///   - inverses: 1 / scale, or 0 where the scale is 0.
  ///   - quantized: Receives scale · level.
  ///   - codes: Receives the codes.
  public func roundColumn(
    _ values: Span<Float>, scales: Span<Float>, inverses: Span<Float>,
    quantized: inout MutableSpan<Float>, codes: inout MutableSpan<UInt8>
  ) {
    let count = values.count
    precondition(
      scales.count == count && inverses.count == count && quantized.count == count
        && codes.count == count)
    unsafe values.withUnsafeBufferPointer { x in
      unsafe scales.withUnsafeBufferPointer { s in
        unsafe inverses.withUnsafeBufferPointer { r in
          unsafe quantized.withUnsafeMutableBufferPointer { q in
            unsafe codes.withUnsafeMutableBufferPointer { c in
              guard let x = x.baseAddress, let s = s.baseAddress, let r = r.baseAddress,
                let q = q.baseAddress, let c = c.baseAddress
              else { return }
              unsafe kernel_round_levels(x, s, r, kind, q, c, count)
            }
          }
        }
      }
    }
  }

  /// Σ weight · (value − nearest scaled level)².
  public func error(of values: Span<Float>, weights: Span<Float>, scale: Float) -> Float {
    precondition(values.count == weights.count)
    return unsafe values.withUnsafeBufferPointer { values in
      unsafe weights.withUnsafeBufferPointer { weights in
        guard let x = values.baseAddress, let w = weights.baseAddress else { return 0 }
        return unsafe kernel_level_error(
          x, w, kind, scale, scale == 0 ? 0 : 1 / scale, values.count)
      }
    }
  }
}

/// Levels with scales as a matrix. Codes stay packed.
struct LevelGroupMatrix: LinearOperator {
  let encoding: LevelGroups
  let outputs: Int
  let inputs: Int
  let parts: [Tensor]
  private let table: [Float]

  init(encoding: LevelGroups, outputs: Int, inputs: Int, parts: [Tensor]) {
    self.encoding = encoding
    self.outputs = outputs
    self.inputs = inputs
    self.parts = parts
    table = encoding.table
  }

  var storedBits: Int { parts.reduce(0) { $0 + 8 * $1.byteCount } }

  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    let groups = encoding.groups(inputs: inputs), size = encoding.groupSize(inputs: inputs)
    let scales = parts[1].floats(
      elements: rows.lowerBound * groups..<rows.upperBound * groups)
    let rowBytes = (inputs * encoding.bits + 7) / 8
    var codes = [UInt8](repeating: 0, count: inputs)
    for (index, row) in rows.enumerated() {
      parts[0].withBytes { bytes in
        unpackCodes(
          bytes.extracting(row * rowBytes..<(row + 1) * rowBytes), bits: encoding.bits,
          count: inputs, into: &codes)
      }
      for group in 0..<groups {
        let columns = group * size..<min((group + 1) * size, inputs)
        var output = target._mutatingExtracting(
          index * inputs + columns.lowerBound..<index * inputs + columns.upperBound)
        decodeLevels(
          codes.span.extracting(columns), scale: scales[index * groups + group], into: &output)
      }
    }
  }

  private func decodeLevels(
    _ codes: Span<UInt8>, scale: Float, into output: inout MutableSpan<Float>
  ) {
    unsafe codes.withUnsafeBufferPointer { codes in
      unsafe table.withUnsafeBufferPointer { table in
        unsafe output.withUnsafeMutableBufferPointer { output in
          guard let from = codes.baseAddress, let levels = table.baseAddress,
            let to = output.baseAddress
          else { return }
          // SAFETY: codes have `bits` bits, and the table has 2^bits levels.
          unsafe kernel_decode_levels(from, levels, scale, to, codes.count)
        }
      }
    }
  }
}

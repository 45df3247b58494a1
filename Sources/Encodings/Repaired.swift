// A quantized matrix plus the product of two thin ones, which holds what the rounding lost most of.
//
// Layout   the base's parts under their own names, then
//          W:left   F16 [outputs, rank]  row by row
//          W:right  F16 [rank, inputs]   likewise
// Decode   weight = base + left right; a product with an input is y = base x + left (right x)
// Size     16 rank (1 / outputs + 1 / inputs) bits a weight more than the base
// Checked  RepairedTests: decode and products against the definition in Double; read_bundle.py, from the document

public import Tensors

/// `E+rR-f16`, such as `int3-g64+r16-f16`; E is one of group integers, FP8 and NF4, and ggml's blocks.
public struct Repaired: WeightEncoding {
  /// The encoding of the quantized matrix.
  public let base: any WeightEncoding
  /// Columns of the left factor.
  public let rank: Int

  /// A base that can be repaired with a rank of at least 1; nil for other bases.
  public init?(_ base: any WeightEncoding, rank: Int) {
    precondition((1...LowRank.largestRank).contains(rank), "rank is \(rank)")
    guard Self.canRepair(base) else { return nil }
    self.base = base
    self.rank = rank
  }

  /// Whether factors can stand beside an encoding: those with codes of a few bits and products in floats.
  public static func canRepair(_ base: any WeightEncoding) -> Bool {
    base is GroupIntegers || base is LevelGroups || base is GGUFBlocks
  }

  /// Such as `int3-g64+r16-f16`.
  public var name: String { "\(base.name)+r\(rank)-f16" }
  /// The names.
  public static let nameList =
    "group integers, fp8, nf4 or a block type of llama.cpp with +rR-f16 for factors of rank R, such as int3-g64+r16-f16"

  /// The encoding of a name.
  public static func named(_ name: String) -> Repaired? {
    let words = name.split(separator: "+", omittingEmptySubsequences: false)
    guard words.count == 2, words[1].hasPrefix("r"), words[1].hasSuffix("-f16") else { return nil }
    let digits = words[1].dropFirst().dropLast(4)
    guard let rank = Int(digits), (1...LowRank.largestRank).contains(rank), digits == "\(rank)"
    else { return nil }
    let own = String(words[0])
    let base: (any WeightEncoding)? =
      GroupIntegers.named(own) ?? LevelGroups.named(own) ?? GGUFBlocks.named(own)
    return base.flatMap { Repaired($0, rank: rank) }
  }

  /// The encoding of the factors by themselves.
  private var factors: LowRank { LowRank(rank: rank, dtype: .float16) }

  /// The base's.
  public var columnMultiple: Int { base.columnMultiple }

  /// The base's parts, then both factors.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    base.parts(outputs: outputs, inputs: inputs) + factors.parts(outputs: outputs, inputs: inputs)
  }

  /// What is wrong with the base's parts; every factor of finite halves means something.
  public func problem(outputs: Int, inputs: Int, parts: [Tensor]) -> String? {
    base.problem(outputs: outputs, inputs: inputs, parts: Array(parts.dropLast(2)))
  }

  /// The matrix over its parts.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    RepairedMatrix(
      base: base.matrix(outputs: outputs, inputs: inputs, parts: Array(parts.dropLast(2))),
      repair: factors.matrix(outputs: outputs, inputs: inputs, parts: Array(parts.suffix(2))))
  }

  /// A quantized matrix with factors, which are rounded to halves.
  ///
  /// - Parameters:
  ///   - quantized: A matrix in `base`.
  ///   - left: `[outputs, rank]`.
  ///   - right: `[rank, inputs]`.
  public func encode(_ quantized: EncodedMatrix, left: Matrix, right: Matrix) -> EncodedMatrix {
    precondition(quantized.encoding.name == base.name)
    return EncodedMatrix(
      encoding: self, outputs: quantized.outputs, inputs: quantized.inputs,
      parts: quantized.parts + factors.encode(left: left, right: right).parts)
  }
}

/// The sum of a matrix and its repair.
struct RepairedMatrix: LinearOperator {
  let base: any LinearOperator
  let repair: any LinearOperator

  var outputs: Int { base.outputs }
  var inputs: Int { base.inputs }
  var storedBits: Int { base.storedBits + repair.storedBits }

  /// The base's rows, to which those of the factors' product are added.
  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    base.decode(rows: rows, into: &target)
    var added = [Float](repeating: 0, count: rows.count * inputs)
    var span = added.mutableSpan
    repair.decode(rows: rows, into: &span)
    for i in added.indices { target[i] += added[i] }
  }

  var multipliesDecodedRows: Bool { false }

  /// The base's product in the base's own way, and two thin ones.
  func product(with x: Matrix) -> Matrix {
    var result = base.apply(to: x)
    let added = repair.apply(to: x)
    for i in result.values.indices { result.values[i] += added.values[i] }
    return result
  }
}

// A matrix as the product of two thin ones.
//
// Layout   W:left   [outputs, rank]  row by row, in the encoding's float type
//          W:right  [rank, inputs]   likewise
// Decode   weight = left right; a product with an input is two: left (right x)
// Checked  LowRankTests: decode and products against the definition in Double

public import Tensors

/// `low-rank-R-f16`, `-bf16` or `-f32`.
public struct LowRank: WeightEncoding, Equatable {
  /// Columns of the left factor.
  public let rank: Int
  /// The element type of both factors.
  public let dtype: DType

  /// Ranks are at most this: no matrix of a model is wider.
  public static let largestRank = 1 << 20

  /// An encoding of a rank of at least 1.
  public init(rank: Int, dtype: DType) {
    precondition((1...Self.largestRank).contains(rank), "rank is \(rank)")
    precondition(Self.dtypes.contains(dtype), "\(dtype)")
    self.rank = rank
    self.dtype = dtype
  }

  private static let dtypes: [DType] = [.float16, .bfloat16, .float32]

  /// Such as `low-rank-64-f16`.
  public var name: String { "low-rank-\(rank)-\(dtype.rawValue.lowercased())" }
  /// The names.
  public static let nameList = "low-rank-R-f16, low-rank-R-bf16, low-rank-R-f32"

  /// The encoding of a name.
  public static func named(_ name: String) -> LowRank? {
    let words = name.split(separator: "-", omittingEmptySubsequences: false)
    guard words.count == 4, words[0] == "low", words[1] == "rank", let rank = Int(words[2]),
      (1...largestRank).contains(rank), words[2] == "\(rank)",
      let dtype = dtypes.first(where: { $0.rawValue.lowercased() == words[3] })
    else { return nil }
    return LowRank(rank: rank, dtype: dtype)
  }

  /// The largest rank whose factors are smaller than a matrix of the same type; 0 when none is.
  public static func largestUsefulRank(outputs: Int, inputs: Int) -> Int {
    guard outputs + inputs > 0, outputs * inputs > 0 else { return 0 }
    return (outputs * inputs - 1) / (outputs + inputs)
  }

  /// Both factors.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    [
      EncodedPart(suffix: ":left", dtype: dtype, shape: [outputs, rank]),
      EncodedPart(suffix: ":right", dtype: dtype, shape: [rank, inputs]),
    ]
  }

  /// The matrix over its factors.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    LowRankMatrix(left: FloatMatrix(parts[0]), right: FloatMatrix(parts[1]))
  }

  /// Both factors, rounded to the type.
  ///
  /// - Parameters:
  ///   - left: `[outputs, rank]`.
  ///   - right: `[rank, inputs]`.
  public func encode(left: Matrix, right: Matrix) -> EncodedMatrix {
    precondition(left.columns == rank && right.rows == rank)
    let parts = [left, right].map {
      Tensor(.float32, shape: [$0.rows, $0.columns], copying: $0.values).converted(to: dtype)
    }
    return EncodedMatrix(
      encoding: self, outputs: left.rows, inputs: right.columns, parts: parts)
  }
}

/// Two factors as one matrix.
struct LowRankMatrix: LinearOperator {
  let left: FloatMatrix
  let right: FloatMatrix

  var outputs: Int { left.outputs }
  var inputs: Int { right.inputs }
  var storedBits: Int { left.storedBits + right.storedBits }

  /// Rows of the product, each summed in the order of the rank.
  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    let rank = left.inputs, inputs = inputs
    var factors = [Float](repeating: 0, count: rows.count * rank)
    var span = factors.mutableSpan
    left.decode(rows: rows, into: &span)
    for i in 0..<rows.count * inputs { target[i] = 0 }
    var line = [Float](repeating: 0, count: inputs)
    for k in 0..<rank {
      var source = line.mutableSpan
      right.decode(rows: k..<k + 1, into: &source)
      for row in 0..<rows.count {
        var result = target._mutatingExtracting(row * inputs..<(row + 1) * inputs)
        RowKernels.add(factors[row * rank + k], times: line.span, to: &result)
      }
    }
  }

  var multipliesDecodedRows: Bool { false }

  /// Two thin products instead of one.
  func product(with x: Matrix) -> Matrix { left.apply(to: right.apply(to: x)) }
}

// Low-rank repair: two thin factors beside a quantized matrix that take up the largest part of its error.
//
// Source   Liu et al., "EoRA: Fine-tuning-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation", 2024,
//          arXiv:2410.21271, Algorithm 1: with H = Q Λ Qᵀ, the error E projected to E Q Λ^½ and truncated there. Before it,
//          without activations: Yao et al., "ZeroQuant-V2", 2023, arXiv:2303.08302, section 5 (LoRC)
// Given    W [outputs, inputs]; Ŵ, what any method made of it; H = mean of x xᵀ [inputs, inputs], its diagonal, or nothing (I)
// Result   A [outputs, r], B [r, inputs] in halves, A B the matrix of rank r nearest to E = W − Ŵ on the inputs:
//          tr((E − A B) H (E − A B)ᵀ) is the sum of the squares of the singular values of E L from the r-th on, H = L Lᵀ
// Cost     that of WhitenedSpectrum, and a rounding of the factors
// Differs  L may be any root of H, Q Λ^½ as well as Cholesky's: the optimum is one. It is reached without an inverse (the paper
//          divides by Λ^½), so that H may be singular. Where the method made up for the drift of earlier layers, E is
//          taken from the weights that it aimed at
// Checked  LowRankRepairTests: the error after the repair against the tail of the singular values by Jacobi's method in Double

public import Encodings
public import LinearAlgebra
public import Tensors

/// Low-rank repair of a quantized matrix.
public struct LowRankRepair: Sendable, Equatable {
  /// How many singular values of the error are taken up.
  public let rank: Int

  /// A repair of a rank of at least 1.
  public init(rank: Int) {
    precondition(rank >= 1)
    self.rank = rank
  }

  /// The same result with factors beside its codes.
  ///
  /// - Parameters:
  ///   - result: What a method made of the weight, in an encoding that `Repaired.canRepair`.
  ///   - weight: `[outputs, inputs]`; the rank is at most the smaller of them.
  ///   - statistics: What is known of the layer's inputs.
  /// - Throws: `badStatistics` when these hold infinite or NaN values, `repairTooLarge` when halves cannot hold a factor.
  public func repaired(
    _ result: QuantizedWeight, of weight: Matrix, statistics: InputStatistics
  ) throws(QuantizationError) -> QuantizedWeight {
    precondition(rank <= min(weight.rows, weight.columns))
    guard let encoding = Repaired(result.encoded.encoding, rank: rank) else {
      preconditionFailure("\(result.encoded.encoding.name) cannot be repaired")
    }
    let target = result.target ?? weight
    var error = target
    let quantized = result.encoded.matrix.decoded()
    for i in error.values.indices { error.values[i] -= quantized.values[i] }
    let moment = Self.moment(statistics, inputs: weight.columns)
    guard let spectrum = WhitenedSpectrum(of: error, moment: moment) else { throw .badStatistics }
    let factors = spectrum.factors(rank: rank)
    let encoded = encoding.encode(result.encoded, left: factors.left, right: factors.right)
    let repaired = encoded.matrix.decoded()
    guard countNotFinite(repaired.values.span) == 0 else { throw .repairTooLarge }
    return QuantizedWeight(
      encoded: encoded, method: result.method,
      relativeError: relativeError(weight, repaired, statistics: statistics),
      roundingError: relativeError(target, repaired, statistics: statistics),
      isOutputError: result.isOutputError, fallbacks: result.fallbacks,
      deadInputs: result.deadInputs)
  }

  /// H as far as it is known.
  private static func moment(_ statistics: InputStatistics, inputs: Int) -> DoubleMatrix {
    if let moment = statistics.moment { return moment }
    var matrix = DoubleMatrix(size: inputs)
    for i in 0..<inputs { matrix[i, i] = statistics.diagonal?[i] ?? 1 }
    return matrix
  }
}

extension WeightQuantizer {
  /// Quantizes a weight onto any encoding: where that is `Repaired`, onto its base, and then repairs the result.
  public func quantizeAndRepair(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    guard let repaired = encoding as? Repaired else {
      return try quantize(weight, statistics: statistics, encoding: encoding)
    }
    let result = try quantize(weight, statistics: statistics, encoding: repaired.base)
    return try LowRankRepair(rank: repaired.rank).repaired(
      result, of: weight, statistics: statistics)
  }
}

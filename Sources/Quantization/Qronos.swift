// Qronos: the weights that best give the original model's outputs from the inputs as they are by now, rounded with
// feedback.
//
// Source   Zhang, Zhang, Colbert, Saab, "Qronos: Correcting the Past by Shaping the Future in Post-Training
//          Quantization", 2025, arXiv:2505.11695: after the first column its updates are GPTQ's on the least-squares weights.
//          The objective is that of Li et al., "GPTAQ", ICML 2025, arXiv:2504.02692
// Given    W [outputs, inputs]; H = mean of y y^T and C = mean of x y^T [inputs, inputs], y what the layer reads by now, x
//          what it reads in the original model
// Target   W' = W + W (C - H) (H + damping I)^-1, the minimum of ||W' y - W x||^2 + damping ||W' - W||^2
// Result   codes that greedily minimise ||W x - Q y||: with H alone, (W' - Q) H (W' - Q)^T + a constant
// Cost     GPTQ's, and 3 outputs * inputs^2 multiply-adds
// Differs  the first column is rounded from the target too, where the paper holds the later columns at W; the damping
//          pulls towards W and not towards 0, so that without drift (C = H) the method is GPTQ, bit for bit
// Checked  QronosTests: the target against normal equations in Double, GPTQ on that target, and less error on drifted inputs

public import Encodings
public import LinearAlgebra
public import Tensors

/// GPTQ that also makes up for what the layers before have lost.
public struct Qronos: WeightQuantizer, Equatable {
  /// How the target is rounded; its damping serves the target too.
  public let rounding: GPTQ

  /// The method, with GPTQ's options.
  public init(_ rounding: GPTQ = GPTQ()) { self.rounding = rounding }

  /// `qronos`.
  public static let method = QuantizationMethod.qronos

  /// Quantizes a weight; the statistics are `.asymmetric`.
  ///
  /// The relative error of the result is, as for other methods, that of W on the inputs as they are by now; this method
  /// lowers another one, of the original model's outputs.
  public func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    try check(weight, statistics, encoding)
    guard let moment = statistics.moment, let cross = statistics.cross else {
      throw .needsStatistics(method: Self.method.rawValue)
    }
    let feedback = try rounding.feedback(of: moment, encoding: encoding, method: Self.method)
    let target = Self.target(of: weight, moment, cross, feedback)
    let count = countNotFinite(target.values.span)
    guard count == 0 else { throw .badStatistics }
    let encoded = try rounding.round(
      target, moment, feedback, held: rounding.held(of: weight), onto: encoding)
    return QuantizedWeight(
      encoded: encoded, method: Self.method,
      relativeError: relativeError(weight, encoded, statistics: .moment(moment)),
      roundingError: relativeError(target, encoded, statistics: .moment(moment)),
      isOutputError: true, fallbacks: feedback.fallbacks,
      deadInputs: moment.diagonal.count { $0 == 0 }, target: target)
  }

  /// W + W (C − H) Uᵀ U, U being the factor of the damped H.
  static func target(
    of weight: Matrix, _ moment: DoubleMatrix, _ cross: DoubleMatrix, _ feedback: GPTQ.Feedback
  ) -> Matrix {
    driftCorrected(
      weight, moment: moment, cross: cross, factor: feedback.factor, order: feedback.order)
  }
}

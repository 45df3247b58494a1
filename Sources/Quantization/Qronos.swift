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
import LinearAlgebra
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
    let encoded = try rounding.round(target, moment, feedback, onto: encoding)
    return QuantizedWeight(
      encoded: encoded, method: Self.method,
      relativeError: relativeError(weight, encoded, statistics: .moment(moment)),
      roundingError: relativeError(target, encoded, statistics: .moment(moment)),
      isOutputError: true, fallbacks: feedback.fallbacks,
      deadInputs: moment.diagonal.count { $0 == 0 })
  }

  /// W + W (C − H) Uᵀ U, U being the factor of the damped H.
  static func target(
    of weight: Matrix, _ moment: DoubleMatrix, _ cross: DoubleMatrix, _ feedback: GPTQ.Feedback
  ) -> Matrix {
    let n = weight.columns, order = feedback.order
    // Columns of C - H in the order of rounding; its rows meet W's columns as they are. A power of four that brings H near
    // 1 goes into it and, as two square roots, out of U.
    let unit = powerOfFour(near: moment.diagonal.max() ?? 0)
    let root = Float(unit.squareRoot())
    var drift = [Float](repeating: 0, count: n * n), u = drift, turned = drift
    for i in 0..<n {
      for j in 0..<n {
        drift[i * n + j] = Float((cross[i, order[j]] - moment[i, order[j]]) / unit)
        u[i * n + j] = feedback.factor[i * n + j] * root
        turned[j * n + i] = u[i * n + j]
      }
    }
    guard drift.contains(where: { $0 != 0 }) else { return weight }
    let factor = u, transposed = turned, difference = drift
    var target = weight
    ParallelLoop.overRows(of: &target.values, rowLength: n, blockRows: 64) { rows, part in
      let own = weight.values.span.extracting(rows.lowerBound * n..<rows.upperBound * n)
      var product = multiply(own, difference, rows: rows.count, size: n)
      product = multiply(product.span, transposed, rows: rows.count, size: n)
      product = multiply(product.span, factor, rows: rows.count, size: n)
      for row in 0..<rows.count {
        for (position, column) in order.enumerated() {
          part[row * n + column] += product[row * n + position]
        }
      }
    }
    return target
  }

  /// The product of some rows with a square matrix.
  private static func multiply(
    _ rows: Span<Float>, _ matrix: [Float], rows count: Int, size n: Int
  ) -> [Float] {
    var result = [Float](repeating: 0, count: count * n)
    var span = result.mutableSpan
    BLAS.addProduct(
      scale: 1, rows, transposed: false, aStride: n, matrix.span, bStride: n, to: &span,
      cStride: n, rows: count, columns: n, depth: n)
    return result
  }

  private static func powerOfFour(near value: Double) -> Double {
    guard value > 0, value.isNormal else { return 1 }
    return Double(sign: .plus, exponent: 2 * (Int(value.exponent) >> 1), significand: 1)
  }
}

// U of the damped H in any order of columns, as the loops of error feedback read it.
//
// Source   damping and dead inputs as in Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, section 3.3 and the
//          authors' code
// Checked  GPTQTests, SparseGPTTests

import Tensors

/// The factor of a damped second-moment matrix whose columns are taken in some order.
public struct FeedbackFactor: Sendable {
  /// `[columns, columns]`, U, upper triangular, with (P (H + damping I) Pᵀ)⁻¹ = Uᵀ U.
  public let values: [Float]
  /// Times the damping was raised.
  public let fallbacks: Int
  /// What was added to the diagonal in the end.
  public let damping: Double

  /// H cannot be factorized even with this share of its mean diagonal.
  public struct Singular: Error, Sendable, Equatable {
    /// The share.
    public let damping: Double
  }

  /// When H cannot be factorized, the damping is raised tenfold up to this share; each raise is a fallback.
  private static let largestDamping = 1.0

  /// Factorizes.
  ///
  /// - Parameters:
  ///   - order: The columns in the order of the work.
  ///   - share: This share of H's mean diagonal is added to the diagonal.
  public init(of moment: DoubleMatrix, order: [Int], damping share: Double) throws(Singular) {
    let diagonal = moment.diagonal
    var mean = diagonal.reduce(0, +) / Double(max(1, moment.size))
    if mean == 0 { mean = 1 }
    var share = share
    var fallbacks = 0
    while true {
      do throws(FactorizationError) {
        let u = try inverseFactor(
          of: Self.permuted(moment, order: order, dead: mean), damping: share * mean)
        values = u.values.map { Float($0) }
        self.fallbacks = fallbacks
        damping = share * mean
        return
      } catch {
        guard share < Self.largestDamping else { throw Singular(damping: share) }
        share = min(Self.largestDamping, max(share * 10, 1e-4))
        fallbacks += 1
      }
    }
  }

  /// H in the order of the work. A dead input, H_jj = 0, takes part with `dead`: its weights are changed without
  /// feedback.
  private static func permuted(
    _ moment: DoubleMatrix, order: [Int], dead: Double
  ) -> DoubleMatrix {
    let n = moment.size
    var values = [Double](repeating: 0, count: n * n)
    ParallelLoop.parts(of: &values, count: n, range: { $0 * n..<($0 + 1) * n }) { row, target in
      let source = moment.values.span.extracting(order[row] * n..<(order[row] + 1) * n)
      for (j, column) in order.enumerated() { target[j] = source[column] }
      if target[row] == 0 { target[row] = dead }
    }
    return DoubleMatrix(size: n, values: values)
  }
}

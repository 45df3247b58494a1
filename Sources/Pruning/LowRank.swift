// How many singular values of a weight stay when it becomes the product of two thin matrices.
//
// Source   the spectrum and its factors: Sources/LinearAlgebra/WhitenedSpectrum.swift; on a drifted prefix, reduced-rank
//          regression: Izenman, "Reduced-rank regression for the multivariate linear model", J. Multivariate Analysis 5, 1975
// Checked  LowRankTests

public import LinearAlgebra
public import Tensors

/// How many singular values are kept.
public enum RankRule: Sendable, Equatable {
  /// The fewest with this share of the sum of squares.
  case energy(Double)
  /// This share of the smaller side of the matrix.
  case ratio(Double)
  /// The largest energy with at most so many bytes of weights.
  case budget(Int)
}

extension WhitenedSpectrum {
  /// Decomposes a weight.
  ///
  /// - Parameters:
  ///   - weight: W, `[outputs, inputs]`.
  ///   - moment: H, `[inputs, inputs]`.
  /// - Throws: `PruningError.badStatistics` when H holds infinite or NaN values.
  public init(_ weight: Matrix, moment: DoubleMatrix) throws(PruningError) {
    let count = countNotFinite(weight.values.span)
    guard count == 0 else { throw .notFinite(count: count, total: weight.values.count) }
    guard let spectrum = WhitenedSpectrum(of: weight, moment: moment) else { throw .badStatistics }
    self = spectrum
  }

  /// The rank that a rule gives, at least 1.
  public func rank(_ rule: RankRule) -> Int {
    switch rule {
    case .budget: return max(1, squares.count)
    case .ratio(let ratio): return max(1, Int((ratio * Double(squares.count)).rounded()))
    case .energy(let share):
      let all = squares.reduce(0, +)
      var sum = 0.0
      for (index, square) in squares.enumerated() {
        sum += square
        if sum >= share * all { return index + 1 }
      }
      return max(1, squares.count)
    }
  }
}

// What is known of how much errors of a layer's outputs count.

public import LinearAlgebra

/// How much errors of a layer's outputs count. Only relations matter, not the unit.
public enum OutputStatistics: Sendable, Equatable {
  /// All alike, each for itself.
  case equal
  /// By output, each for itself, `[outputs]`.
  case diagonal([Double])
  /// The mean of g gᵀ, g the loss's gradient of the outputs, `[outputs, outputs]`.
  case moment(DoubleMatrix)

  /// The outputs that are told of; nil when it is any number.
  var count: Int? {
    switch self {
    case .equal: nil
    case .diagonal(let values): values.count
    case .moment(let moment): moment.size
    }
  }

  /// The same for some of the outputs.
  public func rows(_ rows: [Int]) -> OutputStatistics {
    switch self {
    case .equal: return .equal
    case .diagonal(let values): return .diagonal(rows.map { values[$0] })
    case .moment(let moment):
      var part = DoubleMatrix(size: rows.count)
      for (i, row) in rows.enumerated() {
        for (j, column) in rows.enumerated() { part[i, j] = moment[row, column] }
      }
      return .moment(part)
    }
  }
}

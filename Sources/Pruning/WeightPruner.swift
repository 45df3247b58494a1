// What a method of pruning is: a weight, what is known of its inputs and a number of zeros in; the weight with those
// zeros and its cost out.

public import Encodings
public import LinearAlgebra
public import Tensors

/// How the weights to remove are chosen, and what becomes of the others.
public enum PruningMethod: String, Sendable, CaseIterable {
  /// The smallest weights.
  case magnitude
  /// The smallest products of weight and input, row by row.
  case wanda
  /// Column by column with error feedback.
  case sparsegpt
  /// Support and weights together, by alternating directions.
  case alps

  /// Whether there is nothing to do without statistics of a layer's inputs.
  public var needsCalibration: Bool { self != .magnitude }
  /// Whether the weights that stay change, so that they can make up for what was removed.
  public var updatesWeights: Bool { self == .sparsegpt || self == .alps }
}

/// How many weights of a matrix become zero, and where they may lie.
public struct SparsityGoal: Sendable, Equatable {
  /// Where.
  public let pattern: SparsityPattern
  /// How many: exact, where no more were zero before.
  public let zeros: Int
  /// The size of the matrix.
  public let outputs, inputs: Int

  /// The zeros that come nearest to a share of a matrix.
  ///
  /// - Parameter sparsity: Greater than 0, less than 1. N:M has its own, which goes before it.
  public init(
    _ pattern: SparsityPattern, sparsity: Double, outputs: Int, inputs: Int
  ) throws(PruningError) {
    guard inputs % pattern.columnMultiple == 0 else {
      throw .raggedColumns(
        pattern: pattern.name, columns: inputs, multiple: pattern.columnMultiple)
    }
    self.pattern = pattern
    self.outputs = outputs
    self.inputs = inputs
    let count = outputs * inputs
    switch pattern {
    case .unstructured: zeros = Int((sparsity * Double(count)).rounded())
    case .groups(let kept, let size): zeros = count / size * (size - kept)
    case .blocks(let size): zeros = Int((sparsity * Double(count / size)).rounded()) * size
    }
  }
}

extension SparsityGoal {
  /// The same matrix with another number of zeros, in whole blocks of the pattern.
  public func with(zeros: Int) -> SparsityGoal {
    precondition((0...outputs * inputs).contains(zeros))
    return SparsityGoal(pattern: pattern, zeros: zeros, outputs: outputs, inputs: inputs)
  }

  private init(pattern: SparsityPattern, zeros: Int, outputs: Int, inputs: Int) {
    self.pattern = pattern
    self.zeros = zeros
    self.outputs = outputs
    self.inputs = inputs
  }

  /// Zeros over weights.
  public var share: Double { Double(zeros) / Double(max(1, outputs * inputs)) }
}

/// Why a weight cannot be pruned.
public enum PruningError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Weights that are infinite or NaN.
  case notFinite(count: Int, total: Int)
  /// The method needs calibration, and there is none.
  case needsStatistics(method: String)
  /// The statistics hold infinite or NaN values.
  case badStatistics
  /// A matrix whose rows do not divide into the pattern's groups.
  case raggedColumns(pattern: String, columns: Int, multiple: Int)
  /// H cannot be factorized even with this much damping.
  case singular(damping: Double)
  /// Blocks that single swaps would break.
  case cannotSwap(pattern: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .notFinite(let count, let total):
      "\(count) of \(total) weights are infinite or NaN; repair the checkpoint first"
    case .needsStatistics(let method): "\(method) needs calibration text (--calibration FILE)"
    case .cannotSwap(let pattern): "swaps of single weights would break the blocks of \(pattern)"
    case .badStatistics: "the calibration inputs are infinite or NaN"
    case .raggedColumns(let pattern, let columns, let multiple):
      "its rows of \(columns) do not divide into \(pattern)'s groups of \(multiple); choose another pattern "
        + "for it or copy it"
    case .singular(let damping):
      "the second-moment matrix cannot be factorized with damping \(damping) of its mean diagonal; "
        + "use more calibration tokens or magnitude"
    }
  }
}

/// A weight with zeros, and what that cost.
public struct PrunedWeight: Sendable {
  /// `[outputs, inputs]`.
  public let weight: Matrix
  /// The method that ran.
  public let method: PruningMethod
  /// Its zeros.
  public let zeros: Int
  /// ‖(W−Ŵ)X‖² / ‖WX‖² over the calibration inputs; without them, ‖W−Ŵ‖² / ‖W‖².
  public let relativeError: Double
  /// Whether the error is of outputs on calibration inputs, or of the weights alone.
  public let isOutputError: Bool
  /// Times the method had to do otherwise than asked, such as raising the damping.
  public let fallbacks: Int
  /// Inputs that were zero in all of the calibration.
  public let deadInputs: Int

  /// - Parameter original: The weight before.
  init(
    _ weight: Matrix, of original: Matrix, _ statistics: InputStatistics, method: PruningMethod,
    fallbacks: Int = 0
  ) {
    self.weight = weight
    self.method = method
    self.fallbacks = fallbacks
    zeros = weight.values.count { $0 == 0 }
    relativeError = LinearAlgebra.relativeError(original, weight, statistics: statistics)
    isOutputError = statistics.moment != nil
    deadInputs = statistics.diagonal?.count { $0 == 0 } ?? 0
  }
}

/// A method that makes weights of a matrix zero.
///
/// A conformer is a value that holds its options and nothing else. What is zero stays zero, and counts. The same inputs
/// give the same bytes, whatever the number of threads.
public protocol WeightPruner: Sendable {
  /// Which method this is.
  static var method: PruningMethod { get }
  /// Prunes a weight.
  ///
  /// - Parameters:
  ///   - weight: `[outputs, inputs]`, the size of the goal.
  ///   - statistics: What is known of the layer's inputs.
  func prune(
    _ weight: Matrix, statistics: InputStatistics, goal: SparsityGoal
  ) throws(PruningError) -> PrunedWeight
}

/// Rejects weights and statistics that are no numbers before any method sees them.
func check(
  _ weight: Matrix, _ statistics: InputStatistics, _ goal: SparsityGoal
) throws(PruningError) {
  precondition(weight.rows == goal.outputs && weight.columns == goal.inputs)
  let count = countNotFinite(weight.values.span)
  guard count == 0 else { throw .notFinite(count: count, total: weight.values.count) }
  if let diagonal = statistics.diagonal {
    precondition(diagonal.count == weight.columns)
    guard diagonal.allSatisfy(\.isFinite),
      statistics.cross?.diagonal.allSatisfy(\.isFinite) ?? true
    else { throw .badStatistics }
  }
}

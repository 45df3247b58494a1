// What a method of quantization is: a weight and its statistics in, an encoded matrix and its cost out.

public import Encodings
public import LinearAlgebra
public import Tensors

/// How codes are found for a weight matrix.
public enum QuantizationMethod: String, Sendable, CaseIterable {
  /// Each weight to its nearest grid point.
  case rtn
  /// Column by column, each error pushed onto the columns not yet rounded.
  case gptq
  /// GPTQ that also makes up for what the layers before have lost.
  case qronos
  /// GPTQ onto integers of any size behind an entropy coder.
  case ec
  /// Rounding after channels with large activations were scaled up, and ranges clipped.
  case awq
  /// Rounding after the range of activations was moved into the weights, for products in eight bits.
  case smoothquant

  /// Whether there is nothing to do without statistics of a layer's inputs.
  public var needsCalibration: Bool { self != .rtn }
  /// Whether statistics of the original model's inputs go into the method, beside those of the quantized one's.
  public var readsOriginalInputs: Bool { self == .qronos || self == .ec }
}

/// How the range of a group's grid is chosen.
public enum GridSearch: String, Sendable, CaseIterable {
  /// From the least to the largest weight.
  case minmax
  /// The grid with the least squared error, weighted by H's diagonal where there is one.
  case mse
}

/// Why a weight cannot be quantized.
public enum QuantizationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Weights that are infinite or NaN.
  case notFinite(count: Int, total: Int)
  /// A scale that float16 cannot hold.
  case scaleTooLarge(largest: Float)
  /// The method needs calibration, and there is none.
  case needsStatistics(method: String)
  /// The statistics hold infinite or NaN values.
  case badStatistics
  /// The method does not round onto this encoding.
  case unsupportedPair(method: String, encoding: String, known: String)
  /// A matrix whose rows do not divide into the encoding's blocks.
  case raggedColumns(encoding: String, columns: Int, multiple: Int)
  /// H cannot be factorized even with this much damping.
  case singular(damping: Double)
  /// A repair of a weight whose zeros are to stay.
  case repairFillsZeros(encoding: String)
  /// A repair whose factors halves cannot hold.
  case repairTooLarge
  /// An encoding whose zeros cannot be kept while errors are pushed onto them.
  case cannotKeepZeros(encoding: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .notFinite(let count, let total):
      "\(count) of \(total) weights are infinite or NaN; repair the checkpoint first"
    case .scaleTooLarge(let largest):
      "a weight of size \(largest) needs a scale that float16 cannot hold; use more bits or copy it"
    case .needsStatistics(let method): "\(method) needs calibration text (--calibration FILE)"
    case .unsupportedPair(let method, let encoding, let known):
      "\(method) does not round onto \(encoding) (it does onto: \(known))"
    case .raggedColumns(let encoding, let columns, let multiple):
      "its rows of \(columns) do not divide into \(encoding)'s blocks of \(multiple); choose another "
        + "encoding for it or copy it"
    case .cannotKeepZeros(let encoding):
      "error feedback onto \(encoding) cannot keep zeros; use group integers such as int4-g128, or --method rtn"
    case .repairFillsZeros(let encoding):
      "the factors of \(encoding) fill zeros, which a pruned model keeps; give --no-keep-zeros, or no repair"
    case .repairTooLarge:
      "the error of its rounding is too large for factors in halves; quantize it without a repair"
    case .badStatistics: "the calibration inputs are infinite or NaN"
    case .singular(let damping):
      "the second-moment matrix cannot be factorized with damping \(damping) of its mean diagonal; "
        + "use more calibration tokens or rtn"
    }
  }
}

/// A weight in its new encoding, and what that cost.
public struct QuantizedWeight: Sendable {
  /// The codes and grids.
  public let encoded: EncodedMatrix
  /// The method that ran.
  public let method: QuantizationMethod
  /// ‖(W−Ŵ)X‖² / ‖WX‖² over the calibration inputs; without them, ‖W−Ŵ‖² / ‖W‖².
  public let relativeError: Double
  /// Whether the error is of outputs on calibration inputs, or of the weights alone.
  public let isOutputError: Bool
  /// The same of what was rounded, where the method makes up for the drift of earlier layers and rounds another matrix
  /// than W; otherwise the relative error.
  public let roundingError: Double
  /// Times the method had to do otherwise than asked, such as raising the damping.
  public let fallbacks: Int
  /// Inputs that were zero in all of the calibration.
  public let deadInputs: Int
  /// What was rounded, `[outputs, inputs]`, where the method rounds another matrix than W and does not scale it back;
  /// nil where it is W.
  public let target: Matrix?

  /// A result.
  public init(
    encoded: EncodedMatrix, method: QuantizationMethod, relativeError: Double,
    roundingError: Double? = nil, isOutputError: Bool, fallbacks: Int, deadInputs: Int,
    target: Matrix? = nil
  ) {
    self.target = target
    self.roundingError = roundingError ?? relativeError
    self.encoded = encoded
    self.method = method
    self.relativeError = relativeError
    self.isOutputError = isOutputError
    self.fallbacks = fallbacks
    self.deadInputs = deadInputs
  }

  /// The same result in another form with the same weights.
  public func stored(as encoded: EncodedMatrix) -> QuantizedWeight {
    QuantizedWeight(
      encoded: encoded, method: method, relativeError: relativeError,
      roundingError: roundingError, isOutputError: isOutputError, fallbacks: fallbacks,
      deadInputs: deadInputs, target: target)
  }
}

/// A method that replaces a weight matrix by one in an encoding.
///
/// A conformer is a value that holds its options and nothing else. The same inputs give the same bytes,
/// whatever the number of threads.
public protocol WeightQuantizer: Sendable {
  /// Which method this is.
  static var method: QuantizationMethod { get }
  /// Quantizes a weight.
  ///
  /// - Parameters:
  ///   - weight: `[outputs, inputs]`.
  ///   - statistics: What is known of the layer's inputs.
  func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight
}

extension WeightQuantizer {
  /// Quantizes a weight with the mean of x xᵀ over the layer's inputs; nil without calibration.
  public func quantize(
    _ weight: Matrix, moment: DoubleMatrix?, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    try quantize(weight, statistics: moment.map { .moment($0) } ?? .none, encoding: encoding)
  }
}

/// Rejects weights and statistics that are no numbers, and rows that do not fit, before any method sees them.
func check(
  _ weight: Matrix, _ statistics: InputStatistics, _ encoding: any WeightEncoding
) throws(QuantizationError) {
  let count = countNotFinite(weight.values.span)
  guard count == 0 else { throw .notFinite(count: count, total: weight.values.count) }
  if let diagonal = statistics.diagonal {
    precondition(diagonal.count == weight.columns)
    guard diagonal.allSatisfy(\.isFinite),
      statistics.cross?.diagonal.allSatisfy(\.isFinite) ?? true
    else { throw .badStatistics }
  }
  guard weight.columns % encoding.columnMultiple == 0 else {
    throw .raggedColumns(
      encoding: encoding.name, columns: weight.columns, multiple: encoding.columnMultiple)
  }
}

/// `relativeError` of a matrix in its encoding.
func relativeError(
  _ weight: Matrix, _ encoded: EncodedMatrix, statistics: InputStatistics
) -> Double {
  relativeError(weight, encoded.matrix.decoded(), statistics: statistics)
}

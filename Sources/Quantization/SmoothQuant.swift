// SmoothQuant: moves the range of activations into the weights, so that both fit eight bits.
//
// Source   Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
//          arXiv:2211.10438, equation 4
// Given    the weights W_i that read one input x, the largest |x_j| of each channel on calibration text
// Result   factors s_j = max|x_j|^α / max|W_j|^(1−α): W diag(s) is rounded, and x / s is what it reads
// Differs  Channels that come from one row of the layer before share a factor. Factors go through every source that
//          takes them, the rows of v and up included, where the paper's program stops at the norms. The result is
//          W8A8 with a scale a token, the paper's O1 and O2.
// Checked  SmoothQuantTests: equal to the formula in Double; the model's function stays

public import Encodings
import Glibc
public import LinearAlgebra
public import Tensors

/// The factors of channels that smooth their ranges.
public enum Smoothing {
  /// The factors for layers that read one input.
  ///
  /// - Parameters:
  ///   - weights: `[outputs, inputs]` each.
  ///   - largest: The largest size of each input.
  ///   - exponent: α, the share of the range that goes into the weights, 0 to 1.
  ///   - sources: For each channel, the row of the layer before that it comes from; nil when each has its own.
  public static func factors(
    for weights: [Matrix], largest: [Float], exponent: Double, sources: [Int]?
  ) -> [Float] {
    var inputs = largest.map(Double.init)
    var columns = [Double](repeating: 0, count: inputs.count)
    for weight in weights {
      for row in 0..<weight.rows {
        for (column, index) in weight.range(ofRow: row).enumerated() {
          columns[column] = max(columns[column], Double(abs(weight.values[index])))
        }
      }
    }
    if let sources {
      var shared: [Int: (input: Double, column: Double)] = [:]
      for (channel, source) in sources.enumerated() {
        let old = shared[source] ?? (0, 0)
        shared[source] = (max(old.input, inputs[channel]), max(old.column, columns[channel]))
      }
      for (channel, source) in sources.enumerated() {
        guard let own = shared[source] else { continue }
        (inputs[channel], columns[channel]) = own
      }
    }
    return zip(inputs, columns).map { input, column in
      // A channel without activations or without weights has nothing to move.
      guard input > 0, column > 0 else { return 1 }
      return Float(min(max(pow(input, exponent) / pow(column, 1 - exponent), 1e-5), 1e5))
    }
  }
}

/// Rounding of weights that are smoothed already.
public struct SmoothQuant: WeightQuantizer, Equatable {
  /// How grids are chosen.
  public let search: GridSearch

  /// Rounding with grids chosen in a way.
  public init(search: GridSearch = .mse) { self.search = search }

  /// `smoothquant`.
  public static let method = QuantizationMethod.smoothquant

  /// Quantizes a weight.
  public func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    guard encoding is W8A8 else {
      throw .unsupportedPair(
        method: Self.method.rawValue, encoding: encoding.name, known: W8A8.nameList)
    }
    let rounded = try RTN(search: search).quantize(
      weight, statistics: statistics, encoding: encoding)
    return QuantizedWeight(
      encoded: rounded.encoded, method: Self.method, relativeError: rounded.relativeError,
      isOutputError: rounded.isOutputError, fallbacks: 0, deadInputs: rounded.deadInputs)
  }
}

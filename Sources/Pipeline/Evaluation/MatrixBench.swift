// What one matrix of a size costs on this machine: statistics, quantization, decoding, products.

import Encodings
import LinearAlgebra
public import JSONDocuments
public import Quantization
import Tensors

/// Times a method and its encoding on a random matrix with correlated random inputs.
public struct MatrixBench {
  /// Rows of the matrix.
  public var outputs: Int
  /// Columns of the matrix.
  public var inputs: Int
  /// Samples of the inputs, for the second moments.
  public var tokens: Int
  /// The method.
  public var method: QuantizationMethod
  /// The name of the encoding.
  public var encoding: String
  /// ec: stored bits a weight.
  public var bits: Double

  /// A measurement to be made.
  public init(
    outputs: Int, inputs: Int, tokens: Int, method: QuantizationMethod, encoding: String,
    bits: Double
  ) {
    self.outputs = outputs
    self.inputs = inputs
    self.tokens = tokens
    self.method = method
    self.encoding = encoding
    self.bits = bits
  }

  /// What was measured.
  public struct Result: Sendable {
    /// Seconds for the second moments of the inputs.
    public let statistics: Double
    /// Seconds from weight and moments to the stored matrix.
    public let quantize: Double
    /// Stored bits a weight.
    public let bitsPerWeight: Double
    /// The relative output error.
    public let error: Double
    /// Seconds from the stored bytes to a matrix that multiplies, on all threads.
    public let open: Double
    /// Seconds of a product with one token, and with 256.
    public let products: (one: Double, many: Double)
    /// Weights.
    public let weights: Int

    /// For `--json`.
    public var json: JSONValue {
      [
        "weights": .integer(weights), "statistics_s": .number(statistics),
        "quantize_s": .number(quantize), "bits_per_weight": .number(bitsPerWeight),
        "relative_output_error": .number(error), "open_s": .number(open),
        "product_1_s": .number(products.one), "product_256_s": .number(products.many),
        "threads": .integer(ParallelLoop.threads),
      ]
    }
  }

  /// Tokens that are made at once.
  private static let batch = 1024
  /// Each input shares this much with its neighbour, as activations do.
  private static let correlation: Float = 0.7
  /// Short times are the least of so many.
  private static let repeats = 5

  /// Measures.
  public func run(progress: (String, Double) -> Void) throws -> Result {
    // With a pattern, ggml's names mean one type.
    guard case .encode(let target) = try EncodingRule.target(encoding, hasPattern: true) else {
      throw EncodingRuleError.unknownEncoding(
        name: encoding, known: EncodingRegistry.nameList, nearest: nil)
    }
    guard inputs.isMultiple(of: target.columnMultiple) else {
      throw QuantizationError.raggedColumns(
        encoding: encoding, columns: inputs, multiple: target.columnMultiple)
    }
    progress("inputs", 0)
    let weight = Self.normal(rows: outputs, columns: inputs, name: "bench weight")
    var statistics = 0.0
    var moment = SecondMoment(width: inputs)
    for first in stride(from: 0, to: tokens, by: Self.batch) {
      let x = Self.correlated(
        Self.normal(
          rows: min(Self.batch, tokens - first), columns: inputs, name: "bench inputs \(first)"))
      statistics += Self.seconds { moment.add(x) }
      progress("second moments", Double(first) / Double(tokens))
    }
    let mean = moment.mean()
    progress("quantize", 0)
    var request = QuantizeRequest(method: method, rules: [], calibration: nil)
    request.goal = method == .ec ? .bits(bits) : nil
    let item = EncodingAssignment.Item(
      site: MatrixSite(name: "random", role: .branch, outputs: outputs, inputs: inputs),
      target: .encode(target), rule: "default", insteadOf: nil)
    let known = LayerKnowledge(
      statistics: method == .qronos
        ? .asymmetric(moment: mean, cross: mean) : .moment(mean))
    var quantized: Swift.Result<QuantizedWeight, any Error>?
    let quantize = Self.seconds {
      quantized = Swift.Result {
        try request.quantizer(for: item, onto: target, goal: nil, known)
          .quantizeAndRepair(weight, statistics: known.statistics, encoding: target)
      }
    }
    guard let result = try quantized?.get() else { preconditionFailure("nothing was quantized") }
    progress("products", 0)
    var opened = result.encoded.matrix
    let open = Self.best { opened = result.encoded.matrix }
    let x = Self.normal(rows: 256, columns: inputs, name: "bench tokens")
    let one = x.rows(0..<1)
    return Result(
      statistics: statistics, quantize: quantize, bitsPerWeight: opened.bitsPerWeight,
      error: result.relativeError, open: open,
      products: (Self.best { _ = opened.apply(to: one) }, Self.best { _ = opened.apply(to: x) }),
      weights: outputs * inputs)
  }

  private static func seconds(_ body: () -> Void) -> Double {
    ContinuousClock().measure(body) / .seconds(1)
  }

  private static func best(_ body: () -> Void) -> Double {
    (0..<repeats).map { _ in seconds(body) }.min() ?? 0
  }

  private static func normal(rows: Int, columns: Int, name: String) -> Matrix {
    var matrix = Matrix(rows: rows, columns: columns)
    ParallelLoop.overRows(of: &matrix.values, rowLength: columns, blockRows: 64) { block, part in
      var stream = RandomStream(seed: 0, name: "\(name) \(block.lowerBound)")
      for index in part.indices { part[index] = Float(stream.gaussian()) }
    }
    return matrix
  }

  /// A first-order recursion along the inputs, whose second moments have a wide spectrum.
  private static func correlated(_ x: Matrix) -> Matrix {
    var result = x
    for row in 0..<x.rows {
      for column in row * x.columns + 1..<max(row * x.columns + 1, (row + 1) * x.columns) {
        result.values[column] += correlation * result.values[column - 1]
      }
    }
    return result
  }
}

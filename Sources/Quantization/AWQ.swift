// AWQ: channels with large activations are scaled up before rounding, and ranges are clipped where that helps.
//
// Source   Lin et al., "AWQ: Activation-aware Weight Quantization", arXiv:2306.00978, and its code
//          (auto_scale.py, auto_clip.py)
// Given    the weights W_i that read one input x, H = E[x xᵀ]
// Result   factors s, one an input channel: W diag(s) is rounded, and x / s is what it reads; then the grids
// Cost     20 roundings of every weight, each with a product with H; 12 products with a block of H for the grids
// Differs  The error is that of the layers that read the input, tr(D H Dᵀ), exact and without a forward pass, in
//          place of the branch's output on samples. The size of a channel is √H_jj, not the mean of |x_j|, and is
//          at least a hundredth of the mean, so that channels without activations are not scaled to nothing.
//          Channels that come from one row of the layer before share a factor. Beside the clipped ranges, the grid
//          of `--grid` is a candidate. q and k are clipped as all others are.
// Checked  AWQTests: the error of each exponent against a definition in Double; the choice is its minimum

public import Encodings
import Glibc
public import LinearAlgebra
public import Tensors

/// The search for factors that bring the channels of a group's input to sizes that round well.
public struct ActivationScaling: Sendable {
  /// How grids are chosen.
  public let search: GridSearch

  /// Exponents that are tried: 0, 1/20, …, 19/20.
  public static let steps = 20

  /// A search with grids chosen in a way.
  public init(search: GridSearch) { self.search = search }

  /// What the search found.
  public struct Choice: Sendable, Equatable {
    /// The exponent of the channels' sizes.
    public let exponent: Double
    /// One factor a channel.
    public let factors: [Float]
    /// tr(D H Dᵀ) of each exponent, over all layers of the group.
    public let errors: [Double]
  }

  /// The factors for layers that read one input.
  ///
  /// - Parameters:
  ///   - layers: Weights `[outputs, inputs]` and what they will be stored in.
  ///   - moment: H of the input.
  ///   - sources: For each channel, the row of the layer before that it comes from; channels of one row share a
  ///     factor. Nil when each channel has its own.
  public func choose(
    for layers: [(weight: Matrix, encoding: any WeightEncoding)], moment: DoubleMatrix,
    sources: [Int]?
  ) throws(QuantizationError) -> Choice {
    let sizes = Self.sizes(moment, sources: sources)
    // Only relations of errors count: H is brought near 1 so that float32 holds it.
    let level = max(moment.diagonal.reduce(0, +) / Double(max(1, moment.size)), 1e-300)
    let metric = moment.values.map { Float($0 / level) }
    var best: (step: Int, factors: [Float])?
    var errors: [Double] = []
    for step in 0..<Self.steps {
      let factors = Self.factors(sizes, exponent: Double(step) / Double(Self.steps))
      let squares = zip(moment.diagonal, factors).map { $0 / (Double($1) * Double($1)) }
      var error = 0.0
      for (weight, encoding) in layers {
        let scaled = Self.scaled(weight, by: factors)
        let rounded = try RTN(search: search).quantize(
          scaled, statistics: .diagonal(squares), encoding: encoding
        ).encoded.matrix.decoded()
        error += Self.error(
          of: rounded, less: scaled, factors: factors, metric: metric)
      }
      errors.append(error * level)
      if errors[best?.step ?? 0] > errors[step] || best == nil { best = (step, factors) }
    }
    return Choice(
      exponent: Double(best?.step ?? 0) / Double(Self.steps), factors: best?.factors ?? [],
      errors: errors)
  }

  /// The size of each channel's activations: the root of its mean square, over all channels of one source.
  static func sizes(_ moment: DoubleMatrix, sources: [Int]?) -> [Double] {
    var squares = moment.diagonal
    if let sources {
      var sums: [Int: (sum: Double, count: Int)] = [:]
      for (channel, source) in sources.enumerated() {
        let old = sums[source] ?? (0, 0)
        sums[source] = (old.sum + squares[channel], old.count + 1)
      }
      for (channel, source) in sources.enumerated() {
        guard let (sum, count) = sums[source] else { continue }
        squares[channel] = sum / Double(count)
      }
    }
    let sizes = squares.map { $0.squareRoot() }
    let mean = sizes.reduce(0, +) / Double(max(1, sizes.count))
    return sizes.map { max($0, 0.01 * mean) }
  }

  /// s = a^α / √(max · min), so that the middle of its range is 1; 1 where there is nothing to go by.
  static func factors(_ sizes: [Double], exponent: Double) -> [Float] {
    guard let least = sizes.min(), let most = sizes.max(), least > 0 else {
      return [Float](repeating: 1, count: sizes.count)
    }
    let middle = pow(least * most, exponent / 2)
    return sizes.map { Float(pow($0, exponent) / middle) }
  }

  private static func scaled(_ weight: Matrix, by factors: [Float]) -> Matrix {
    var result = weight
    ParallelLoop.overRows(of: &result.values, rowLength: weight.columns, blockRows: 64) {
      rows, part in
      for row in 0..<rows.count {
        for (column, factor) in factors.enumerated() {
          part[row * weight.columns + column] *= factor
        }
      }
    }
    return result
  }

  /// tr(D H Dᵀ), D = (Q − W') diag(1/s).
  private static func error(
    of rounded: Matrix, less scaled: Matrix, factors: [Float], metric: [Float]
  ) -> Double {
    let columns = scaled.columns, blockRows = 64
    return ParallelLoop.map((scaled.rows + blockRows - 1) / blockRows) { block in
      let rows = block * blockRows..<min((block + 1) * blockRows, scaled.rows)
      let difference = (rows.lowerBound * columns..<rows.upperBound * columns).map {
        (rounded.values[$0] - scaled.values[$0]) / factors[$0 % columns]
      }
      return energy(difference, metric, columns)
    }.reduce(0, +)
  }
}

/// Rounding with clipped ranges: what AWQ does with a weight once its channels are scaled.
public struct AWQ: WeightQuantizer, Equatable {
  /// How the unclipped grid is chosen.
  public let search: GridSearch

  /// Rounding with grids chosen in a way, and clipped ones beside them.
  public init(search: GridSearch = .mse) { self.search = search }

  /// `awq`.
  public static let method = QuantizationMethod.awq

  /// The encodings that are rounded onto.
  static let encodingNames = GroupedEncoding.nameList

  /// Shares of the range that are tried: 1, 0.95, …, 0.55.
  static let shares = (0..<10).map { 1 - Float($0) / 20 }

  /// Quantizes a weight whose channels are scaled already.
  public func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    try check(weight, statistics, encoding)
    guard let grouped = GroupedEncoding(encoding) else {
      throw .unsupportedPair(
        method: Self.method.rawValue, encoding: encoding.name, known: Self.encodingNames)
    }
    guard let moment = statistics.moment else {
      throw .needsStatistics(method: Self.method.rawValue)
    }
    let importance = importance(statistics, columns: weight.columns)
    let columns = weight.columns, size = grouped.groupSize(inputs: columns)
    let level = max(moment.diagonal.max() ?? 0, 1e-300)
    let blocks = (0..<grouped.groups(inputs: columns)).map { group -> [Float] in
      let range = group * size..<min((group + 1) * size, columns)
      return range.flatMap { row in range.map { Float(moment[row, $0] / level) } }
    }
    let grids = try GroupGrids(of: weight, encoding: grouped) { values, range in
      Self.grid(
        of: values, encoding: grouped, importance: importance.span.extracting(range),
        metric: blocks[range.lowerBound / size], search: search)
    }
    let encoded = grouped.round(weight, grids: grids)
    return QuantizedWeight(
      encoded: encoded, method: Self.method,
      relativeError: relativeError(weight, encoded, statistics: statistics), isOutputError: true,
      fallbacks: 0, deadInputs: statistics.diagonal?.count { $0 == 0 } ?? 0)
  }

  /// The grid of a group with the least error of its part of the output.
  private static func grid(
    of values: Span<Float>, encoding: GroupedEncoding, importance: Span<Float>, metric: [Float],
    search: GridSearch
  ) -> (scale: Float, zero: Float) {
    let count = values.count
    var largest: Float = 0
    for i in values.indices { largest = max(largest, abs(values[i])) }
    var best = encoding.grid(of: values, importance: importance, search: search)
    guard largest > 0, best.scale.isFinite else { return best }
    var least = error(of: best, values, encoding: encoding, metric: metric)
    var clipped = [Float](repeating: 0, count: count)
    for share in shares {
      let limit = share * largest
      for i in 0..<count { clipped[i] = min(max(values[i], -limit), limit) }
      let candidate = encoding.grid(of: clipped.span, importance: importance, search: .minmax)
      let own = error(of: candidate, values, encoding: encoding, metric: metric)
      if own < least {
        least = own
        best = candidate
      }
    }
    return best
  }

  /// d H_gg dᵀ of a group's roundings.
  private static func error(
    of grid: (scale: Float, zero: Float), _ values: Span<Float>, encoding: GroupedEncoding,
    metric: [Float]
  ) -> Float {
    let count = values.count
    let scales = [Float](repeating: grid.scale, count: count)
    let inverses = [Float](repeating: grid.scale == 0 ? 0 : 1 / grid.scale, count: count)
    let zeros = [Float](repeating: grid.zero, count: count)
    var points = scales
    var codes = [UInt8](repeating: 0, count: count)
    var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
    encoding.roundColumn(
      values, scales: scales.span, inverses: inverses.span, zeros: zeros.span,
      quantized: &pointSpan, codes: &codeSpan)
    for i in 0..<count { points[i] -= values[i] }
    var sum: Float = 0
    for row in 0..<count {
      sum += points[row] * dot(metric.span.extracting(row * count..<(row + 1) * count), points.span)
    }
    return sum
  }
}

// GPTQ: round column by column, pushing each rounding error onto the columns not yet rounded.
//
// Source   Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, Algorithm 1; lazy blocks, section 3.4;
//          activation order with static groups as in the authors' code (--act-order --static-groups)
// Given    W [outputs, inputs]; H = mean of x x^T [inputs, inputs]
// Result   codes that greedily minimise ||(W - Q) X||, rows independent of each other
// Cost     outputs * inputs^2 multiply-adds through BLAS, 2/3 inputs^3 for the factor
// Differs  the grids of all groups are chosen before the first rounding, on the original weights, so that
//          the order of columns costs nothing at run time
// Checked  GPTQTests: equals the unblocked recurrence in Double for every block size and order

public import Encodings
public import LinearAlgebra
public import Tensors

/// GPTQ and its options.
public struct GPTQ: WeightQuantizer, Equatable {
  /// This share of H's mean diagonal is added to the diagonal.
  public let damping: Double
  /// Columns updated at once.
  public let blockSize: Int
  /// Columns with the largest H first.
  public let actOrder: Bool
  /// How grids are chosen.
  public let search: GridSearch
  /// What is zero stays zero: errors that are pushed onto it go on to later columns.
  public let keepsZeros: Bool

  /// GPTQ with its options.
  public init(
    damping: Double = 0.01, blockSize: Int = 128, actOrder: Bool = true, search: GridSearch = .mse,
    keepsZeros: Bool = false
  ) {
    precondition(damping >= 0 && blockSize > 0)
    self.damping = damping
    self.blockSize = blockSize
    self.actOrder = actOrder
    self.search = search
    self.keepsZeros = keepsZeros
  }

  /// `gptq`.
  public static let method = QuantizationMethod.gptq

  /// Rows that one piece of work rounds: a column of them is one vector.
  static let rowsAtOnce = 128

  /// Quantizes a weight.
  public func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    try check(weight, statistics, encoding)
    guard let moment = statistics.moment else {
      throw .needsStatistics(method: Self.method.rawValue)
    }
    let feedback = try feedback(of: moment, encoding: encoding, method: Self.method)
    let encoded = try round(weight, moment, feedback, held: held(of: weight), onto: encoding)
    return QuantizedWeight(
      encoded: encoded, method: Self.method,
      relativeError: relativeError(weight, encoded, statistics: .moment(moment)),
      isOutputError: true, fallbacks: feedback.fallbacks,
      deadInputs: moment.diagonal.count { $0 == 0 })
  }

  /// What pushes errors on: the order of the columns, and the factor for it.
  struct Feedback {
    /// The columns in the order of rounding.
    let order: [Int]
    /// `[columns, columns]`, U of the damped H in that order.
    let factor: [Float]
    /// Times the damping was raised.
    let fallbacks: Int
  }

  /// The encodings that are rounded onto.
  static let encodingNames = [GroupedEncoding.nameList, GGUFBlocks.nameList].joined(separator: ", ")

  /// Order and factor for an encoding.
  func feedback(
    of moment: DoubleMatrix, encoding: any WeightEncoding, method: QuantizationMethod
  ) throws(QuantizationError) -> Feedback {
    let order: [Int]
    switch encoding {
    case _ where GroupedEncoding(encoding) != nil: order = self.order(of: moment)
    // A block is consecutive columns. Its scales and codes are searched together, without places that must be zero.
    case is GGUFBlocks where keepsZeros: throw .cannotKeepZeros(encoding: encoding.name)
    case is GGUFBlocks: order = Array(0..<moment.size)
    default:
      throw .unsupportedPair(
        method: method.rawValue, encoding: encoding.name, known: Self.encodingNames)
    }
    let (factor, fallbacks) = try factor(of: moment, order: order)
    return Feedback(order: order, factor: factor, fallbacks: fallbacks)
  }

  /// The places of a weight that stay zero, row-major; nil when none has to.
  func held(of weight: Matrix) -> [Bool]? { keepsZeros ? weight.values.map { $0 == 0 } : nil }

  /// Algorithm 1 on a weight that has been checked.
  ///
  /// - Parameter held: Places that become zero, row-major.
  func round(
    _ weight: Matrix, _ moment: DoubleMatrix, _ feedback: Feedback, held: [Bool]?,
    onto encoding: any WeightEncoding
  ) throws(QuantizationError) -> EncodedMatrix {
    if let blocks = encoding as? GGUFBlocks { return round(weight, feedback, onto: blocks) }
    guard let grouped = GroupedEncoding(encoding) else {
      preconditionFailure("feedback(of:encoding:method:) refused \(encoding.name)")
    }
    return try round(weight, moment, feedback, held: held, onto: grouped)
  }

  private func order(of moment: DoubleMatrix) -> [Int] {
    let diagonal = moment.diagonal
    return actOrder
      ? diagonal.indices.sorted { (diagonal[$1], $0) < (diagonal[$0], $1) }
      : Array(diagonal.indices)
  }

  private func round(
    _ weight: Matrix, _ moment: DoubleMatrix, _ feedback: Feedback, held: [Bool]?,
    onto encoding: GroupedEncoding
  ) throws(QuantizationError) -> EncodedMatrix {
    let grids = try GroupGrids(
      of: weight, encoding: encoding,
      importance: importance(.moment(moment), columns: weight.columns), search: search)
    let codes = round(
      weight, grids, feedback, held: held, encoding: encoding)
    return encoding.encode(
      outputs: weight.rows, inputs: weight.columns, codes: codes, grids: grids)
  }

  /// U of the damped H in the order of rounding, as floats.
  func factor(
    of moment: DoubleMatrix, order: [Int]
  ) throws(QuantizationError) -> (factor: [Float], fallbacks: Int) {
    do throws(FeedbackFactor.Singular) {
      let factor = try FeedbackFactor(of: moment, order: order, damping: damping)
      return (factor.values, factor.fallbacks)
    } catch {
      throw .singular(damping: error.damping)
    }
  }

  /// The codes `[outputs, inputs]`, in the columns' own order.
  private func round(
    _ weight: Matrix, _ grids: GroupGrids, _ feedback: Feedback, held: [Bool]?,
    encoding: GroupedEncoding
  ) -> [UInt8] {
    let order = feedback.order
    let columns = weight.columns
    var codes = [UInt8](repeating: 0, count: weight.rows * columns)
    let pieces = (weight.rows + Self.rowsAtOnce - 1) / Self.rowsAtOnce
    ParallelLoop.parts(
      of: &codes, count: pieces,
      range: { piece in
        piece * Self.rowsAtOnce * columns..<min((piece + 1) * Self.rowsAtOnce, weight.rows)
          * columns
      }
    ) { piece, target in
      let first = piece * Self.rowsAtOnce
      let rows = first..<min(first + Self.rowsAtOnce, weight.rows)
      let rounding = GPTQRounding(
        weight, grids, rows: rows, feedback, held: held, encoding: encoding)
      let codes = rounding.run(blockSize: blockSize)
      for column in 0..<columns {
        for row in 0..<rows.count {
          target[row * columns + order[column]] = codes[column * rows.count + row]
        }
      }
    }
    return codes
  }
}

/// Algorithm 1 on some rows. Everything is column-major, in the order of rounding, so that a column of all
/// rows is one vector.
private struct GPTQRounding {
  let rows: Int
  let columns: Int
  /// `[columns, rows]`: the weights, less the errors that were pushed onto them.
  let w: [Float]
  /// `[columns, columns]`, U.
  let u: [Float]
  /// `[groups, rows]`.
  let scales: [Float]
  let inverses: [Float]
  let zeros: [Float]
  /// The group of each column.
  let groups: [Int]
  let encoding: GroupedEncoding
  /// `[columns, rows]`: what becomes zero; empty when nothing has to.
  let held: [Bool]

  init(
    _ weight: Matrix, _ grids: GroupGrids, rows: Range<Int>, _ feedback: GPTQ.Feedback,
    held places: [Bool]?, encoding: GroupedEncoding
  ) {
    let order = feedback.order
    let count = rows.count
    self.rows = count
    columns = weight.columns
    u = feedback.factor
    self.encoding = encoding
    let size = encoding.groupSize(inputs: weight.columns)
    let groupCount = encoding.groups(inputs: weight.columns)
    groups = order.map { $0 / size }
    var w = [Float](repeating: 0, count: columns * count)
    for (position, column) in order.enumerated() {
      for (index, row) in rows.enumerated() {
        w[position * count + index] = weight.values[row * weight.columns + column]
      }
    }
    self.w = w
    held =
      places.map { places in
        order.flatMap { column in rows.map { places[$0 * weight.columns + column] } }
      } ?? []
    var scales = [Float](repeating: 0, count: groupCount * count)
    var zeros = scales
    for group in 0..<groupCount {
      for (index, row) in rows.enumerated() {
        scales[group * count + index] = grids.scales[row * groupCount + group]
        zeros[group * count + index] = grids.zeros[row * groupCount + group]
      }
    }
    self.scales = scales
    self.zeros = zeros
    inverses = scales.map { $0 == 0 ? 0 : 1 / $0 }
  }

  /// The codes `[columns, rows]`.
  func run(blockSize: Int) -> [UInt8] {
    var codes = [UInt8](repeating: 0, count: columns * rows)
    ErrorFeedback.run(w, rows: rows, columns: columns, factor: u, blockSize: blockSize) {
      column, values, errors in
      var span = codes.mutableSpan
      var columnCodes = span._mutatingExtracting(column * rows..<(column + 1) * rows)
      roundOne(column, values, codes: &columnCodes, errors: &errors)
    }
    return codes
  }

  /// Rounds a column; `errors` becomes (w - q) / U_ii.
  private func roundOne(
    _ column: Int, _ values: Span<Float>, codes: inout MutableSpan<UInt8>,
    errors: inout MutableSpan<Float>
  ) {
    let group = groups[column] * rows..<(groups[column] + 1) * rows
    func round(_ values: Span<Float>) {
      encoding.roundColumn(
        values, scales: scales.span.extracting(group), inverses: inverses.span.extracting(group),
        zeros: zeros.span.extracting(group), quantized: &errors, codes: &codes)
    }
    if held.isEmpty {
      round(values)
    } else {
      // Zero is a point of every grid: a held place is rounded as if it carried no error.
      let own = values.indices.map { held[column * rows + $0] ? 0 : values[$0] }
      round(own.span)
    }
    let inverse = 1 / u[column * columns + column]
    for i in values.indices { errors[i] = (values[i] - errors[i]) * inverse }
  }
}

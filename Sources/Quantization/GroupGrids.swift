// The grid of each group of weights: from the range, or by a search for the least weighted squared error.
//
// Source   The search over shrunken ranges follows Frantar et al.'s gptq code (quant.py: p = 1 - i/100, i < 80);
//          the symmetric scale keeps the sign of the largest weight, so that the extra negative level is
//          used (llama.cpp's Q4_0); the refit is the closed-form least-squares scale for fixed codes.
// Given    a group's weights and the importance of each (H's diagonal, or 1)
// Result   scale, exactly a half, and zero point; zero is always on the grid
// Differs  from gptq's code: squared error instead of the power 2.4, weighted; zero points next to the
//          best are tried too, since a two-bit grid is decided by them

import Encodings
import Glibc
import Tensors

/// Encodings of a code a weight and a grid a group.
enum GroupedEncoding {
  case integers(GroupIntegers)
  case levels(LevelGroups)
  /// Integers that are multiplied with rounded activations.
  case withActivations(W8A8)

  /// Nil for other encodings.
  init?(_ encoding: any WeightEncoding) {
    switch encoding {
    case let encoding as GroupIntegers: self = .integers(encoding)
    case let encoding as LevelGroups: self = .levels(encoding)
    case let encoding as W8A8: self = .withActivations(encoding)
    default: return nil
    }
  }

  /// The names of all of them, as a message lists them.
  static let nameList = [GroupIntegers.nameList, LevelGroups.nameList, W8A8.nameList]
    .joined(separator: ", ")

  func groupSize(inputs: Int) -> Int {
    switch self {
    case .integers(let encoding): encoding.groupSize(inputs: inputs)
    case .levels(let encoding): encoding.groupSize(inputs: inputs)
    case .withActivations: W8A8.weights.groupSize(inputs: inputs)
    }
  }

  func groups(inputs: Int) -> Int {
    switch self {
    case .integers(let encoding): encoding.groups(inputs: inputs)
    case .levels(let encoding): encoding.groups(inputs: inputs)
    case .withActivations: W8A8.weights.groups(inputs: inputs)
    }
  }

  /// Scale and zero point of one group; levels have no zero point.
  func grid(
    of values: Span<Float>, importance: Span<Float>, search: GridSearch
  ) -> (scale: Float, zero: Float) {
    switch self {
    case .withActivations:
      return GroupedEncoding.integers(W8A8.weights).grid(
        of: values, importance: importance, search: search)
    case .integers(let encoding):
      let grid = bestGrid(
        of: values, importance: importance, encoding: encoding, search: search)
      return (grid.scale, grid.zero)
    case .levels(let encoding):
      return (
        bestScale(of: values, importance: importance, encoding: encoding, search: search), 0
      )
    }
  }

  /// Rounds a column of values, each on its own grid, with 1 / scale in `inverses`, 0 where the scale is 0.
  func roundColumn(
    _ values: Span<Float>, scales: Span<Float>, inverses: Span<Float>, zeros: Span<Float>,
    quantized: inout MutableSpan<Float>, codes: inout MutableSpan<UInt8>
  ) {
    switch self {
    case .withActivations:
      GroupedEncoding.integers(W8A8.weights).roundColumn(
        values, scales: scales, inverses: inverses, zeros: zeros, quantized: &quantized,
        codes: &codes)
    case .integers(let encoding):
      Tensors.roundColumn(
        values, scales: scales, inverses: inverses, zeros: zeros, top: Float(encoding.top),
        quantized: &quantized, codes: &codes)
    case .levels(let encoding):
      encoding.roundColumn(
        values, scales: scales, inverses: inverses, quantized: &quantized, codes: &codes)
    }
  }

  /// Rounds every weight to the nearest point of its group's grid.
  func round(_ weight: Matrix, grids: GroupGrids) -> EncodedMatrix {
    let columns = weight.columns
    let groups = groups(inputs: columns), size = groupSize(inputs: columns)
    var codes = [UInt8](repeating: 0, count: weight.rows * columns)
    ParallelLoop.parts(
      of: &codes, count: weight.rows,
      range: {
        $0 * columns..<($0 + 1) * columns
      }
    ) { row, target in
      let scales = (0..<columns).map { grids.scales[row * groups + $0 / size] }
      let inverses = scales.map { $0 == 0 ? 0 : 1 / $0 }
      let zeros = (0..<columns).map { grids.zeros[row * groups + $0 / size] }
      var points = [Float](repeating: 0, count: columns)
      var pointSpan = points.mutableSpan
      roundColumn(
        weight.values.span.extracting(weight.range(ofRow: row)), scales: scales.span,
        inverses: inverses.span, zeros: zeros.span, quantized: &pointSpan, codes: &target)
    }
    return encode(outputs: weight.rows, inputs: columns, codes: codes, grids: grids)
  }

  /// Packs codes `[outputs, inputs]` and grids.
  func encode(outputs: Int, inputs: Int, codes: [UInt8], grids: GroupGrids) -> EncodedMatrix {
    switch self {
    case .integers(let encoding):
      encoding.encode(
        outputs: outputs, inputs: inputs, codes: codes,
        scales: narrow(grids.scales.span, to: .float16), zeros: grids.zeros.map { UInt8($0) })
    case .levels(let encoding):
      encoding.encode(outputs: outputs, inputs: inputs, codes: codes, scales: grids.scales)
    case .withActivations(let encoding):
      EncodedMatrix(
        encoding: encoding, outputs: outputs, inputs: inputs,
        parts: GroupedEncoding.integers(W8A8.weights).encode(
          outputs: outputs, inputs: inputs, codes: codes, grids: grids
        ).parts)
    }
  }
}

/// The grids of all groups of a matrix.
struct GroupGrids {
  /// `[outputs, groups]`, as they are stored.
  let scales: [Float]
  /// `[outputs, groups]`, integers as floats.
  let zeros: [Float]

  /// Chooses the grid of every group.
  ///
  /// - Parameter importance: One weight a column.
  init(
    of weight: Matrix, encoding: GroupedEncoding, importance: [Float], search: GridSearch
  ) throws(QuantizationError) {
    try self.init(of: weight, encoding: encoding) { values, columns in
      encoding.grid(
        of: values, importance: importance.span.extracting(columns), search: search)
    }
  }

  /// Chooses the grid of every group.
  ///
  /// - Parameter choose: Gives the grid of a group's weights, which stand in these columns.
  init(
    of weight: Matrix, encoding: GroupedEncoding,
    choose: (Span<Float>, Range<Int>) -> (scale: Float, zero: Float)
  ) throws(QuantizationError) {
    let columns = weight.columns
    let groups = encoding.groups(inputs: columns), size = encoding.groupSize(inputs: columns)
    let grids = ParallelLoop.map(weight.rows) { row -> [(scale: Float, zero: Float)] in
      let values = weight.values.span.extracting(weight.range(ofRow: row))
      return (0..<groups).map { group in
        let range = group * size..<min((group + 1) * size, columns)
        return choose(values.extracting(range), range)
      }
    }
    let flat = grids.flatMap { $0 }
    scales = flat.map(\.scale)
    zeros = flat.map(\.zero)
    if scales.contains(where: { !$0.isFinite }) {
      throw .scaleTooLarge(largest: weight.values.reduce(0) { max($0, abs($1)) })
    }
  }
}

/// The value of a float after it was stored as a half.
func halfRounded(_ value: Float) -> Float { Float(Float16(value)) }

/// The grid of one group.
func bestGrid(
  of values: Span<Float>, importance: Span<Float>, encoding: GroupIntegers, search: GridSearch
) -> UniformGrid {
  var low: Float = 0, high: Float = 0, extreme: Float = 0
  for i in values.indices {
    let value = values[i]
    if value < low { low = value }
    if value > high { high = value }
    if abs(value) > abs(extreme) { extreme = value }
  }
  let top = Float(encoding.top)
  guard extreme != 0 else {
    return UniformGrid(scale: 0, zero: encoding.isSymmetric ? Float(encoding.middle) : 0, top: top)
  }
  // The grid that spans a share of the range.
  func grid(share: Float) -> UniformGrid {
    if encoding.isSymmetric {
      // The largest weight, with its sign, falls on code 0, the end with the extra level.
      return UniformGrid(
        scale: halfRounded(-extreme * share / Float(encoding.middle)),
        zero: Float(encoding.middle), top: top)
    }
    let scale = halfRounded((high - low) * share / top)
    let zero = scale > 0 ? (-low * share / scale).rounded(.toNearestOrEven) : 0
    return UniformGrid(scale: scale, zero: min(max(zero, 0), top), top: top)
  }
  var best = grid(share: 1)
  guard search == .mse, best.scale.isFinite else { return best }
  var least = best.error(of: values, weights: importance)
  func consider(_ candidate: UniformGrid) {
    guard candidate.scale != 0, candidate.scale.isFinite else { return }
    let error = candidate.error(of: values, weights: importance)
    if error < least {
      least = error
      best = candidate
    }
  }
  // Two bits clip far into the range, eight hardly at all.
  let steps = encoding.bits <= 3 ? 64 : encoding.bits <= 5 ? 40 : 16
  for step in 1...steps { consider(grid(share: 1.04 - 0.01 * Float(step))) }
  if !encoding.isSymmetric {
    for step in stride(from: 0, to: steps, by: 4) {
      let start = grid(share: 1 - 0.01 * Float(step))
      for shift in [-1, 1] as [Float] where (0...top).contains(start.zero + shift) {
        consider(UniformGrid(scale: start.scale, zero: start.zero + shift, top: top))
      }
    }
  } else {
    // The other sign puts the extra level at the other end.
    for step in 0..<steps {
      let start = grid(share: 1.04 - 0.01 * Float(step))
      consider(UniformGrid(scale: -start.scale, zero: start.zero, top: top))
    }
  }
  for _ in 0..<3 {
    let before = best
    consider(refitted(best, values, importance))
    for factor in [0.99, 0.995, 1.005, 1.01] as [Float] {
      consider(UniformGrid(scale: halfRounded(best.scale * factor), zero: best.zero, top: top))
    }
    if best == before { break }
  }
  return best
}

/// The scale with the least weighted squared error for the codes that a grid gives.
private func refitted(
  _ grid: UniformGrid, _ values: Span<Float>, _ importance: Span<Float>
) -> UniformGrid {
  let count = values.count
  let scales = [Float](repeating: grid.scale, count: count)
  let inverses = [Float](repeating: grid.inverse, count: count)
  let zeros = [Float](repeating: grid.zero, count: count)
  var points = [Float](repeating: 0, count: count)
  var codes = [UInt8](repeating: 0, count: count)
  var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
  roundColumn(
    values, scales: scales.span, inverses: inverses.span, zeros: zeros.span, top: grid.top,
    quantized: &pointSpan, codes: &codeSpan)
  var product = 0.0, square = 0.0
  for i in 0..<count {
    let level = Double(codes[i]) - Double(grid.zero)
    product += Double(importance[i]) * Double(values[i]) * level
    square += Double(importance[i]) * level * level
  }
  guard square > 0 else { return grid }
  return UniformGrid(
    scale: halfRounded(Float(product / square)), zero: grid.zero, top: grid.top)
}

/// The scale of one group of levels.
///
/// NF4 is searched from well inside the range, with both signs, as its levels are not symmetric. FP8's levels lie as
/// densely at any size: only how the weights fall between them changes, over an octave.
func bestScale(
  of values: Span<Float>, importance: Span<Float>, encoding: LevelGroups, search: GridSearch
) -> Float {
  var largest: Float = 0
  for i in values.indices where abs(values[i]) > largest { largest = abs(values[i]) }
  func stored(_ scale: Float) -> Float {
    let stored = encoding.scaleType == .float16 ? halfRounded(scale) : scale
    // Below this 1 / scale is infinite: such weights are as good as 0.
    return abs(stored) < 0x1p-126 ? 0 : stored
  }
  var best = stored(largest / encoding.top)
  guard search == .mse, best.isFinite else { return best }
  var least = encoding.error(of: values, weights: importance, scale: best)
  func consider(_ candidate: Float) {
    guard candidate != 0, candidate.isFinite else { return }
    let error = encoding.error(of: values, weights: importance, scale: candidate)
    if error < least {
      least = error
      best = candidate
    }
  }
  let start = largest / encoding.top
  if encoding.levels == .fp8 {
    for step in -4...16 { consider(stored(start * Float(exp2(Double(step) / 16)))) }
  } else {
    for step in 1...50 {
      for sign in [1, -1] as [Float] {
        consider(stored(sign * start * (1.1 - 0.01 * Float(step))))
      }
    }
  }
  for _ in 0..<3 {
    let before = best
    consider(stored(refitted(best, values, importance, encoding)))
    for factor in [0.99, 0.995, 1.005, 1.01] as [Float] { consider(stored(best * factor)) }
    if best == before { break }
  }
  return best
}

/// The scale with the least weighted squared error for the codes that a scale gives.
private func refitted(
  _ scale: Float, _ values: Span<Float>, _ importance: Span<Float>, _ encoding: LevelGroups
) -> Float {
  guard scale != 0 else { return 0 }
  let count = values.count
  let scales = [Float](repeating: scale, count: count)
  let inverses = [Float](repeating: 1 / scale, count: count)
  var points = scales
  var codes = [UInt8](repeating: 0, count: count)
  var pointSpan = points.mutableSpan, codeSpan = codes.mutableSpan
  encoding.roundColumn(
    values, scales: scales.span, inverses: inverses.span, quantized: &pointSpan, codes: &codeSpan)
  var product = 0.0, square = 0.0
  for i in 0..<count {
    let level = Double(points[i]) / Double(scale)
    product += Double(importance[i]) * Double(values[i]) * level
    square += Double(importance[i]) * level * level
  }
  return square > 0 ? Float(product / square) : scale
}

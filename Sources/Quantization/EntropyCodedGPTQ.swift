// Successive cancellation onto integers of any size, each column with the step that makes all columns' errors
// count alike; an entropy coder stores the integers.
//
// Source   Lifar, Savkin, Ordentlich, Polyanskiy, "WaterSIC", ICML 2026, arXiv:2603.04956
// Given    W [outputs, inputs]; H = mean of x x^T; M = H + damping I = (U^T U)^-1, U upper triangular; bits a weight
// Drift    with C = mean of x y^T, x the original model's inputs and y those by now, W + W (C - H) (H + damping)^-1 takes
//          the place of W (Qronos.swift)
// Target   W' = W H M^-1: (w - q) H (w - q)^T + damping q q^T = (w' - q) M (w' - q)^T + a constant, and q q^T is what
//          codes cost in bits. With damping = water level / variance of weights, components of H under water
//          get no bits (Wiener's estimate, as in Zamir, "Lattice Coding for Signals and Networks", chapter 4)
// Result   codes = w'_j / s_j, s_j = c U_jj / (geometric mean of U), rounded along a trellis of half steps down each
//          column (Trellis.swift), each error pushed on as in GPTQ; or, for few rows and high rates, to the nearest:
//          then single codes move while that lowers the error (coordinate descent, as in Behdin et al.,
//          "QuantEase", arXiv:2309.01885). Last, every row's least-squares scale <w, q>_H / <q, q>_H
// Outputs  rows whose errors count d times as much get steps 1 / sqrt(d) as wide (reverse water-filling), and with them
//          their own water level, hence their own damping: rows with steps of about one size share a factor
// Search   c such that the whole stored size is `bits` a weight: the rate falls by nearly 1 bit an octave of c
// Differs  steps are rounded to eighths of an octave, which costs 0.001 bit and saves half of their storage
// Checked  EntropyCodedGPTQTests: the recurrence in Double; the asked size; less error than GPTQ of that size

public import Encodings
import Glibc
public import LinearAlgebra
public import Tensors

/// Entropy-coded GPTQ for a number of bits a weight, or for an error.
public struct EntropyCodedGPTQ: WeightQuantizer, Equatable {
  /// What decides the size of the steps.
  public enum Goal: Sendable, Equatable {
    /// Stored bits a weight, everything included, and how far from them the result may be.
    case bits(Double, within: Double = 0.006)
    /// The fewest bits whose relative error ‖(W−Ŵ)X‖² / ‖WX‖² is at most this.
    case error(Double)
  }

  /// What is aimed at.
  public let goal: Goal
  /// How much errors of the outputs count.
  public let outputs: OutputStatistics
  /// This share of H's mean diagonal is added to the diagonal; nil sets it to the water level.
  public let damping: Double?
  /// Columns updated at once.
  public let blockSize: Int
  /// Whether weights that are zero stay zero: then there is no trellis, on which not every column can take a zero.
  public let keepsZeros: Bool

  /// The rates that can be asked for.
  public static let bitRange = 0.25...12.0

  /// A method for a goal.
  public init(
    goal: Goal, outputs: OutputStatistics = .equal, damping: Double? = nil, blockSize: Int = 128,
    keepsZeros: Bool = false
  ) {
    switch goal {
    case .bits(let bits, let slack): precondition(Self.bitRange.contains(bits) && slack > 0)
    case .error(let error): precondition(error > 0)
    }
    precondition((damping ?? 0) >= 0 && blockSize > 0)
    self.goal = goal
    self.outputs = outputs
    self.damping = damping
    self.blockSize = blockSize
    self.keepsZeros = keepsZeros
  }

  /// A method for a rate.
  public init(bits: Double, damping: Double? = nil, blockSize: Int = 128) {
    self.init(goal: .bits(bits), damping: damping, blockSize: blockSize)
  }

  /// `ec`.
  public static let method = QuantizationMethod.ec

  /// Looks at every code after rounding: few move after these.
  private static let sweeps = 6
  /// Passes over the whole matrix at most.
  private static let passes = 6
  /// An error of at most what is asked for and no less than this share of it is right.
  private static let errorSlack = 0.95
  /// Rows of the sample that the search begins with, and how much larger a matrix must be to be sampled.
  private static let sampleRows = 256
  private static let sampleFrom = 3
  /// When H cannot be factorized, the damping is raised tenfold up to this share; each raise is a fallback.
  private static let largestDamping = 1.0
  /// Rows whose steps lie within as many eighths of an octave share a factor of H.
  private static let groupEighths = 8
  /// This share of G's mean diagonal is added to its diagonal: G is the mean of a sample.
  private static let outputDamping = 0.01
  /// The rows' steps differ by no more than this many eighths of an octave from their mean.
  private static let largestRowExponent = 40

  /// The square of twice the step over the error of a trellis at high rate: 12, 1.1 dB better.
  private static let trellisNoise = 15.45

  /// log2 of the deviation of a normal weight's error over the step that takes no bits: log2(2 pi e) / 2.
  private static let normalEntropy = log2(2 * Double.pi * exp(1)) / 2

  /// Quantizes a weight; the encoding asked for is `EntropyCoded()`, the one returned has the stream's size.
  public func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    try check(weight, statistics, encoding)
    guard encoding is EntropyCoded else {
      throw .unsupportedPair(
        method: Self.method.rawValue, encoding: encoding.name, known: EntropyCoded.nameList)
    }
    let largest = weight.values.reduce(0) { max($0, abs($1)) }
    guard largest <= 0x1p40 else { throw .scaleTooLarge(largest: largest) }
    precondition(outputs.count.map { $0 == weight.rows } ?? true)
    let (moment, isKnown) = Self.moment(statistics, columns: weight.columns)
    let diagonal = moment.diagonal
    // An error to keep is that of the layer itself.
    var target = weight, raises = 0
    if case .bits = goal { (target, raises) = try Self.corrected(weight, statistics) }
    var live = target
    for (column, value) in diagonal.enumerated() where value == 0 {
      for row in 0..<weight.rows { live.values[row * weight.columns + column] = 0 }
    }
    let outputFactor = try outputFactor()
    let held = keepsZeros ? weight.values.map { $0 == 0 } : nil
    let rows = rowExponents(of: live, outputFactor)
    let start = Self.start(
      bits: expectedBits, deviations: Self.deviations(of: live, inputs: diagonal), rows)
    let (plan, fallbacks) = try plan(
      live, moment, diagonal, held: held, rowExponents: rows, outputFactor: outputFactor,
      start: start)
    let encoded = search(plan, start: start) { encoded in
      relativeError(weight, encoded, statistics: statistics)
    }
    let error = relativeError(weight, encoded, statistics: statistics)
    // An error that no step that was tried keeps to is not what was asked for.
    if case .error(let limit) = goal, error > limit { raises += 1 }
    return QuantizedWeight(
      encoded: encoded, method: Self.method, relativeError: error,
      roundingError: target == weight
        ? nil : relativeError(target, encoded, statistics: statistics),
      isOutputError: isKnown, fallbacks: fallbacks + raises, deadInputs: diagonal.count { $0 == 0 })
  }

  /// The weights that best give the original model's outputs from the inputs as they are by now, and how often the
  /// damping was raised for them.
  private static func corrected(
    _ weight: Matrix, _ statistics: InputStatistics
  ) throws(QuantizationError) -> (target: Matrix, fallbacks: Int) {
    guard let moment = statistics.moment, let cross = statistics.cross else { return (weight, 0) }
    // Nothing has moved before the first layer.
    guard moment.values != cross.values else { return (weight, 0) }
    let rounding = GPTQ(actOrder: false)
    let order = Array(0..<moment.size)
    let (factor, fallbacks) = try rounding.factor(of: moment, order: order)
    let feedback = GPTQ.Feedback(order: order, factor: factor, fallbacks: fallbacks)
    let target = Qronos.target(of: weight, moment, cross, feedback)
    guard countNotFinite(target.values.span) == 0 else { throw .badStatistics }
    return (target, fallbacks)
  }

  /// H, as far as it is known.
  private static func moment(
    _ statistics: InputStatistics, columns: Int
  ) -> (moment: DoubleMatrix, isKnown: Bool) {
    if let moment = statistics.moment { return (moment, true) }
    var moment = DoubleMatrix(size: columns)
    for column in 0..<columns { moment[column, column] = statistics.diagonal?[column] ?? 1 }
    return (moment, statistics.diagonal != nil)
  }

  /// About the bits that the goal takes.
  var expectedBits: Double {
    switch goal {
    case .bits(let bits, _): bits
    case .error(let error): min(max(-log2(error) / 2, 0.5), 10)
    }
  }

  /// V with (G + damping I)⁻¹ = Vᵀ V; nil when outputs count each for itself.
  private func outputFactor() throws(QuantizationError) -> DoubleMatrix? {
    guard case .moment(let moment) = outputs else { return nil }
    let mean = moment.diagonal.reduce(0, +) / Double(max(1, moment.size))
    guard mean > 0, mean.isFinite else { throw .badStatistics }
    do throws(FactorizationError) {
      return try inverseFactor(of: moment, damping: Self.outputDamping * mean)
    } catch {
      throw .singular(damping: Self.outputDamping)
    }
  }

  /// Reverse water-filling over outputs: a row's step falls with the root of its importance, which is 1 / V_rr² once the
  /// rows before it have passed their errors on.
  private func rowExponents(of weight: Matrix, _ outputFactor: DoubleMatrix?) -> [Int] {
    let logs: [Double]
    if let outputFactor {
      logs = outputFactor.diagonal.map { -log2($0) }
    } else if case .diagonal(let importance) = outputs {
      logs = importance.map { $0 > 0 ? log2($0) / 2 : -.infinity }
    } else {
      return [Int](repeating: 0, count: weight.rows)
    }
    let finite = logs.filter(\.isFinite)
    let mean = finite.reduce(0, +) / Double(max(1, finite.count))
    let limit = Double(Self.largestRowExponent)
    return logs.map { Int(min(max(8 * (mean - $0), -limit), limit).rounded()) }
  }

  /// Root mean square of the weights of live inputs, by row.
  private static func deviations(of weight: Matrix, inputs diagonal: [Double]) -> [Double] {
    let alive = max(1, diagonal.count { $0 > 0 })
    return (0..<weight.rows).map { row in
      let sum = weight.values[weight.range(ofRow: row)].reduce(0.0) {
        $0 + Double($1) * Double($1)
      }
      return (sum / Double(alive)).squareRoot()
    }
  }

  /// log2 of the base at which normal weights of these sizes would take `bits`; all others take less. Nil when all weights
  /// are zero.
  private static func start(bits: Double, deviations: [Double], _ rowExponents: [Int]) -> Double? {
    let levels = zip(deviations, rowExponents).filter { $0.0 > 0 }.map {
      log2($0) - Double($1) / 8
    }
    guard !levels.isEmpty else { return nil }
    // Rows below the water take none, so that the others' share is found by bisection.
    func rate(_ base: Double) -> Double {
      levels.reduce(0.0) { $0 + max(0, $1 - base + normalEntropy) } / Double(levels.count)
    }
    var low = (levels.min() ?? 0) - bits - 8, high = (levels.max() ?? 0) + normalEntropy
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if rate(middle) > bits { low = middle } else { high = middle }
    }
    return low
  }

  static func mean(_ values: [Int]) -> Double {
    Double(values.reduce(0, +)) / Double(max(1, values.count))
  }

  /// Rows with steps of about one size, the group with the median step first.
  private static func groups(_ rowExponents: [Int]) -> [(rows: [Int], exponent: Double)] {
    let middle = rowExponents.isEmpty ? 0 : rowExponents.sorted()[rowExponents.count / 2]
    var groups: [Int: [Int]] = [:]
    for (row, exponent) in rowExponents.enumerated() {
      let shifted = exponent - middle + groupEighths / 2
      let index = shifted >= 0 ? shifted / groupEighths : (shifted + 1) / groupEighths - 1
      groups[index, default: []].append(row)
    }
    return groups.sorted { (abs($0.key), $0.key) < (abs($1.key), $1.key) }.map { _, rows in
      (rows, mean(rows.map { rowExponents[$0] }))
    }
  }

  /// Everything that rounding needs. A group's damping is its water level over its weights' variance: (c²/12) / s²
  /// with steps c U_jj / (geometric mean of U).
  private func plan(
    _ weight: Matrix, _ moment: DoubleMatrix, _ diagonal: [Double], held: [Bool]?,
    rowExponents: [Int], outputFactor: DoubleMatrix?, start: Double?
  ) throws(QuantizationError) -> (plan: Plan, fallbacks: Int) {
    let alive = diagonal.indices.filter { diagonal[$0] > 0 }
    let mean = alive.isEmpty ? 1 : alive.reduce(0.0) { $0 + diagonal[$1] } / Double(alive.count)
    // A dead input takes part with the mean.
    var live = moment
    for (column, value) in diagonal.enumerated() where value == 0 { live[column, column] = mean }
    let first = try factor(of: live, share: damping ?? 0.3 * exp2(-2 * expectedBits), mean: mean)
    var fallbacks = first.fallbacks
    let logs = alive.reduce(0.0) { $0 + log2(first.factor[$1, $1]) } / Double(max(1, alive.count))
    let deviations = Self.deviations(of: weight, inputs: diagonal)
    var dampings: [(rows: [Int], damping: Double, factor: DoubleMatrix)] = []
    let isTrellis = usesTrellis(weight, rowExponents)
    let groups =
      outputFactor == nil
      ? Self.groups(rowExponents)
      : [(rows: Array(0..<weight.rows), exponent: Self.mean(rowExponents))]
    for group in groups where !group.rows.isEmpty {
      let variance =
        group.rows.reduce(0.0) { $0 + deviations[$1] * deviations[$1] } / Double(group.rows.count)
      guard damping == nil, fallbacks == 0, let start, variance > 0 else {
        dampings.append((group.rows, first.damping, first.factor))
        continue
      }
      let level =
        exp2(2 * (start + group.exponent / 8 - logs)) / (isTrellis ? Self.trellisNoise : 12)
      // Up to a row without any bits: the rate formula holds for water below the weights alone.
      let share = min(Self.largestDamping, level / variance / mean)
      let own = try factor(of: live, share: share, mean: mean)
      fallbacks += own.fallbacks
      dampings.append((group.rows, own.damping, own.factor))
    }
    return (
      Plan(
        weight: weight, moment: moment, isDead: diagonal.map { $0 == 0 }, held: held,
        rowExponents: rowExponents, dampings: dampings, outputFactor: outputFactor,
        isTrellis: isTrellis, blockSize: blockSize, sweeps: Self.sweeps),
      fallbacks
    )
  }

  /// U of the damped H.
  private func factor(
    of live: DoubleMatrix, share: Double, mean: Double
  ) throws(QuantizationError) -> (factor: DoubleMatrix, damping: Double, fallbacks: Int) {
    var share = share
    var fallbacks = 0
    while true {
      do throws(FactorizationError) {
        return (try inverseFactor(of: live, damping: share * mean), share * mean, fallbacks)
      } catch {
        guard share < Self.largestDamping else { throw .singular(damping: share) }
        share = min(Self.largestDamping, max(share * 10, 1e-4))
        fallbacks += 1
      }
    }
  }

  /// How far a result is from the goal, in bits: positive when the step is too small.
  private func excess(_ encoded: EncodedMatrix, error: () -> Double) -> Double {
    switch goal {
    case .bits(let bits, _):
      encoded.encoding.bitsPerWeight(outputs: encoded.outputs, inputs: encoded.inputs) - bits
    case .error(let limit): log2(limit * (1 + Self.errorSlack) / 2 / max(error(), 1e-30)) / 2
    }
  }

  /// Whether a result may be returned at once.
  private func isRight(_ excess: Double) -> Bool {
    switch goal {
    case .bits(_, let slack): abs(excess) <= slack
    case .error: abs(excess) <= log2(2 / (1 + Self.errorSlack)) / 2
    }
  }

  /// How much worse a result is than a right one.
  private func badness(_ excess: Double) -> Double {
    // A larger error than asked for is wrong, a smaller one is only dear.
    if case .error = goal, excess < 0, !isRight(excess) { return 100 - excess }
    return abs(excess)
  }

  /// Finds the base of the steps that meets the goal.
  private func search(
    _ plan: Plan, start: Double?, error: (EncodedMatrix) -> Double
  ) -> EncodedMatrix {
    let weight = plan.weight
    guard let start else { return EntropyCoded.encode(plan.round(base: 1)) }
    var search = StepSearch(start: start)
    if weight.rows >= Self.sampleFrom * Self.sampleRows, plan.outputFactor == nil {
      let sample = plan.sample(stride: weight.rows / Self.sampleRows)
      var spreads: EntropyCoded.Spreads?
      for _ in 0..<2 {
        let encoded = EntropyCoded.encode(sample.round(base: search.base), like: &spreads)
        guard case .bits = goal else { break }
        search.add(excess: excess(encoded) { 0 })
      }
      search.beginAgain()
    }
    var best: (encoded: EncodedMatrix, badness: Double)?
    var spreads: EntropyCoded.Spreads?
    for _ in 0..<Self.passes {
      let encoded = EntropyCoded.encode(plan.round(base: search.base), like: &spreads)
      let excess = excess(encoded) { error(encoded) }
      let badness = badness(excess)
      if badness < best?.badness ?? .infinity { best = (encoded, badness) }
      if isRight(excess) || !search.add(excess: excess) { break }
    }
    return best?.encoded ?? EntropyCoded.encode(plan.round(base: search.base))
  }
}

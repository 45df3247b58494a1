// Successive cancellation onto integers of any size, each column with the step that makes all columns' errors
// count alike; an entropy coder stores the integers.
//
// Source   Lifar, Savkin, Ordentlich, Polyanskiy, "WaterSIC", ICML 2026, arXiv:2603.04956
// Given    W [outputs, inputs]; H = mean of x x^T; M = H + damping I = (U^T U)^-1, U upper triangular; bits a weight
// Target   W' = W H M^-1: (w - q) H (w - q)^T + damping q q^T = (w' - q) M (w' - q)^T + a constant, and q q^T is what
//          codes cost in bits. With damping = water level / variance of weights, components of H under water
//          get no bits (Wiener's estimate, as in Zamir, "Lattice Coding for Signals and Networks", chapter 4)
// Result   codes = round(w'_j / s_j), s_j = c U_jj / (geometric mean of U), each error pushed on as in GPTQ; then
//          single codes move while that lowers the error (coordinate descent, as in Behdin et al., "QuantEase",
//          arXiv:2309.01885); then every row's least-squares scale <w, q>_H / <q, q>_H
// Search   c such that the whole stored size is `bits` a weight: the rate falls by nearly 1 bit an octave of c
// Differs  steps are rounded to eighths of an octave, which costs 0.001 bit and saves half of their storage
// Checked  EntropyCodedGPTQTests: the recurrence in Double; the asked size; less error than GPTQ of that size

public import Encodings
import Glibc
import LinearAlgebra
public import Tensors

/// Entropy-coded GPTQ for a number of bits a weight.
public struct EntropyCodedGPTQ: WeightQuantizer, Equatable {
  /// Stored bits a weight, everything included, that are aimed at.
  public let bits: Double
  /// This share of H's mean diagonal is added to the diagonal; nil sets it to the water level.
  public let damping: Double?
  /// Columns updated at once.
  public let blockSize: Int

  /// The rates that can be asked for.
  public static let bitRange = 0.5...12.0

  /// A method for a rate.
  public init(bits: Double, damping: Double? = nil, blockSize: Int = 128) {
    precondition(Self.bitRange.contains(bits) && (damping ?? 0) >= 0 && blockSize > 0)
    self.bits = bits
    self.damping = damping
    self.blockSize = blockSize
  }

  /// `ec`.
  public static let method = QuantizationMethod.ec

  /// The stored size is right when it is this near, in bits a weight.
  private static let tolerance = 0.006
  /// Looks at every code after rounding: few move after these.
  private static let sweeps = 6
  /// Passes over the whole matrix at most.
  private static let passes = 6
  /// Rows of the sample that the search begins with, and how much larger a matrix must be to be sampled.
  private static let sampleRows = 256
  private static let sampleFrom = 3
  /// When H cannot be factorized, the damping is raised tenfold up to this share; each raise is a fallback.
  private static let largestDamping = 1.0

  /// 2 pi e / 12.
  private static let levelOfUnitStep = Double.pi * exp(1) / 6

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
    let (moment, isKnown) = Self.moment(statistics, columns: weight.columns)
    let diagonal = moment.diagonal
    let (factor, damping, fallbacks) = try factor(of: moment, diagonal)
    let plan = Plan(
      weight: weight, moment: moment, factor: factor, isDead: diagonal.map { $0 == 0 },
      damping: damping, blockSize: blockSize, sweeps: Self.sweeps)
    let encoded = search(plan)
    return QuantizedWeight(
      encoded: encoded, method: Self.method,
      relativeError: relativeError(weight, encoded, statistics: statistics),
      isOutputError: isKnown, fallbacks: fallbacks, deadInputs: diagonal.count { $0 == 0 })
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

  /// U of the damped H. A dead input takes part with the mean.
  private func factor(
    of moment: DoubleMatrix, _ diagonal: [Double]
  ) throws(QuantizationError) -> (factor: DoubleMatrix, damping: Double, fallbacks: Int) {
    let alive = diagonal.indices.filter { diagonal[$0] > 0 }
    let mean = alive.isEmpty ? 1 : alive.reduce(0.0) { $0 + diagonal[$1] } / Double(alive.count)
    var live = moment
    for (column, value) in diagonal.enumerated() where value == 0 { live[column, column] = mean }
    var share = damping ?? 0.3 * exp2(-2 * bits)
    var fallbacks = 0
    var isFinal = damping != nil
    while true {
      do throws(FactorizationError) {
        let factor = try inverseFactor(of: live, damping: share * mean)
        if isFinal { return (factor, share * mean, fallbacks) }
        // The water level over the weights' variance: (c²/12) / s² with c = 2^(h - bits) s / (geometric
        // mean of U), h = log2(2 pi e) / 2 the entropy of a normal weight.
        let logs = alive.reduce(0.0) { $0 + log2(factor[$1, $1]) } / Double(max(1, alive.count))
        share = min(Self.largestDamping, Self.levelOfUnitStep * exp2(-2 * (bits + logs)) / mean)
        isFinal = true
      } catch {
        guard share < Self.largestDamping else { throw .singular(damping: share) }
        share = min(Self.largestDamping, max(share * 10, 1e-4))
        fallbacks += 1
        isFinal = true
      }
    }
  }

  /// Finds the base of the steps whose stored size is the one asked for.
  private func search(_ plan: Plan) -> EncodedMatrix {
    let weight = plan.weight
    let deviation = plan.deviation
    guard deviation > 0 else { return EntropyCoded.encode(plan.round(base: 1)) }
    // Normal weights of this size would take `bits` at this step; all others take less.
    let start = log2(deviation) + log2(2 * Double.pi * exp(1)) / 2 - bits
    var search = RateSearch(bits: bits, start: start)
    if weight.rows >= Self.sampleFrom * Self.sampleRows {
      let stride = weight.rows / Self.sampleRows
      let sample = plan.sample(rows: (0..<Self.sampleRows).map { $0 * stride })
      for _ in 0..<2 {
        let encoded = EntropyCoded.encode(sample.round(base: search.base))
        search.add(
          rate: encoded.encoding.bitsPerWeight(outputs: sample.weight.rows, inputs: weight.columns))
      }
      search.beginAgain()
    }
    var best: (encoded: EncodedMatrix, miss: Double)?
    for _ in 0..<Self.passes {
      let encoded = EntropyCoded.encode(plan.round(base: search.base))
      let rate = encoded.encoding.bitsPerWeight(outputs: weight.rows, inputs: weight.columns)
      let miss = abs(rate - bits)
      if miss < best?.miss ?? .infinity { best = (encoded, miss) }
      if miss <= Self.tolerance || !search.add(rate: rate) { break }
    }
    return best?.encoded ?? EntropyCoded.encode(plan.round(base: search.base))
  }
}

/// A secant search on the logarithm of the step.
private struct RateSearch {
  let bits: Double
  let start: Double
  private var position: Double
  private var last: (position: Double, rate: Double)?
  /// Bits a doubling of the step saves.
  private var slope = 1.0

  init(bits: Double, start: Double) {
    self.bits = bits
    self.start = start
    position = start
  }

  /// The step to try.
  var base: Float { Float(exp2(min(max(position, -120), 39))) }

  /// Notes the rate of the step; false when there is no other to try.
  @discardableResult mutating func add(rate: Double) -> Bool {
    if let last, abs(last.position - position) > 1e-6 {
      let found = (last.rate - rate) / (position - last.position)
      if found > 0.2, found < 2 { slope = found }
    }
    last = (position, rate)
    // Normal weights are the hardest, so that a step much above the start only makes up for what lists
    // take: matrices so small keep their precision and miss the rate.
    let next = min(max(position + (rate - bits) / slope, start - 14), start + 1)
    guard abs(next - position) > 1e-6 else { return false }
    position = next
    return true
  }

  /// Keeps the position and the slope: rates before were of something else.
  mutating func beginAgain() { last = nil }
}

// How many bits more than the rate-distortion limit a quantized matrix takes.
//
// Source   Cover and Thomas, "Elements of Information Theory", 2nd ed., section 10.3.3 (reverse water-filling)
// Given    weights of variance s; H = mean of x x^T with eigenvalues l_i; E||(w - q) x||^2 = D, a row
// Result   D(t) = sum of min(s l_i, t); R(t) = mean of max(0, log2(s l_i / t) / 2), bits a weight, at D(t) = D
// Checked  RateLimitTests: white inputs, R = log2(s / d) / 2; a spectrum with parts under water

public import Encodings
import Glibc
public import LinearAlgebra
public import Tensors

/// The fewest bits a weight for which independent normal weights of a variance can have this error.
///
/// - Parameters:
///   - distortion: E‖(w − q)ᵀx‖², of one row.
///   - variance: Of the weights.
///   - spectrum: Eigenvalues of the mean of x xᵀ.
public func rateLimit(distortion: Double, variance: Double, spectrum: [Double]) -> Double {
  let energies = spectrum.map { max(0, $0) * variance }.sorted()
  let total = energies.reduce(0, +)
  guard distortion < total else { return 0 }
  guard distortion > 0 else { return .infinity }
  // The level lies above `below` components, which are given up whole.
  var given = 0.0
  var level = 0.0
  for (below, energy) in energies.enumerated() {
    level = (distortion - given) / Double(energies.count - below)
    if level <= energy { break }
    given += energy
  }
  let bits = energies.reduce(0.0) { $0 + ($1 > level ? log2($1 / level) / 2 : 0) }
  return bits / Double(max(1, spectrum.count))
}

/// Bits a weight beyond the rate–distortion limit of normal weights with this matrix's mean square.
///
/// Negative when the weights are easier than normal ones, such as rows of unlike size. Nil when H has no
/// eigenvalues, or nothing to tell: no error, or no output at all.
public func rateDistanceToLimit(
  _ weight: Matrix, _ encoded: EncodedMatrix, moment: DoubleMatrix
) -> Double? {
  guard let spectrum = eigenvalues(of: moment) else { return nil }
  return rateDistanceToLimit(
    weight, encoded, error: relativeError(weight, encoded, statistics: .moment(moment)),
    moment: moment, spectrum: spectrum)
}

/// The same with what is known already: the relative output error and H's eigenvalues.
public func rateDistanceToLimit(
  _ weight: Matrix, _ encoded: EncodedMatrix, error: Double, moment: DoubleMatrix,
  spectrum: [Double]
) -> Double? {
  guard weight.rows > 0, weight.columns > 0 else { return nil }
  let variance =
    weight.values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(weight.values.count)
  let output = outputEnergy(weight, moment: moment)
  let limit = rateLimit(
    distortion: error * output / Double(weight.rows), variance: variance, spectrum: spectrum)
  guard limit.isFinite, output > 0 else { return nil }
  return encoded.encoding.bitsPerWeight(outputs: weight.rows, inputs: weight.columns) - limit
}

/// tr(W H Wᵀ) in Double, a row at a time.
private func outputEnergy(_ weight: Matrix, moment: DoubleMatrix) -> Double {
  let n = weight.columns
  // tr(W H Wᵀ) = Σ_ij H_ij (WᵀW)_ij.
  var gram = SecondMoment(width: n)
  gram.add(weight)
  let mean = gram.mean()
  var sum = 0.0
  for i in 0..<n * n { sum += mean.values[i] * moment.values[i] }
  return sum * Double(weight.rows)
}

// Orthogonal matrices that mix all channels: a Hadamard matrix with random signs.
//
// Source   Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", arXiv:2404.00456; the order of a
//          Hadamard matrix with an odd factor: Paley, "On orthogonal matrices", J. Math. Phys. 12 (1933)
// Given    a size n, a stream of random numbers
// Result   R = diag(±1) (B ⊗ H_m) / √n, n = K m, m a power of two; B is a Hadamard matrix of Paley's of the smallest
//          order K = odd · 2^j at which there is one, or else a random rotation of the size of the odd factor
// Cost     n (log m + K) multiply-adds a row
// Checked  HadamardRotationTests: R Rᵀ = I, and every entry is ±1/√n where B is Paley's

import Glibc
public import Tensors

/// A random orthogonal matrix that is applied without being stored.
public struct HadamardRotation: Sendable {
  /// Rows and columns.
  public let size: Int
  private let signs: [Double]
  /// B, `[order, order]`, orthogonal.
  private let block: [Double]
  private let order: Int

  /// The largest order at which Paley's matrices are looked for; beyond it a product with B costs more than mixing by a
  /// random block loses.
  private static let largestOrder = 512

  /// A rotation of a size of at least 1.
  public init(size: Int, stream: inout RandomStream) {
    precondition(size > 0)
    self.size = size
    signs = (0..<size).map { _ in stream.next() & 1 == 0 ? 1 : -1 }
    let odd = size >> size.trailingZeroBitCount
    var order = odd
    var block: [Double]?
    while odd > 1, block == nil, order <= min(size, Self.largestOrder), size % order == 0 {
      block = Self.paley(order)
      if block == nil { order *= 2 }
    }
    if let block {
      let scale = 1 / Double(order).squareRoot()
      self.block = block.map { $0 * scale }
      self.order = order
    } else {
      self.block = Self.randomRotation(odd, &stream)
      self.order = odd
    }
  }

  /// M R for a matrix whose rows are runs of `size` values: each run times R.
  public func applied(toRowsOf matrix: Matrix) -> Matrix {
    precondition(matrix.columns % size == 0)
    var result = matrix
    ParallelLoop.overRows(of: &result.values, rowLength: matrix.columns, blockRows: 16) {
      rows, part in
      var values = [Double](repeating: 0, count: size), mixed = values
      for start in stride(from: 0, to: rows.count * matrix.columns, by: size) {
        for i in 0..<size { values[i] = Double(part[start + i]) * signs[i] }
        transform(&values, &mixed)
        for i in 0..<size { part[start + i] = Float(mixed[i]) }
      }
    }
    return result
  }

  /// Rᵀ M for a matrix of `size` rows.
  public func appliedTransposed(to matrix: Matrix) -> Matrix {
    precondition(matrix.rows == size)
    return applied(toRowsOf: matrix.transposed()).transposed()
  }

  /// `values (B ⊗ H_m) / √m` into `mixed`; the values are used up.
  private func transform(_ values: inout [Double], _ mixed: inout [Double]) {
    let run = size / order
    var half = 1
    while half < run {
      for start in stride(from: 0, to: size, by: 2 * half) {
        for i in start..<start + half {
          let a = values[i], b = values[i + half]
          values[i] = a + b
          values[i + half] = a - b
        }
      }
      half *= 2
    }
    let scale = 1 / Double(run).squareRoot()
    for column in 0..<order {
      for i in 0..<run { mixed[column * run + i] = 0 }
      for row in 0..<order {
        let factor = block[row * order + column] * scale
        for i in 0..<run { mixed[column * run + i] += factor * values[row * run + i] }
      }
    }
  }

  // MARK: - Blocks

  /// Paley's Hadamard matrix of an order, entries ±1; nil where neither construction with a prime gives one.
  static func paley(_ order: Int) -> [Double]? {
    guard order % 4 == 0 else { return nil }
    let first = order - 1, second = order / 2 - 1
    if isPrime(first), first % 4 == 3 {
      // I + S, S skew: the quadratic characters of differences with a border.
      return (0..<order * order).map { index in
        let row = index / order, column = index % order
        if row == column { return 1 }
        if row == 0 { return 1 }
        if column == 0 { return -1 }
        return character(row - column, first)
      }
    }
    guard isPrime(second), second % 4 == 1 else { return nil }
    // C ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]], C symmetric.
    return (0..<order * order).map { index in
      let row = index / order, column = index % order
      let bothOdd = row % 2 == 1 && column % 2 == 1
      if row / 2 == column / 2 { return row % 2 == 0 && column % 2 == 0 ? 1 : -1 }
      let entry =
        row / 2 == 0 || column / 2 == 0 ? 1 : character(row / 2 - column / 2, second)
      return bothOdd ? -entry : entry
    }
  }

  private static func isPrime(_ number: Int) -> Bool {
    guard number > 2, number % 2 == 1 else { return number == 2 }
    var divisor = 3
    while divisor * divisor <= number {
      if number % divisor == 0 { return false }
      divisor += 2
    }
    return true
  }

  /// 1 for a square modulo the prime, −1 for another number, 0 for 0.
  private static func character(_ number: Int, _ prime: Int) -> Double {
    let value = (number % prime + prime) % prime
    guard value != 0 else { return 0 }
    // Euler's criterion.
    var result = 1, base = value, exponent = (prime - 1) / 2
    while exponent > 0 {
      if exponent & 1 == 1 { result = result * base % prime }
      base = base * base % prime
      exponent /= 2
    }
    return result == 1 ? 1 : -1
  }

  /// Rows of normal numbers, made orthonormal one after the other (twice, against rounding).
  private static func randomRotation(_ size: Int, _ stream: inout RandomStream) -> [Double] {
    var rows: [[Double]] = []
    while rows.count < size {
      var row = (0..<size).map { _ in
        (-2 * log(1 - stream.unit())).squareRoot() * cos(2 * .pi * stream.unit())
      }
      for _ in 0..<2 {
        for other in rows {
          let product = zip(row, other).reduce(0) { $0 + $1.0 * $1.1 }
          for i in row.indices { row[i] -= product * other[i] }
        }
      }
      let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      guard length > 1e-6 else { continue }
      rows.append(row.map { $0 / length })
    }
    return rows.flatMap { $0 }
  }
}

extension Matrix {
  /// Rows and columns exchanged.
  func transposed() -> Matrix {
    guard !values.isEmpty else { return Matrix(rows: columns, columns: rows) }
    var result = Matrix(rows: columns, columns: rows)
    let rows = rows, columns = columns
    ParallelLoop.overRows(of: &result.values, rowLength: rows, blockRows: 16) { block, part in
      for row in 0..<rows {
        for (index, column) in block.enumerated() {
          part[index * rows + row] = values[row * columns + column]
        }
      }
    }
    return result
  }
}

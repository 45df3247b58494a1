import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

@Suite struct LowRankRepairTests {
  /// Squares of the singular values of E L, the largest first, as eigenvalues of Lᵀ Eᵀ E L by Jacobi's rotations in
  /// Double, L the Cholesky factor of H.
  static func squares(_ error: Matrix, _ h: DoubleMatrix) -> [Double] {
    let n = error.columns
    var l = DoubleMatrix(size: n)
    for i in 0..<n {
      for j in 0...i {
        let rest = (0..<j).reduce(h[i, j]) { $0 - l[i, $1] * l[j, $1] }
        l[i, j] = i == j ? rest.squareRoot() : rest / l[j, j]
      }
    }
    let whitened = (0..<error.rows).map { row in
      (0..<n).map { column in
        (0..<n).reduce(0.0) { $0 + Double(error.values[row * n + $1]) * l[$1, column] }
      }
    }
    var a = DoubleMatrix(size: n)
    for i in 0..<n {
      for j in 0..<n { a[i, j] = whitened.reduce(0.0) { $0 + $1[i] * $1[j] } }
    }
    for _ in 0..<40 {
      for p in 0..<n {
        for q in p + 1..<max(p + 1, n) where a[p, q] != 0 {
          let theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
          let t = (theta < 0 ? -1.0 : 1.0) / (abs(theta) + (1 + theta * theta).squareRoot())
          let c = 1 / (1 + t * t).squareRoot(), s = t * c
          for k in 0..<n {
            let x = a[k, p], y = a[k, q]
            a[k, p] = c * x - s * y
            a[k, q] = s * x + c * y
          }
          for k in 0..<n {
            let x = a[p, k], y = a[q, k]
            a[p, k] = c * x - s * y
            a[q, k] = s * x + c * y
          }
        }
      }
    }
    return a.diagonal.sorted(by: >)
  }

  /// tr(D H Dᵀ) in Double.
  static func energy(_ d: Matrix, _ h: DoubleMatrix) -> Double {
    let n = d.columns
    return (0..<d.rows).reduce(0.0) { sum, row in
      (0..<n).reduce(sum) { inner, i in
        inner + Double(d.values[row * n + i])
          * (0..<n).reduce(0.0) { $0 + h[i, $1] * Double(d.values[row * n + $1]) }
      }
    }
  }

  static func difference(_ a: Matrix, _ b: Matrix) -> Matrix {
    var result = a
    for i in a.values.indices { result.values[i] -= b.values[i] }
    return result
  }

  /// What is left is the tail of the singular values of the error, on both sides and for methods with feedback.
  @Test(
    arguments: [(12, 20), (24, 16), (16, 16)], [QuantizationMethod.rtn, .gptq, .qronos])
  func errorIsTheTail(_ size: (outputs: Int, inputs: Int), _ method: QuantizationMethod) throws {
    var stream = RandomStream(test: "repair")
    let weight = stream.matrix(rows: size.outputs, columns: size.inputs)
    let h = correlatedMoment(size.inputs)
    var cross = h
    for i in 0..<size.inputs {
      for j in 0..<size.inputs { cross[i, j] *= 1 + 0.1 * Double((i + 2 * j) % 3) }
    }
    let statistics: InputStatistics =
      method == .qronos ? .asymmetric(moment: h, cross: cross) : .moment(h)
    let quantizer: any WeightQuantizer =
      switch method {
      case .rtn: RTN()
      case .qronos: Qronos()
      default: GPTQ()
      }
    let base = GroupIntegers(bits: 2, grouping: .columns(16), isSymmetric: false)
    let plain = try quantizer.quantize(weight, statistics: statistics, encoding: base)
    // Qronos aims at other weights than W: their error is what is repaired.
    let target = plain.target ?? weight
    #expect((plain.target != nil) == (method == .qronos))
    let error = Self.difference(target, plain.encoded.matrix.decoded())
    let squares = Self.squares(error, h), all = squares.reduce(0, +)
    #expect(abs(all / Self.energy(error, h) - 1) < 1e-9)
    for rank in [1, 3, 8, min(size.outputs, size.inputs)] {
      let encoding = try #require(Repaired(base, rank: rank))
      let result = try quantizer.quantizeAndRepair(
        weight, statistics: statistics, encoding: encoding)
      #expect(result.encoded.encoding.name == "int2-g16+r\(rank)-f16")
      #expect(
        result.encoded.parts.dropLast(2).map { bytes(of: $0) }
          == plain.encoded.parts.map { bytes(of: $0) })
      let repaired = result.encoded.matrix.decoded()
      let left = Self.energy(Self.difference(target, repaired), h)
      let tail = squares[rank...].reduce(0, +)
      // Halves hold eleven bits of a factor.
      #expect(abs(left - tail) < 2e-3 * tail + 1e-5 * all, "\(rank) \(left) \(tail)")
      let zero = Matrix(rows: size.outputs, columns: size.inputs)
      let whole = Self.energy(Self.difference(weight, zero), h)
      let own = Self.energy(Self.difference(weight, repaired), h)
      #expect(abs(result.relativeError - own / whole) < 1e-4 * (own / whole) + 1e-7)
      let aim = Self.energy(Self.difference(target, zero), h)
      #expect(abs(result.roundingError - left / aim) < 1e-4 * (left / aim) + 1e-7)
    }
  }

  /// Without statistics the error of the weights counts; a diagonal weighs inputs.
  @Test func lessIsKnown() throws {
    var stream = RandomStream(test: "less")
    let weight = stream.matrix(rows: 9, columns: 16)
    let base = GroupIntegers(bits: 2, grouping: .channel, isSymmetric: true)
    let encoding = try #require(Repaired(base, rank: 2))
    let diagonal = (0..<16).map { 0.1 + Double($0 * $0 % 7) }
    for statistics in [InputStatistics.none, .diagonal(diagonal)] {
      var h = DoubleMatrix(size: 16)
      for i in 0..<16 { h[i, i] = statistics.diagonal?[i] ?? 1 }
      let plain = try RTN().quantize(weight, statistics: statistics, encoding: base)
      let squares = Self.squares(Self.difference(weight, plain.encoded.matrix.decoded()), h)
      let result = try RTN().quantizeAndRepair(weight, statistics: statistics, encoding: encoding)
      let left = Self.energy(Self.difference(weight, result.encoded.matrix.decoded()), h)
      let tail = squares[2...].reduce(0, +)
      #expect(abs(left - tail) < 2e-3 * tail)
    }
  }

  /// Inputs that calibration never saw, a matrix on its grid, statistics that are no numbers.
  @Test func hardCases() throws {
    var stream = RandomStream(test: "hard repair")
    let weight = stream.matrix(rows: 20, columns: 16)
    let base = GroupIntegers(bits: 2, grouping: .columns(16), isSymmetric: false)
    let encoding = try #require(Repaired(base, rank: 4))
    var dead = correlatedMoment(16, samples: 3)
    for column in [1, 5] {
      for i in 0..<16 {
        dead[column, i] = 0
        dead[i, column] = 0
      }
    }
    let exact = try RTN().quantizeAndRepair(
      weight, statistics: .moment(dead), encoding: encoding)
    // Three samples: rank 3 is all of the error that the inputs see.
    #expect(exact.relativeError < 1e-5)
    let onGrid = try RTN().quantize(weight, statistics: .none, encoding: base).encoded.matrix
      .decoded()
    let nothing = try RTN(search: .minmax).quantizeAndRepair(
      onGrid, statistics: .none, encoding: encoding)
    #expect(nothing.relativeError < 1e-6)
    var bad = dead
    bad[2, 3] = .nan
    bad[3, 2] = .nan
    #expect(throws: QuantizationError.badStatistics) {
      try LowRankRepair(rank: 1).repaired(
        try RTN().quantize(weight, statistics: .none, encoding: base), of: weight,
        statistics: .moment(bad))
    }
  }
}

import Encodings
import Foundation
import LinearAlgebra
import TestSupport
import Tensors
import Testing

@testable import Quantization

@Suite(.serialized) struct EntropyCodedGPTQTests {
  private static func bits(_ quantized: QuantizedWeight) -> Double {
    let encoded = quantized.encoded
    return encoded.encoding.bitsPerWeight(outputs: encoded.outputs, inputs: encoded.inputs)
  }

  private static func plan(
    _ weight: Matrix, _ h: DoubleMatrix, damping: Double, blockSize: Int, sweeps: Int,
    isTrellis: Bool = false
  ) throws -> EntropyCodedGPTQ.Plan {
    EntropyCodedGPTQ.Plan(
      weight: weight, moment: h, isDead: h.diagonal.map { $0 == 0 },
      rowExponents: [Int](repeating: 0, count: weight.rows),
      dampings: [
        (Array(0..<weight.rows), damping, try inverseFactor(of: h, damping: damping))
      ], isTrellis: isTrellis, blockSize: blockSize, sweeps: sweeps)
  }

  /// W H (H + damping I)⁻¹ of a row, by U from Gauss and Cholesky: W − damping · W Uᵀ U.
  private static func target(_ row: [Float], _ u: [Double], damping: Double) -> [Double] {
    let n = row.count
    let half = (0..<n).map { i in (i..<n).reduce(0.0) { $0 + u[i * n + $1] * Double(row[$1]) } }
    return (0..<n).map { j in
      Double(row[j]) - damping * (0...j).reduce(0.0) { $0 + half[$1] * u[$1 * n + j] }
    }
  }

  /// Every code is the nearest of its column in the unblocked recurrence in Double.
  @Test(arguments: [1, 5, 32, 1000])
  func equalsTheRecurrence(_ blockSize: Int) throws {
    var stream = RandomStream(test: "ec gptq")
    let n = 77
    let weight = stream.matrix(rows: 135, columns: n, deviation: 0.05)
    let h = correlatedMoment(n)
    let damping = 0.02
    let u = GPTQTests.factor(h, damping: damping)
    let plan = try Self.plan(weight, h, damping: damping, blockSize: blockSize, sweeps: 0)
    let codes = plan.round(base: 0.02)
    let logs = (0..<n).map { log2(u[$0 * n + $0]) }
    let mean = logs.reduce(0, +) / Double(n)
    var worst = 0.0
    for column in 0..<n {
      #expect(abs(Double(codes.exponents[column]) - 8 * (logs[column] - mean)) < 0.5001)
    }
    for row in 0..<weight.rows {
      var w = Self.target(weight.row(row), u, damping: damping)
      for i in 0..<n {
        let step = Double(codes.steps[i])
        let code = Double(codes.codes[row * n + i])
        worst = max(worst, abs(w[i] / step - code))
        let error = (w[i] - code * step) / u[i * n + i]
        for j in i..<n { w[j] -= error * u[i * n + j] }
      }
    }
    #expect(worst < 0.5 + 1e-3, "\(worst)")
    #expect(worst > 0.49)
  }

  /// The least sum of squares of a path from state 0, column values in steps: Viterbi's recursion in Double.
  private static func least(_ values: [Double]) -> Double {
    var sums: [Int: Double] = [0: 0]
    for value in values {
      var next: [Int: Double] = [:]
      for (state, sum) in sums {
        let odd = state & 2 == 2 ? 1.0 : 0.0
        for parity in 0...1 {
          let k = 2 * (((value + odd) / 2 - Double(parity)) / 2).rounded() + Double(parity)
          let error = value - (2 * k - odd)
          let own = Trellis.next(state, k: parity)
          next[own] = min(next[own] ?? .infinity, sum + error * error)
        }
      }
      sums = next
    }
    return sums.values.min() ?? 0
  }

  /// Every column of every 128 rows is the best path in the unblocked recurrence in Double.
  @Test(arguments: [5, 32, 1000])
  func trellisEqualsTheRecurrence(_ blockSize: Int) throws {
    var stream = RandomStream(test: "ec trellis")
    let n = 77
    let weight = stream.matrix(rows: 135, columns: n, deviation: 0.05)
    let h = correlatedMoment(n)
    let damping = 0.02
    let u = GPTQTests.factor(h, damping: damping)
    let codes = try Self.plan(
      weight, h, damping: damping, blockSize: blockSize, sweeps: 3, isTrellis: true
    ).round(base: 0.02)
    #expect(codes.isTrellis && codes.base == 0.01)
    var targets = (0..<weight.rows).map { Self.target(weight.row($0), u, damping: damping) }
    for i in 0..<n {
      let step = Double(codes.steps[i])
      for rows in [0..<128, 128..<135] {
        let own = rows.reduce(0.0) {
          let error = targets[$1][i] / step - Double(codes.codes[$1 * n + i])
          return $0 + error * error
        }
        let least = Self.least(rows.map { targets[$0][i] / step })
        #expect(own > least - 1e-6 && own < least * 1.0005 + 1e-3)
      }
      for row in 0..<weight.rows {
        let error = (targets[row][i] - Double(codes.codes[row * n + i]) * step) / u[i * n + i]
        for j in i..<n { targets[row][j] -= error * u[i * n + j] }
      }
    }
  }

  /// The same with rows of unlike steps, in groups with dampings of their own.
  @Test func trellisOfGroupsEqualsTheRecurrence() throws {
    var stream = RandomStream(test: "ec groups")
    let n = 77
    let weight = stream.matrix(rows: 150, columns: n, deviation: 0.05)
    let h = correlatedMoment(n)
    let dampings = [0.02, 0.1, 0.005], exponents = [0, 9, -11]
    let group = (0..<weight.rows).map { $0 < 20 ? 2 : $0 % 3 == 1 ? 1 : 0 }
    let factors = dampings.map { GPTQTests.factor(h, damping: $0) }
    let codes = EntropyCodedGPTQ.Plan(
      weight: weight, moment: h, isDead: h.diagonal.map { $0 == 0 },
      rowExponents: group.map { exponents[$0] },
      dampings: try (0..<3).map { own in
        (
          group.indices.filter { group[$0] == own }, dampings[own],
          try inverseFactor(of: h, damping: dampings[own])
        )
      }, isTrellis: true, blockSize: 32, sweeps: 3
    ).round(base: 0.02)
    var targets = (0..<weight.rows).map {
      Self.target(weight.row($0), factors[group[$0]], damping: dampings[group[$0]])
    }
    for i in 0..<n {
      let steps = group.map {
        Double(codes.steps[i]) * IntegerCodes.power(eighths: exponents[$0])
      }
      for rows in [0..<128, 128..<150] {
        let own = rows.reduce(0.0) {
          let error = targets[$1][i] / steps[$1] - Double(codes.codes[$1 * n + i])
          return $0 + error * error
        }
        let least = Self.least(rows.map { targets[$0][i] / steps[$0] })
        #expect(own > least - 1e-6 && own < least * 1.0005 + 1e-3)
      }
      for row in 0..<weight.rows {
        let u = factors[group[row]]
        let error =
          (targets[row][i] - Double(codes.codes[row * n + i]) * steps[row]) / u[i * n + i]
        for j in i..<n { targets[row][j] -= error * u[i * n + j] }
      }
    }
  }

  /// tr(G D H Dᵀ) at about one size: a trellis has at most 0.87 of the error of plain codes, with feedback over outputs too.
  @Test func trellisOverOutputs() throws {
    var stream = RandomStream(test: "both ways")
    let (rows, n) = (300, 64)
    let weight = stream.matrix(rows: rows, columns: n, deviation: 0.05)
    let h = correlatedMoment(n), g = correlatedMoment(rows)
    let damping = 1e-5
    let v = try inverseFactor(of: g, damping: damping)
    let logs = v.diagonal.map { log2($0) }
    let mean = logs.reduce(0, +) / Double(rows)
    func result(_ isTrellis: Bool) throws -> (bits: Double, error: Double) {
      let plan = EntropyCodedGPTQ.Plan(
        weight: weight, moment: h, isDead: h.diagonal.map { $0 == 0 },
        rowExponents: logs.map { Int((8 * ($0 - mean)).rounded()) },
        dampings: [(Array(0..<rows), damping, try inverseFactor(of: h, damping: damping))],
        outputFactor: v, isTrellis: isTrellis, blockSize: 16, sweeps: 3)
      let encoded = EntropyCoded.encode(plan.round(base: 0.02))
      let decoded = encoded.matrix.decoded()
      let d = zip(weight.values, decoded.values).map { Double($0) - Double($1) }
      var dh = [Double](repeating: 0, count: rows * n)
      for r in 0..<rows {
        for k in 0..<n { for c in 0..<n { dh[r * n + c] += d[r * n + k] * h[k, c] } }
      }
      var sum = 0.0
      for r in 0..<rows {
        for k in 0..<rows {
          for c in 0..<n { sum += g[r, k] * dh[k * n + c] * d[r * n + c] }
        }
      }
      return (encoded.encoding.bitsPerWeight(outputs: rows, inputs: n), sum)
    }
    let plain = try result(false), trellis = try result(true)
    print("both ways", plain, trellis)
    #expect(abs(plain.bits - trellis.bits) < 0.06)
    #expect(trellis.error < 0.87 * plain.error)
  }

  /// After the sweeps no single code can move by one and lower the error; scales are least squares.
  @Test func sweepsEndWhereNoCodeMoves() throws {
    var stream = RandomStream(test: "sweeps")
    let n = 40
    let weight = stream.matrix(rows: 20, columns: n)
    let h = correlatedMoment(n)
    let damping = 0.05
    let u = GPTQTests.factor(h, damping: damping)
    func objective(_ codes: IntegerCodes, _ row: Int, _ move: (column: Int, by: Double)? = nil)
      -> Double
    {
      let target = Self.target(weight.row(row), u, damping: damping)
      let d = (0..<n).map { j in
        let shift = move?.column == j ? move?.by ?? 0 : 0
        return target[j] - (Double(codes.codes[row * n + j]) + shift) * Double(codes.steps[j])
      }
      var sum = 0.0
      for i in 0..<n {
        sum += damping * d[i] * d[i]
        for j in 0..<n { sum += d[i] * h[i, j] * d[j] }
      }
      return sum
    }
    let before = try Self.plan(weight, h, damping: damping, blockSize: 16, sweeps: 0)
      .round(base: 0.5)
    let after = try Self.plan(weight, h, damping: damping, blockSize: 16, sweeps: 100)
      .round(base: 0.5)
    #expect(before.codes != after.codes)
    for row in 0..<weight.rows {
      let own = objective(after, row)
      #expect(own <= objective(before, row) * (1 + 1e-5))
      for column in 0..<n {
        for by in [1.0, -1] {
          #expect(objective(after, row, (column, by)) > own * (1 - 1e-4))
        }
      }
      let q = (0..<n).map { Double(after.codes[row * n + $0]) * Double(after.steps[$0]) }
      var cross = 0.0, square = 0.0
      for i in 0..<n {
        for j in 0..<n {
          cross += q[i] * h[i, j] * Double(weight.values[row * n + j])
          square += q[i] * h[i, j] * q[j]
        }
      }
      #expect(abs(Double(after.scales[row]) - 128 * (cross / square - 1)) < 0.51)
    }
  }

  @Test(arguments: [1.5, 2, 2.75, 4, 6, 8], [[256, 256], [900, 128], [100, 300]])
  func hitsTheBits(_ bits: Double, _ shape: [Int]) throws {
    var stream = RandomStream(test: "bits")
    let weight = stream.matrix(rows: shape[0], columns: shape[1], deviation: 0.02)
    let quantized = try EntropyCodedGPTQ(bits: bits).quantize(
      weight, moment: correlatedMoment(shape[1]), encoding: EntropyCoded())
    #expect(abs(Self.bits(quantized) - bits) < 0.01, "\(Self.bits(quantized))")
    let encoded = quantized.encoded
    try EntropyCoded.check(outputs: shape[0], inputs: shape[1], parts: encoded.parts)
  }

  /// At the size of GPTQ's integers, grids included, at most 0.6 of its error.
  @Test(arguments: ["int3-g64", "int4-g64"])
  func beatsGPTQ(_ name: String) throws {
    var stream = RandomStream(test: "beats")
    let weight = stream.matrix(rows: 256, columns: 256, deviation: 0.02)
    let h = correlatedMoment(256)
    let encoding = try #require(GroupIntegers.named(name))
    let plain = try GPTQ().quantize(weight, moment: h, encoding: encoding)
    let coded = try EntropyCodedGPTQ(bits: Self.bits(plain)).quantize(
      weight, moment: h, encoding: EntropyCoded())
    print(name, plain.relativeError, coded.relativeError)
    #expect(coded.relativeError < 0.6 * plain.relativeError)
    #expect(abs(Self.bits(coded) - Self.bits(plain)) < 0.01)
  }

  /// Independent normal weights: no nearer than a trellis of eight states can be (0.074 bits), and near that.
  @Test func distanceToTheLimit() throws {
    var stream = RandomStream(test: "limit")
    let n = 256
    let weight = stream.matrix(rows: 1024, columns: n)
    let h = correlatedMoment(n)
    for bits in [2.0, 3, 4] {
      let quantized = try EntropyCodedGPTQ(bits: bits).quantize(
        weight, moment: h, encoding: EntropyCoded())
      let distance = try #require(rateDistanceToLimit(weight, quantized.encoded, moment: h))
      print("distance", bits, distance)
      #expect((0.07...0.13).contains(distance))
    }
  }

  @Test func threadsDoNotMatter() throws {
    var stream = RandomStream(test: "ec threads")
    let weight = stream.matrix(rows: 1000, columns: 96)
    let h = correlatedMoment(96)
    func bytes(_ threads: Int) throws -> [UInt8] {
      try withThreads(threads) {
        try EntropyCodedGPTQ(bits: 3).quantize(weight, moment: h, encoding: EntropyCoded())
          .encoded.parts[0].withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
      }
    }
    #expect(try bytes(1) == bytes(2))
  }

  /// Weights and statistics at the edge: finite, or a clear error.
  @Test func hardCases() throws {
    let method = EntropyCodedGPTQ(bits: 3)
    var stream = RandomStream(test: "hard")
    func run(_ weight: Matrix, _ moment: DoubleMatrix?) throws -> QuantizedWeight {
      let quantized = try method.quantize(weight, moment: moment, encoding: EntropyCoded())
      #expect(quantized.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
      #expect((0...1.01).contains(quantized.relativeError))
      return quantized
    }
    let weight = stream.matrix(rows: 130, columns: 40, deviation: 0.1)
    let h = correlatedMoment(40)
    // One token; no token; fewer tokens than inputs; dead inputs.
    #expect(try run(weight, correlatedMoment(40, samples: 1)).relativeError < 0.1)
    #expect(try run(weight, DoubleMatrix(size: 40)).deadInputs == 40)
    #expect(try run(weight, correlatedMoment(40, samples: 7)).relativeError < 0.1)
    var dead = h
    for i in 0..<40 {
      dead[3, i] = 0
      dead[i, 3] = 0
    }
    let withDead = try run(weight, dead)
    #expect(withDead.deadInputs == 1)
    #expect((0..<130).allSatisfy { withDead.encoded.matrix.decoded().values[$0 * 40 + 3] == 0 })
    // No statistics, zeros, constants, sizes, shapes.
    #expect(try !run(weight, nil).isOutputError)
    #expect(try run(Matrix(rows: 5, columns: 40), h).relativeError == 0)
    let constant = Matrix(rows: 64, columns: 40, values: [Float](repeating: -3.3, count: 64 * 40))
    #expect(try run(constant, h).relativeError < 0.05)
    for scale in [1e-30, 1e-8, 1e8] {
      let scaled = Matrix(
        rows: 130, columns: 40, values: weight.values.map { Float(Double($0) * scale) })
      #expect(try run(scaled, h).relativeError < 0.05, "\(scale)")
      let moment = DoubleMatrix(size: 40, values: h.values.map { $0 * scale })
      #expect(try run(weight, moment).relativeError < 0.05, "\(scale)")
    }
    for (rows, columns) in [(1, 1), (1, 40), (40, 1), (0, 40), (3, 0), (0, 0)] {
      _ = try run(stream.matrix(rows: rows, columns: columns), correlatedMoment(columns))
    }
    // Errors.
    var infinite = weight
    infinite.values[7] = .infinity
    #expect(throws: QuantizationError.notFinite(count: 1, total: 130 * 40)) {
      try run(infinite, h)
    }
    infinite.values[7] = 1e30
    #expect(throws: QuantizationError.scaleTooLarge(largest: 1e30)) { try run(infinite, h) }
    var bad = h
    bad[0, 0] = .nan
    #expect(throws: QuantizationError.badStatistics) { try run(weight, bad) }
    #expect(throws: QuantizationError.self) {
      try method.quantize(
        weight, moment: h, encoding: try #require(GroupIntegers.named("int4-g32")))
    }
  }
}

@Suite struct RateLimitTests {
  @Test func whiteInputs() {
    let limit = rateLimit(
      distortion: 8 * 0.25, variance: 4, spectrum: [Double](repeating: 1, count: 8))
    #expect(abs(limit - 2) < 1e-12)
    #expect(rateLimit(distortion: 32, variance: 4, spectrum: [Double](repeating: 1, count: 8)) == 0)
    #expect(rateLimit(distortion: 0, variance: 4, spectrum: [1]) == .infinity)
  }

  /// Level 1 over components of energy 16, 4 and 0.5: D = 2.5, R = (2 + 1 + 0) / 3.
  @Test func someUnderWater() {
    #expect(abs(rateLimit(distortion: 2.5, variance: 2, spectrum: [8, 0.25, 2]) - 1) < 1e-12)
  }
}

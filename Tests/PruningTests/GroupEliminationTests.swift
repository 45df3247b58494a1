import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct GroupEliminationTests {
  static let damping = 0.02

  /// Wᵀ G W.
  static func gram(_ w: [[Double]], _ g: DoubleMatrix) -> DoubleMatrix {
    let n = w[0].count
    var b = DoubleMatrix(size: n)
    for i in 0..<n {
      for j in 0..<n {
        for a in w.indices { for c in w.indices { b[i, j] += w[a][i] * g[a, c] * w[c][j] } }
      }
    }
    return b
  }

  /// What is left of tr(G (W − V) H (W − V)ᵀ) when V has only the inputs `kept` and is the best one.
  static func leftover(
    _ w: [[Double]], _ g: DoubleMatrix, _ h: DoubleMatrix, kept: [Int]
  ) -> Double {
    let n = h.size
    var difference = w
    if !kept.isEmpty {
      var part = DoubleMatrix(size: kept.count)
      for (i, a) in kept.enumerated() { for (j, b) in kept.enumerated() { part[i, j] = h[a, b] } }
      let back = inverse(part)
      for row in w.indices {
        // V_S = W H_:S (H_SS)⁻¹.
        let right = kept.map { k in (0..<n).reduce(0.0) { $0 + w[row][$1] * h[$1, k] } }
        for (i, a) in kept.enumerated() {
          difference[row][a] -= kept.indices.reduce(0.0) { $0 + right[$1] * back[$1, i] }
        }
      }
    }
    var sum = 0.0
    let b = gram(difference, g)
    for i in 0..<n { for j in 0..<n { sum += b[i, j] * h[i, j] } }
    return sum
  }

  private struct Sample {
    let w: [[Double]], g: DoubleMatrix, h: DoubleMatrix

    init(_ n: Int, outputs: Int, name: String) {
      var stream = RandomStream(test: name)
      w = (0..<outputs).map { _ in (0..<n).map { _ in stream.normal() } }
      g = PositiveSample.matrix(outputs, name: name + " metric")
      var h = correlatedMoment(n)
      let mean = meanDiagonal(h)
      for i in 0..<n { h[i, i] += GroupEliminationTests.damping * mean }
      self.h = h
    }

    /// H before the damping that the method adds.
    var undamped: DoubleMatrix {
      // damped = H + d mean(H): its mean is (1 + d) times that of H.
      var result = h
      let mean = meanDiagonal(h) / (1 + GroupEliminationTests.damping)
      for i in 0..<h.size { result[i, i] -= GroupEliminationTests.damping * mean }
      return result
    }

    func problem(_ groupSize: Int) -> GroupElimination.Problem {
      .init(moment: undamped, gram: GroupEliminationTests.gram(w, g), groupSize: groupSize)
    }
  }

  /// Every removal is the best of all that are left, with least squares solved anew for each.
  @Test(arguments: [(12, 1), (12, 3), (10, 5)])
  func everyStepIsTheBest(_ size: (inputs: Int, group: Int)) throws {
    let sample = Sample(size.inputs, outputs: 4, name: "elimination")
    try check([sample], size.inputs, size.group)
  }

  /// Weights that read the same inputs lose them together.
  @Test func problemsAddUp() throws {
    let samples = ["first", "second"].map { Sample(9, outputs: 3, name: $0) }
    try check(samples, 9, 1)
  }

  /// A channel may be several inputs of one weight and one of another, as of two convolutions.
  @Test func groupsOfOtherSizesGoTogether() throws {
    try check(
      [Sample(8, outputs: 3, name: "wide"), Sample(4, outputs: 2, name: "narrow")], 8, 2,
      sizes: [2, 1])
  }

  private func check(
    _ samples: [Sample], _ n: Int, _ group: Int, sizes: [Int]? = nil
  ) throws {
    let sizes = sizes ?? samples.map { _ in group }
    let found = try GroupElimination(
      zip(samples, sizes).map { $0.problem($1) }, damping: Self.damping)
    func error(_ kept: [Int]) -> Double {
      zip(samples, sizes).reduce(0.0) { sum, part in
        let (sample, size) = part
        let inputs = kept.flatMap { $0 * size..<($0 + 1) * size }.sorted()
        return sum + Self.leftover(sample.w, sample.g, sample.h, kept: inputs)
      }
    }
    #expect(found.order.sorted() == Array(0..<n / group))
    var kept = Array(0..<n / group), before = 0.0
    for (group, cost) in zip(found.order, found.costs) {
      let errors = kept.map { candidate in error(kept.filter { $0 != candidate }) }
      let best = errors.min() ?? 0
      kept.removeAll { $0 == group }
      let own = error(kept)
      #expect(own <= best * (1 + 1e-9) + 1e-9)
      #expect(abs(cost - (own - before)) < 1e-7 * max(1, own))
      before = own
    }
  }

  @Test func deadInputsGoFirst() throws {
    let h = correlatedMoment(8, dead: [2, 5])
    var identity = DoubleMatrix(size: 8)
    for i in 0..<8 { identity[i, i] = 1 }
    let found = try GroupElimination(
      [.init(moment: h, gram: identity)], damping: 1e-6)
    #expect(Set(found.order.prefix(2)) == [2, 5])
  }

  @Test func badNumbersAreAnError() {
    var h = correlatedMoment(4)
    h[1, 1] = .nan
    #expect(throws: FactorizationError.self) {
      try GroupElimination(
        [.init(moment: h, gram: DoubleMatrix(size: 4))], damping: 0.01)
    }
  }
}

enum PositiveSample {
  /// R Rᵀ + I / 10.
  static func matrix(_ n: Int, name: String) -> DoubleMatrix {
    var stream = RandomStream(test: name)
    let r = (0..<n * n).map { _ in stream.normal() }
    var a = DoubleMatrix(size: n)
    for i in 0..<n {
      for j in 0..<n {
        a[i, j] = (0..<n).reduce(i == j ? 0.1 : 0) { $0 + r[i * n + $1] * r[j * n + $1] }
      }
    }
    return a
  }
}

import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct ALPSTests {
  /// The alternation as the paper prints it, in Double, with an inverse for each penalty.
  static func support(
    _ weight: Matrix, _ metric: DoubleMatrix, _ goal: SparsityGoal, iterations: Int
  ) -> [Bool] {
    let n = weight.columns, rows = weight.rows
    let sizes = metric.diagonal.map { $0.squareRoot() }
    var g = metric
    for i in 0..<n { for j in 0..<n { g[i, j] /= sizes[i] * sizes[j] } }
    let w = (0..<rows * n).map { Double(weight.values[$0]) * sizes[$0 % n] }
    var d = w, v = [Double](repeating: 0, count: w.count)
    func removed(_ x: [Double]) -> [Bool] {
      var result = [Bool](repeating: false, count: x.count)
      func remove(_ set: Range<Int>, _ count: Int) {
        for i in set.sorted(by: { abs(x[$0]) < abs(x[$1]) }).prefix(count) { result[i] = true }
      }
      if case .groups(let kept, let size) = goal.pattern {
        for start in stride(from: 0, to: x.count, by: size) {
          remove(start..<start + size, size - kept)
        }
      } else {
        remove(0..<x.count, goal.zeros)
      }
      return result
    }
    var last = removed(w), rho = 0.1
    for iteration in 1...iterations {
      let inverse = PruningTests.inverse(g, damping: rho)
      var sum = [Double](repeating: 0, count: w.count)
      for row in 0..<rows {
        let right = (0..<n).map { j -> Double in
          let own = row * n + j
          return (0..<n).reduce(rho * d[own] - v[own]) { $0 + w[row * n + $1] * g[$1, j] }
        }
        for j in 0..<n {
          let b = (0..<n).reduce(0.0) { $0 + right[$1] * inverse[$1, j] }
          sum[row * n + j] = b + v[row * n + j] / rho
        }
      }
      let goes = removed(sum)
      for i in sum.indices {
        d[i] = goes[i] ? 0 : sum[i]
        v[i] = rho * (sum[i] - d[i])
      }
      guard iteration % 3 == 0 else { continue }
      let changed = zip(goes, last).count { $0 != $1 }
      if changed == 0 { break }
      let kept = Double(w.count - goal.zeros)
      rho *= Double(changed) >= 0.1 * kept ? 1.3 : Double(changed) >= 0.005 * kept ? 1.2 : 1.1
      last = goes
    }
    return removed(d)
  }

  @Test(arguments: ["unstructured", "2:4"], [1, 4, 12])
  func equalsItsDefinition(_ name: String, _ iterations: Int) throws {
    let n = 24, rows = 70
    var stream = RandomStream(test: "alps")
    let weight = stream.matrix(rows: rows, columns: n, deviation: 0.05)
    let h = correlatedMoment(n)
    let goal = try SparsityGoal(
      #require(SparsityPattern(name)), sparsity: 0.6, outputs: rows, inputs: n)
    let result = try ALPS(damping: 0.02, iterations: iterations)
      .prune(weight, statistics: .moment(h), goal: goal)
    let metric = ALPS.metric(h, damping: 0.02 * meanDiagonal(h))
    let expected = Self.support(weight, metric, goal, iterations: iterations)
    #expect(result.weight.values.map { $0 == 0 } == expected)
    // On that support, no weight can be changed for the better.
    for row in 0..<rows {
      for j in 0..<n where !expected[row * n + j] {
        var gradient = 0.0, size = 0.0
        for i in 0..<n {
          let difference =
            Double(result.weight.values[row * n + i]) - Double(weight.values[row * n + i])
          gradient += difference * metric[i, j]
          size += abs(difference * metric[i, j])
        }
        #expect(abs(gradient) < 1e-5 * size)
      }
    }
  }

  @Test(arguments: ["unstructured", "2:4", "4:8", "1x8"], [0.5, 0.8])
  func losesLessThanSparseGPT(_ name: String, _ sparsity: Double) throws {
    var stream = RandomStream(test: "alps-less")
    let weight = stream.matrix(rows: 96, columns: 64)
    let h = correlatedMoment(64)
    let goal = try SparsityGoal(
      #require(SparsityPattern(name)), sparsity: sparsity, outputs: 96, inputs: 64)
    let found = try ALPS().prune(weight, statistics: .moment(h), goal: goal)
    let other = try SparseGPT().prune(weight, statistics: .moment(h), goal: goal)
    #expect(found.relativeError < 0.95 * other.relativeError)
  }
}

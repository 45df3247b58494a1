import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct SparseGPTTests {
  static let patterns = ["unstructured", "2:4", "4:8", "1x4"]

  /// Optimal brain surgery column by column, with the inverse of what is left made explicitly smaller each time, in Double:
  /// with the masks that were chosen the weights must be these, and no weight that stays may be worth less than one
  /// that goes.
  @Test(arguments: patterns, [8, 16, 128])
  func equalsExplicitInverses(_ name: String, _ blockSize: Int) throws {
    let n = 48, rows = 133, damping = 0.03
    var stream = RandomStream(test: "sparsegpt")
    let weight = stream.matrix(rows: rows, columns: n, deviation: 0.05)
    let h = correlatedMoment(n)
    let pattern = try #require(SparsityPattern(name))
    let goal = try SparsityGoal(pattern, sparsity: 0.5, outputs: rows, inputs: n)
    let result = try SparseGPT(damping: damping, blockSize: blockSize).prune(
      weight, statistics: .moment(h), goal: goal
    ).weight
    // Worth of each weight when its turn comes, and the weights that come out.
    var worth = [Double](repeating: 0, count: rows * n), expected = worth
    var left = inverse(h, damping: damping * meanDiagonal(h))
    var w = weight.values.map(Double.init)
    var atBlock = w
    var size = blockSize
    if case .groups(_, let group) = pattern { size = group }
    for j in 0..<n {
      if j % size == 0 { atBlock = w }
      for row in 0..<rows {
        // Masks of a block are chosen before its first column; the worth uses the pivots of later columns.
        let own = atBlock[row * n + j]
        worth[row * n + j] = own * own / left[j, j]
        let goes = result.values[row * n + j] == 0
        expected[row * n + j] = goes ? 0 : w[row * n + j]
        guard goes else { continue }
        let error = w[row * n + j] / left[j, j]
        for k in j..<n { w[row * n + k] -= error * left[j, k] }
      }
      let pivot = left[j, j], column = (0..<n).map { left[$0, j] }
      for i in 0..<n { for k in 0..<n { left[i, k] -= column[i] * column[k] / pivot } }
    }
    for index in expected.indices {
      #expect(abs(Double(result.values[index]) - expected[index]) < 1e-5)
    }
    expectTheLeastGo(result, worth, pattern, blockSize: blockSize)
  }

  /// In every set whose masks are chosen together, what goes is worth no more than what stays.
  private func expectTheLeastGo(
    _ result: Matrix, _ worth: [Double], _ pattern: SparsityPattern, blockSize: Int
  ) {
    let n = result.columns
    func check(_ sets: [[Int]], width: Int) {
      func sum(_ start: Int) -> Double { (start..<start + width).reduce(0) { $0 + worth[$1] } }
      for set in sets {
        let gone = set.filter { result.values[$0] == 0 }.map(sum).max() ?? 0
        let kept = set.filter { result.values[$0] != 0 }.map(sum).min() ?? .infinity
        #expect(gone <= kept * 1.001)
      }
    }
    switch pattern {
    case .groups(_, let size):
      check(
        stride(from: 0, to: result.values.count, by: size).map { Array($0..<$0 + size) }, width: 1)
    case .unstructured, .blocks:
      let width = pattern.columnMultiple
      let size = (blockSize + width - 1) / width * width
      check(
        stride(from: 0, to: n, by: size).map { start in
          (0..<result.rows).flatMap { row in
            stride(from: start, to: min(start + size, n), by: width).map { row * n + $0 }
          }
        }, width: width)
    }
  }

  @Test(arguments: patterns) func losesLessThanWanda(_ name: String) throws {
    var stream = RandomStream(test: "less")
    let weight = stream.matrix(rows: 96, columns: 64)
    let h = correlatedMoment(64)
    let goal = try SparsityGoal(
      #require(SparsityPattern(name)), sparsity: 0.5, outputs: 96, inputs: 64)
    let found = try SparseGPT().prune(weight, statistics: .moment(h), goal: goal)
    let wanda = try Wanda().prune(weight, statistics: .moment(h), goal: goal)
    #expect(found.relativeError < 0.75 * wanda.relativeError)
    let error = squaredError(weight, found.weight, h)
    let all = squaredError(weight, Matrix(rows: 96, columns: 64), h)
    #expect(abs(found.relativeError - error / all) < 1e-5 * found.relativeError + 1e-7)
  }

  /// With inputs that have drifted, the result is nearer to the original model's outputs than without correction.
  @Test func correctsDrift() throws {
    var stream = RandomStream(test: "drift")
    let n = 32, samples = 200
    let weight = stream.matrix(rows: 24, columns: n)
    var x: [[Double]] = [], y = x
    for _ in 0..<samples {
      let own = (0..<n).map { _ in stream.normal() }
      x.append(own)
      y.append((0..<n).map { 0.8 * own[$0] + 0.3 * own[($0 + 1) % n] + 0.1 * stream.normal() })
    }
    var moment = DoubleMatrix(size: n), cross = moment
    for (x, y) in zip(x, y) {
      for i in 0..<n {
        for j in 0..<n {
          moment[i, j] += y[i] * y[j] / Double(samples)
          cross[i, j] += x[i] * y[j] / Double(samples)
        }
      }
    }
    func distance(_ q: Matrix) -> Double {
      var sum = 0.0
      for (x, y) in zip(x, y) {
        for row in 0..<24 {
          var difference = 0.0
          for i in 0..<n {
            difference +=
              Double(weight.values[row * n + i]) * x[i] - Double(q.values[row * n + i]) * y[i]
          }
          sum += difference * difference
        }
      }
      return sum
    }
    let goal = try SparsityGoal(.groups(kept: 2, of: 4), sparsity: 0.5, outputs: 24, inputs: n)
    let plain = try SparseGPT().prune(weight, statistics: .moment(moment), goal: goal)
    let corrected = try SparseGPT().prune(
      weight, statistics: .asymmetric(moment: moment, cross: cross), goal: goal)
    #expect(distance(corrected.weight) < 0.9 * distance(plain.weight))
    let same = try SparseGPT().prune(
      weight, statistics: .asymmetric(moment: moment, cross: moment), goal: goal)
    #expect(same.weight == plain.weight)
  }
}

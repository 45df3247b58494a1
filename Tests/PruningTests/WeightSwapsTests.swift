import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct WeightSwapsTests {
  /// More swaps never raise the error of any row; the counts of rows and groups stay.
  @Test(arguments: ["unstructured", "2:4", "4:8"]) func swapsNeverRaiseTheError(_ name: String)
    throws
  {
    var stream = RandomStream(test: "swaps")
    let weight = stream.matrix(rows: 40, columns: 48)
    let h = correlatedMoment(48)
    let pattern = try #require(SparsityPattern(name))
    let goal = try SparsityGoal(pattern, sparsity: 0.6, outputs: 40, inputs: 48)
    func errors(_ result: Matrix) -> [Double] {
      (0..<40).map { squaredError(weight.rows($0..<$0 + 1), result.rows($0..<$0 + 1), h) }
    }
    var last = try Wanda().prune(weight, statistics: .moment(h), goal: goal)
    let first = last
    for swaps in [1, 2, 4, 16, 100] {
      let result = try Wanda(swaps: swaps).prune(weight, statistics: .moment(h), goal: goal)
      #expect(
        zip(errors(result.weight), errors(last.weight)).allSatisfy { $0 <= $1 * (1 + 1e-6) })
      #expect(result.zeros == goal.zeros)
      if case .groups(let kept, let size) = pattern {
        #expect(mostKept(result.weight, of: size) == kept)
      }
      for row in 0..<40 {
        let own = weight.range(ofRow: row)
        #expect(
          result.weight.values[own].count { $0 == 0 } == first.weight.values[own].count { $0 == 0 })
      }
      #expect(
        weight.values.indices.allSatisfy {
          result.weight.values[$0] == 0 || result.weight.values[$0] == weight.values[$0]
        })
      last = result
    }
    #expect(last.relativeError < 0.9 * first.relativeError)
  }

  @Test func blocksAndMissingStatisticsAreRefused() throws {
    var stream = RandomStream(test: "swaps")
    let weight = stream.matrix(rows: 4, columns: 32)
    let blocks = try SparsityGoal(.blocks(16), sparsity: 0.5, outputs: 4, inputs: 32)
    #expect(throws: PruningError.cannotSwap(pattern: "1x16")) {
      try Wanda(swaps: 3).prune(weight, statistics: .moment(correlatedMoment(32)), goal: blocks)
    }
    let goal = try SparsityGoal(.unstructured, sparsity: 0.5, outputs: 4, inputs: 32)
    #expect(throws: PruningError.needsStatistics(method: "swapping weights")) {
      try Wanda(swaps: 3).prune(
        weight, statistics: .diagonal([Double](repeating: 1, count: 32)), goal: goal)
    }
  }
}

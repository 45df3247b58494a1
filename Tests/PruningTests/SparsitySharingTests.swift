import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct SparsitySharingTests {
  private func curves() -> [SparsitySharing.Curve] {
    var stream = RandomStream(test: "sharing")
    return (0..<9).map { index in
      let scale = 1e-4 * (0.2 + stream.unit() * 5), growth = 3 + 6 * stream.unit()
      return SparsitySharing.Curve(
        weights: 1000 * (index + 1), block: 1,
        points: [0.1, 0.3, 0.5, 0.7, 0.9].map { ($0, scale * (growth * $0 * $0).exponential) })
    }
  }

  @Test(arguments: [0.15, 0.5, 0.6137, 0.88]) func noMoveIsForTheBetter(_ sparsity: Double) throws {
    let curves = curves()
    let total = Int((sparsity * 45_000).rounded())
    let zeros = try #require(SparsitySharing.zeros(curves, total: total))
    #expect(zeros.reduce(0, +) == total)
    func drift(_ index: Int, _ count: Int) -> Double {
      curves[index].drift(at: Double(count) / Double(curves[index].weights))
    }
    for from in curves.indices {
      for to in curves.indices where from != to {
        for step in [20, 100] {
          let less = zeros[from] - step, more = zeros[to] + step
          guard Double(less) >= 0.1 * Double(curves[from].weights),
            Double(more) <= 0.9 * Double(curves[to].weights)
          else { continue }
          let before = drift(from, zeros[from]) + drift(to, zeros[to])
          #expect(drift(from, less) + drift(to, more) > before * 0.9999)
        }
      }
    }
  }

  @Test func goalsBeyondTheCurvesHaveNoSolution() {
    #expect(SparsitySharing.zeros(curves(), total: 4000) == nil)
    #expect(SparsitySharing.zeros(curves(), total: 41_000) == nil)
  }

  @Test func wholeBlocksComeNearest() {
    let counts = SparsitySharing.exact(
      [100.9, 37.2, 15.5], weights: [160, 48, 16], blocks: [16, 16, 16], total: 153)
    #expect(counts.allSatisfy { $0 % 16 == 0 })
    #expect(abs(counts.reduce(0, +) - 153) <= 8)
    #expect(
      SparsitySharing.exact(
        [10.4, 10.3, 0.3], weights: [11, 20, 4], blocks: [1, 1, 1], total: 21)
        == [11, 10, 0])
  }

  /// The formula of the paper on two layers, and the mean over weights.
  @Test func outlierProfilesFollowTheFormula() {
    let found = OutlierProfile.sparsities(
      [(0.01, 100), (0.03, 100), (0.02, 100)], sparsity: 0.6)
    #expect(zip(found, [0.68, 0.52, 0.6]).allSatisfy { abs($0 - $1) < 1e-12 })
    let uneven = OutlierProfile.sparsities([(0.01, 300), (0.03, 100)], sparsity: 0.6)
    #expect(abs((3 * uneven[0] + uneven[1]) / 4 - 0.6) < 1e-12)
    #expect(abs(uneven[0] - uneven[1] - 0.16) < 1e-12)
    #expect(OutlierProfile.sparsities([(0.1, 5), (0.1, 7)], sparsity: 0.3) == [0.3, 0.3])
    #expect(
      OutlierProfile.sparsities([(0, 300), (1, 100)], sparsity: 0.98).allSatisfy {
        $0 > 0 && $0 < 1
      })
  }

  @Test func outliersAreCounted() {
    // |w| ‖x‖: 1, 2, 3, …, 9 and 200; their mean is 24.5, five times that 122.5.
    let weight = Matrix(rows: 2, columns: 5, values: [1, -1, 3, 2, 5, 6, 3.5, -8, 4.5, 100])
    let profile = OutlierProfile(of: [(weight, [1, 4, 1, 4, 4])])
    #expect(profile.weights == 10 && profile.share == 0.1)
  }
}

extension Double {
  /// e to this power, by halving and squaring: a test needs no more.
  fileprivate var exponential: Double {
    var result = 1 + self / 1_048_576
    for _ in 0..<20 { result *= result }
    return result
  }
}

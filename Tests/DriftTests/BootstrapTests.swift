import Drift
import Tensors
import TestSupport
import Testing

@Suite struct BootstrapTests {
  /// numpy 2.4.6: np.percentile([0.5, 1, 4, 4.5, 10, 11, 30], [0, 1, 25, 50, 99, 99.9, 100])
  @Test func percentilesAsInNumPy() {
    let values = [0.5, 1, 4, 4.5, 10, 11, 30]
    let expected = [
      (0, 0.5), (0.01, 0.53), (0.25, 2.5), (0.5, 4.5), (0.99, 28.86), (0.999, 29.886), (1, 30),
    ]
    for (share, value) in expected {
      #expect(abs(percentile(share, ofSorted: values) - value) < 1e-12, "\(share)")
    }
    #expect(percentile(0.3, ofSorted: [7]) == 7)
    #expect(percentile(0.3, ofSorted: []) == 0)
  }

  /// scipy 1.17.1: scipy.stats.spearmanr(a, b).statistic
  @Test func rankCorrelationAsInSciPy() {
    #expect(abs(spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) - 0.8207826816681233) < 1e-14)
    #expect(
      abs(
        spearman([0.1, 0.5, 0.5, -2, 3.5, 0.5, 8], [1, 0, 2, 2, 5, 5, 4]) - 0.5095246653650681)
        < 1e-14)
    #expect(spearman([3, 1, 2], [1, 3, 2]) == -1)
    #expect(spearman([1, 1, 1], [1, 2, 3]) == 0)
    #expect(spearman([1], [1]) == 0)
  }

  @Test func intervalsAreAlwaysTheSame() {
    var stream = RandomStream(test: "bootstrap values")
    let values = (0..<60).map { _ in stream.normal() + 3 }
    let first = Bootstrap(windows: 60).intervalOfMean(values)
    #expect(first == Bootstrap(windows: 60).intervalOfMean(values))
    let mean = values.reduce(0, +) / 60
    #expect(first.contains(mean))
    // About 1.96 standard errors to each side.
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 59
    let width = 2 * 1.96 * (variance / 60).squareRoot()
    let found = first.upperBound - first.lowerBound
    #expect((0.8 * width...1.2 * width).contains(found))
    #expect(Bootstrap(windows: 1).intervalOfMean([2.5]) == 2.5...2.5)
    #expect(Bootstrap(windows: 9).intervalOfMean([Double](repeating: 1, count: 9)) == 1...1)
  }

  /// Windows are drawn with their own values: a sum over draws sees only indices that exist.
  @Test func everyRoundDrawsAsManyWindows() {
    var counts: Set<Int> = []
    let interval = Bootstrap(windows: 7).interval { draw in
      counts.insert(draw.count)
      return Double(draw.filter { !(0..<7).contains($0) }.count)
    }
    #expect(counts == [7] && interval == 0...0)
  }
}

import Synchronization
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct ParallelLoopTests {
  @Test(arguments: [1, 2, 5], [0, 1, 2, 7, 1000]) func everyIndexOnce(_ threads: Int, _ count: Int)
  {
    withThreads(threads) {
      let counts = (0..<count).map { _ in Atomic64() }
      ParallelLoop.run(count) { counts[$0].add() }
      #expect(counts.allSatisfy { $0.value == 1 })
    }
  }

  @Test(arguments: [1, 2, 5]) func resultsAreInOrder(_ threads: Int) {
    withThreads(threads) {
      #expect(ParallelLoop.map(1000) { $0 * $0 } == (0..<1000).map { $0 * $0 })
      #expect(ParallelLoop.map(0) { $0 } == [])
    }
  }

  /// An inner loop runs alone and does all of its work.
  @Test(arguments: [1, 2, 5]) func loopsInLoops(_ threads: Int) {
    withThreads(threads) {
      let sums = ParallelLoop.map(50) { outer in
        ParallelLoop.map(20) { outer * $0 }.reduce(0, +)
      }
      #expect(sums == (0..<50).map { $0 * 190 })
      // And the flag is free again.
      #expect(ParallelLoop.map(3) { $0 } == [0, 1, 2])
    }
  }

  @Test(arguments: [1, 2, 5], [1, 2, 3, 64]) func rowsAreCutIntoBlocks(
    _ threads: Int, _ blockRows: Int
  ) {
    withThreads(threads) {
      for rows in [0, 1, 2, 63, 64, 65, 130] {
        var values = [Int](repeating: 0, count: rows * 3).map { Float($0) }
        ParallelLoop.overRows(of: &values, rowLength: 3, blockRows: blockRows) { range, part in
          #expect(part.count == range.count * 3 && range.count <= blockRows)
          for index in part.indices { part[index] += Float(range.lowerBound * 3 + index) }
        }
        #expect(values == (0..<rows * 3).map { Float($0) })
      }
    }
  }

  @Test func partsMayBeRagged() {
    var values = [UInt8](repeating: 0, count: 45)
    // Ranges of 0, 1, 2, … 9 elements.
    ParallelLoop.parts(of: &values, count: 10, range: { $0 * ($0 - 1) / 2..<($0 + 1) * $0 / 2 }) {
      index, part in
      for i in part.indices { part[i] += UInt8(index) }
    }
    #expect(values == (0..<10).flatMap { [UInt8](repeating: UInt8($0), count: $0) })
  }

  @Test func theNumberOfThreadsIsAtLeastOne() {
    withThreads(0) { #expect(ParallelLoop.threads == 1) }
    withThreads(3) { #expect(ParallelLoop.threads == 3) }
    #expect(ParallelLoop.coreCount >= 1)
  }
}

private final class Atomic64: Sendable {
  private let count = Atomic<Int>(0)
  var value: Int { count.load(ordering: .relaxed) }
  func add() { count.add(1, ordering: .relaxed) }
}

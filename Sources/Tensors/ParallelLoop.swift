import Dispatch
import Glibc
import Synchronization

/// The one parallel loop: blocks of independent work on all threads that the process may use.
///
/// The result of the work never depends on the number of threads: a block writes its own part, and
/// no block adds to another's sum.
public enum ParallelLoop {
  private static let limit = Atomic<Int>(0)
  private static let isRunning = Atomic<Bool>(false)

  /// How many threads a loop may use, at least 1. Set once, by the program; all cores by default.
  public static var threads: Int {
    get {
      let value = limit.load(ordering: .relaxed)
      return value > 0 ? value : coreCount
    }
    set { limit.store(max(1, newValue), ordering: .relaxed) }
  }

  /// The cores of this machine.
  public static let coreCount = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))

  /// Calls `body` once for each index below `count`, in any order, on several threads.
  ///
  /// Loops do not nest: a body that loops again runs its inner loop alone.
  public static func run(_ count: Int, _ body: (Int) -> Void) {
    let workers = min(threads, count)
    guard workers > 1, !isRunning.exchange(true, ordering: .acquiring) else {
      for index in 0..<count { body(index) }
      return
    }
    let next = Atomic<Int>(0)
    // SAFETY: concurrentPerform returns after the last call, so the closure outlives none of its captures.
    nonisolated(unsafe) let body = body
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
      while true {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard index < count else { break }
        unsafe body(index)
      }
    }
    isRunning.store(false, ordering: .releasing)
  }

  /// The results of `body` for each index below `count`, in order.
  public static func map<Result: Sendable>(_ count: Int, _ body: (Int) -> Result) -> [Result] {
    var results = [Result?](repeating: nil, count: count)
    var span = results.mutableSpan
    unsafe span.withUnsafeMutableBufferPointer { buffer in
      // SAFETY: each index is written by exactly one call, and the loop ends before the buffer does.
      nonisolated(unsafe) let shared = unsafe buffer
      run(count) { unsafe shared[$0] = body($0) }
    }
    return results.compactMap { $0 }
  }

  /// Splits `values`, rows of `rowLength`, into blocks of at most `blockRows` rows, and calls `body` with
  /// the rows and the part of the values that holds them.
  public static func overRows(
    of values: inout [Float], rowLength: Int, blockRows: Int,
    _ body: (Range<Int>, inout MutableSpan<Float>) -> Void
  ) {
    precondition(blockRows > 0 && (rowLength > 0 || values.isEmpty))
    guard !values.isEmpty else { return }
    let rows = values.count / rowLength
    precondition(rows * rowLength == values.count, "\(values.count) values in rows of \(rowLength)")
    let blocks = (rows + blockRows - 1) / blockRows
    parts(
      of: &values, count: blocks,
      range: { block in
        block * blockRows * rowLength..<min((block + 1) * blockRows, rows) * rowLength
      }
    ) { block, part in
      body(block * blockRows..<min((block + 1) * blockRows, rows), &part)
    }
  }

  /// Calls `body` for each index below `count` with its own part of `values`. The ranges must not overlap.
  public static func parts<Element: BitwiseCopyable & Sendable>(
    of values: inout [Element], count: Int, range: (Int) -> Range<Int>,
    _ body: (Int, inout MutableSpan<Element>) -> Void
  ) {
    var span = values.mutableSpan
    unsafe span.withUnsafeMutableBufferPointer { buffer in
      // SAFETY: the ranges are disjoint by contract, and the loop ends before the buffer does.
      nonisolated(unsafe) let shared = unsafe buffer
      run(count) { index in
        let own = range(index)
        unsafe precondition(own.lowerBound >= 0 && own.upperBound <= shared.count)
        var part = unsafe MutableSpan(
          _unsafeElements: UnsafeMutableBufferPointer(rebasing: shared[own]))
        body(index, &part)
      }
    }
  }
}

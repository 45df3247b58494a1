// Seeded numbers for tests, and the one setting that all tests of a process share.

import Foundation
public import Tensors

extension RandomStream {
  /// The stream of a test.
  public init(test name: String) { self.init(seed: 1, name: name) }

  /// The next standard normal number: Box and Muller.
  public mutating func normal() -> Double {
    let radius = (-2 * log(1 - unit())).squareRoot()
    return radius * cos(2 * Double.pi * unit())
  }

  /// So many normal floats.
  public mutating func floats(_ count: Int, deviation: Double = 1) -> [Float] {
    (0..<count).map { _ in Float(normal() * deviation) }
  }

  /// A matrix of normal floats.
  public mutating func matrix(rows: Int, columns: Int, deviation: Double = 1) -> Matrix {
    Matrix(rows: rows, columns: columns, values: floats(rows * columns, deviation: deviation))
  }
}

private let threadSetting = NSRecursiveLock()

/// Runs `body` with so many threads. The number is the process's, so that only one test sets it at a time.
public func withThreads<Result>(_ count: Int, _ body: () throws -> Result) rethrows -> Result {
  threadSetting.lock()
  let before = ParallelLoop.threads
  ParallelLoop.threads = count
  defer {
    ParallelLoop.threads = before
    threadSetting.unlock()
  }
  return try body()
}

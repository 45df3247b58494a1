import Dispatch

/// libhdf5 has one state for the whole process: every use of it happens while this is held.
enum HDF5Library {
  private static let turn = DispatchSemaphore(value: 1)

  /// Calls `body` while nobody else uses the library.
  static func withLock<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    turn.wait()
    defer { turn.signal() }
    return try body()
  }
}

import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@testable import HDF5Files

@Suite struct TeacherLogTests {
  /// What is written comes back, for every kind of log.
  @Test(arguments: [
    SampleLogs.manifest(), SampleLogs.manifest(vocabulary: 70_000, hidden: [0, 2]),
    SampleLogs.manifest(samples: 400), SampleLogs.manifest(k: 0),
    SampleLogs.manifest(samples: 0, source: .api),
    SampleLogs.manifest(vocabulary: 65_534), SampleLogs.manifest(vocabulary: 65_535),
  ]) func roundTrip(_ manifest: TeacherLogManifest) throws {
    let folder = try TemporaryFolder()
    let windows = SampleLogs.windows(manifest, count: 40, seed: "round trip")
    let written = try SampleLogs.write(windows, manifest, to: folder.file("a.h5"))
    let log = try TeacherLog(path: folder.file("a.h5"))
    #expect(log.manifest == written)
    #expect(log.windowCount == 40)
    #expect(log.manifest.tokens == windows.reduce(0) { $0 + $1.tokens.count })
    for (index, window) in windows.enumerated() {
      #expect(try log.window(index) == window, "window \(index)")
    }
    #expect(try log.windows(3..<17) == Array(windows[3..<17]))
    #expect(try FilePath.names(in: folder.path) == ["a.h5"])
  }

  /// Numbers between the steps go to the nearest one; what is too large to the largest.
  @Test func rounding() throws {
    let folder = try TemporaryFolder()
    let manifest = SampleLogs.manifest(k: 3, samples: 0)
    let window = TeacherLogWindow(
      tokens: [1, 2, 3], trueLogProbabilities: [-0.3, -1e9], logSumExps: [7.77, 1e7],
      entropies: [1.234, 0.0001], topTokens: [9, 8, 7, 6, 5, 4],
      topLogProbabilities: [-0.001, -9.4321, -20.5, -0.7, -0.7, -2e6])
    try SampleLogs.write([window], manifest, to: folder.file("a.h5"))
    let found = try TeacherLog(path: folder.file("a.h5")).window(0)
    for (a, b) in zip(
      [found.trueLogProbabilities[0]] + found.entropies + found.topLogProbabilities.dropLast(),
      [window.trueLogProbabilities[0]] + window.entropies + window.topLogProbabilities.dropLast())
    {
      // Half a step: the derivative of (exp(z / 640) − 1) / 64.
      #expect(abs(a - b) <= 0.501 * (1.0 / 64 + abs(b)) / 640, "\(a) \(b)")
    }
    #expect(abs(found.logSumExps[0] - 7.77) <= 0.5 / 256)
    #expect(abs(found.trueLogProbabilities[1] / -1e6 - 1) < 1e-3)
    #expect(abs(found.topLogProbabilities[5] / -1e6 - 1) < 1e-3)
  }

  /// The same windows give the same bytes: interrupted or not, on one thread or several, now or later.
  @Test func sameBytes() throws {
    let folder = try TemporaryFolder()
    let manifest = SampleLogs.manifest(hidden: [1])
    let windows = SampleLogs.windows(manifest, count: 50, seed: "bytes")
    try SampleLogs.write(windows, manifest, to: folder.file("a.h5"))
    let whole = try FilePath.read(folder.file("a.h5"))
    for stop in [0, 6, 7, 30, 49] {
      do {
        let writer = try TeacherLogWriter(
          path: folder.file("b.h5"), manifest: manifest, key: "key", windowsPerChunk: 7)
        try writer.append(Array(windows[..<stop]))
      }
      #expect(FilePath.kind(of: folder.file("b.h5")) == nil)
      let writer = try TeacherLogWriter(
        path: folder.file("b.h5"), manifest: manifest, key: "key", windowsPerChunk: 7)
      #expect(writer.windowCount == stop / 7 * 7)
      try writer.append(Array(windows[writer.windowCount...]))
      _ = try writer.finish()
      #expect(try FilePath.read(folder.file("b.h5")) == whole)
      try FilePath.remove(folder.file("b.h5"))
    }
    Thread.sleep(forTimeInterval: 1.1)
    try SampleLogs.write(windows, manifest, to: folder.file("c.h5"))
    #expect(try FilePath.read(folder.file("c.h5")) == whole)
  }

  /// Work of another key, or of another manifest, starts anew.
  @Test func otherWorkIsNotResumed() throws {
    let folder = try TemporaryFolder()
    let manifest = SampleLogs.manifest()
    let windows = SampleLogs.windows(manifest, count: 8, seed: "other")
    func start(_ key: String, _ manifest: TeacherLogManifest) throws -> Int {
      let writer = try TeacherLogWriter(
        path: folder.file("a.h5"), manifest: manifest, key: key, windowsPerChunk: 4)
      let found = writer.windowCount
      if found == 0 { try writer.append(windows) }
      return found
    }
    #expect(try start("a", manifest) == 0)
    #expect(try start("a", manifest) == 8)
    #expect(try start("b", manifest) == 0)
    var other = manifest
    other.seed = 4
    #expect(try start("b", other) == 0)
  }

  /// Two writers of one output, and an output that exists.
  @Test func busyAndExisting() throws {
    let folder = try TemporaryFolder()
    let manifest = SampleLogs.manifest()
    let path = folder.file("a.h5")
    let first = try TeacherLogWriter(path: path, manifest: manifest, key: "", windowsPerChunk: 4)
    #expect(throws: CheckpointError(path: path, .outputBusy)) {
      _ = try TeacherLogWriter(path: path, manifest: manifest, key: "", windowsPerChunk: 4)
    }
    try first.append(SampleLogs.windows(manifest, count: 3, seed: "busy"))
    _ = try first.finish()
    #expect(throws: CheckpointError(path: path, .outputExists)) {
      _ = try TeacherLogWriter(path: path, manifest: manifest, key: "", windowsPerChunk: 4)
    }
  }

  /// Threads that read ranges at once read what one thread reads.
  @Test func parallelReading() async throws {
    let folder = try TemporaryFolder()
    let manifest = SampleLogs.manifest()
    let windows = SampleLogs.windows(manifest, count: 200, seed: "parallel")
    try SampleLogs.write(windows, manifest, to: folder.file("a.h5"))
    let log = try TeacherLog(path: folder.file("a.h5"))
    let parts = try await withThrowingTaskGroup(of: (Int, [TeacherLogWindow]).self) { group in
      for start in stride(from: 0, to: 200, by: 10) {
        group.addTask { (start, try log.windows(start..<start + 10)) }
      }
      var parts: [Int: [TeacherLogWindow]] = [:]
      for try await (start, part) in group { parts[start] = part }
      return parts
    }
    for (start, part) in parts { #expect(part == Array(windows[start..<start + 10])) }
  }

  @Test func matching() throws {
    var manifest = SampleLogs.manifest()
    manifest.orderHash = "order"
    func problem(_ expected: TeacherLog.Expectation) -> String? {
      do {
        try TeacherLog.requireMatch(manifest, expected, path: "l.h5")
        return nil
      } catch { return "\(error)" }
    }
    #expect(problem(.init()) == nil)
    #expect(problem(.init(tokenizerHash: "b", vocabulary: 300, orderHash: "order")) == nil)
    #expect(
      problem(.init(vocabulary: 301))
        == "l.h5: 'vocabulary': found 300, expected 301; log with the student's tokenizer, or align an API's log to it"
    )
    for expected in [
      TeacherLog.Expectation(tokenizerHash: "x"), .init(orderHash: "x"), .init(textHash: "x"),
      .init(context: 25), .init(teacherHash: "x"), .init(templateHash: "x"),
    ] {
      #expect(problem(expected)?.contains("expected") == true)
    }
  }
}

// What a student learns from: windows of a text, or of teacher logs.

public import HDF5Files
import Tensors

/// A window: tokens, and what the teacher said of them where that was written down.
public struct TrainingWindow: Sendable {
  /// The tokens; the last one is predicted, never read.
  public var tokens: [Int32]
  /// What the teacher said; nil for a text alone.
  public var log: TeacherLogWindow?
  /// How much the window counts.
  public var weight: Double

  /// Positions whose prediction counts: all but the last, or those that are in the log.
  var rows: Range<Int> { log?.rows ?? 0..<tokens.count - 1 }
}

/// Windows in a fixed order.
public protocol TrainingSource: Sendable {
  /// The number of windows.
  var count: Int { get }
  /// Some windows by their numbers.
  func windows(_ indices: [Int]) throws -> [TrainingWindow]
}

/// Windows of texts.
public struct TextSource: TrainingSource {
  private let windows: [TrainingWindow]

  /// Windows of one or more texts, each with its weight.
  public init(_ texts: [(windows: [[Int32]], weight: Double)]) {
    windows = texts.flatMap { text in
      text.windows.map { TrainingWindow(tokens: $0, log: nil, weight: text.weight) }
    }
  }

  /// The number of windows.
  public var count: Int { windows.count }
  /// Some windows.
  public func windows(_ indices: [Int]) -> [TrainingWindow] { indices.map { windows[$0] } }
}

/// Windows of teacher logs.
public struct LogSource: TrainingSource {
  private let logs: [(log: TeacherLog, weight: Double)]

  /// One or more logs, each with its weight.
  public init(_ logs: [(log: TeacherLog, weight: Double)]) { self.logs = logs }

  /// The number of windows.
  public var count: Int { logs.reduce(0) { $0 + $1.log.windowCount } }

  /// Some windows, read on all threads.
  public func windows(_ indices: [Int]) throws -> [TrainingWindow] {
    let places = indices.map { index -> (log: Int, window: Int) in
      var rest = index
      for (number, entry) in logs.enumerated() {
        if rest < entry.log.windowCount { return (number, rest) }
        rest -= entry.log.windowCount
      }
      preconditionFailure("window \(index) of \(count)")
    }
    return try places.map { place in
      let window = try logs[place.log].log.window(place.window)
      return TrainingWindow(tokens: window.tokens, log: window, weight: logs[place.log].weight)
    }
  }
}

/// Which items a run sees when: validation first, then passes over the rest, each in an order of its own.
struct TrainingOrder {
  /// Items of the validation.
  let validation: [Int]
  private let training: [Int]
  private let seed: UInt64

  init(count: Int, validation: Int, batch: Int, seed: UInt64) throws(DistillationError) {
    guard count >= validation + batch, validation > 0 else {
      throw .tooFewWindows(found: count, needed: max(1, validation) + batch)
    }
    var stream = RandomStream(seed: seed, name: "validation windows")
    let order = stream.permutation(count)
    self.validation = order.prefix(validation).sorted()
    training = order.dropFirst(validation).sorted()
    self.seed = seed
  }

  /// Items a pass has.
  var count: Int { training.count }

  /// The items at places of the run, counted from its start.
  func items(_ places: Range<Int>) -> [TrainingItem] {
    var result: [TrainingItem] = []
    var pass = -1
    var order: [Int] = []
    for place in places {
      if place / training.count != pass {
        pass = place / training.count
        var stream = RandomStream(seed: seed, name: "order of pass \(pass)")
        order = stream.permutation(training.count)
      }
      result.append(TrainingItem(index: training[order[place % training.count]], pass: pass))
    }
    return result
  }
}

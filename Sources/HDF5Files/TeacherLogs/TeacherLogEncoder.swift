// Windows as the bytes of a log's columns.

import Checkpoints
import Tensors

/// Encodes windows with the ranks of a whole log.
struct TeacherLogEncoder {
  let layout: TeacherLogLayout
  /// The rank of each id.
  let ranks: [Int32]
  private let steps: TeacherLogSteps

  init(manifest: TeacherLogManifest, ids: [Int32]) {
    layout = TeacherLogLayout(manifest: manifest)
    var ranks = [Int32](repeating: 0, count: ids.count)
    for (rank, id) in ids.enumerated() { ranks[Int(id)] = Int32(rank) }
    self.ranks = ranks
    steps = TeacherLogSteps(resolution: manifest.resolution)
  }

  /// The ids by falling frequency, equal ones ascending.
  static func ids(byFrequency counts: [Int]) -> [Int32] {
    counts.indices.sorted { (counts[$1], $0) < (counts[$0], $1) }.map { Int32($0) }
  }

  /// Adds how often each id stands in a window.
  static func count(_ window: TeacherLogWindow, into counts: inout [Int]) {
    for id in window.tokens { counts[Int(id)] += 1 }
    for id in window.topTokens where id >= 0 { counts[Int(id)] += 1 }
    for (id, count) in zip(window.sampleTokens, window.sampleCounts) {
      counts[Int(id)] += Int(count)
    }
  }

  /// The bytes of a window's part of every column; `ids` is not among them.
  func encode(_ window: TeacherLogWindow) -> [String: [UInt8]] {
    var columns: [String: [UInt8]] = [:]
    let manifest = layout.manifest, k = manifest.topCount, rows = window.rows.count
    var low: [UInt8] = [], high: [UInt8] = []
    func put(_ rank: Int) {
      low.append(UInt8(truncatingIfNeeded: rank))
      low.append(UInt8(truncatingIfNeeded: rank >> 8))
      high.append(UInt8(truncatingIfNeeded: rank >> 16))
    }
    for id in window.tokens { put(Int(ranks[Int(id)])) }
    columns[TeacherLogLayout.tokens] = low
    if layout.hasHighBits {
      columns[TeacherLogLayout.tokens + TeacherLogLayout.highSuffix] = high
    }
    var truth: [UInt8] = [], sums: [UInt8] = [], entropies: [UInt8] = []
    var logs: [UInt8] = [], counts: [UInt8] = [], tail = Tail()
    (low, high) = ([], [])
    for row in 0..<rows {
      let list = row * k..<(row + 1) * k
      let next = window.tokens[window.rows.lowerBound + row + 1]
      let isListed = window.topTokens[list].contains(next)
      Self.put(
        isListed ? TeacherLogLayout.inList : steps.step(-window.trueLogProbabilities[row]),
        into: &truth)
      let sum =
        (window.logSumExps[row] * TeacherLogLayout.sumSteps).rounded()
        / TeacherLogLayout.sumSteps
      Self.put(Int(sum.bitPattern & 0xFFFF), into: &sums)
      Self.put(Int(sum.bitPattern >> 16), into: &sums)
      Self.put(steps.step(window.entropies[row]), into: &entropies)
      var before = 0
      for index in list {
        let id = window.topTokens[index]
        guard id >= 0 else {
          put(layout.noneRank)
          Self.put(TeacherLogLayout.inList, into: &logs)
          continue
        }
        put(Int(ranks[Int(id)]))
        // Of steps, so that differences add up to them again.
        let own = max(before, steps.step(-window.topLogProbabilities[index]))
        Self.put(own - before, into: &logs)
        before = own
      }
      if manifest.sampleCount > 0 {
        encodeSamples(of: row, window, list, &counts, &tail)
      }
    }
    columns[TeacherLogLayout.true_] = truth
    columns[TeacherLogLayout.logSumExp] = sums
    columns[TeacherLogLayout.entropy] = entropies
    if k > 0 {
      columns[TeacherLogLayout.top] = low
      if layout.hasHighBits { columns[TeacherLogLayout.top + TeacherLogLayout.highSuffix] = high }
      columns[TeacherLogLayout.topLogProbability] = logs
    }
    if manifest.sampleCount > 0 {
      if k > 0 { columns[TeacherLogLayout.topCount] = counts }
      columns[TeacherLogLayout.tailHigh] = tail.high
      columns[TeacherLogLayout.tailLow] = tail.low
    }
    if manifest.hasOtherMass {
      columns[TeacherLogLayout.otherMass] = window.otherMass.flatMap { Self.bytes(of: $0) }
    }
    for layer in manifest.hiddenLayers {
      let values = window.hidden[layer]?.values ?? []
      columns[TeacherLogLayout.hidden(layer)] = narrow(values.span, to: .float16).flatMap {
        [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)]
      }
    }
    columns[TeacherLogLayout.windows] = [
      window.tokens.count, window.rows.lowerBound, rows, tail.high.count, tail.low.count,
    ].flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
    return columns
  }

  /// Samples outside the list, as gaps.
  private struct Tail {
    var high: [UInt8] = [], low: [UInt8] = []
    private var isHalf = false

    mutating func put(_ gap: Int) {
      var rest = gap >> 4
      while rest >= 128 {
        high.append(UInt8(rest & 127) | 128)
        rest >>= 7
      }
      high.append(UInt8(rest))
      if isHalf { low[low.count - 1] |= UInt8(gap & 15) << 4 } else { low.append(UInt8(gap & 15)) }
      isHalf.toggle()
    }
  }

  private func encodeSamples(
    of row: Int, _ window: TeacherLogWindow, _ list: Range<Int>, _ counts: inout [UInt8],
    _ tail: inout Tail
  ) {
    var listed = [Int](repeating: 0, count: list.count)
    var others: [Int] = []
    for sample in window.sampleOffsets[row]..<window.sampleOffsets[row + 1] {
      let id = window.sampleTokens[sample], count = Int(window.sampleCounts[sample])
      if let place = window.topTokens[list].firstIndex(of: id) {
        listed[place - list.lowerBound] += count
      } else {
        others += [Int](repeating: Int(ranks[Int(id)]), count: count)
      }
    }
    for count in listed {
      if layout.countType == .uint8 {
        counts.append(UInt8(count))
      } else {
        Self.put(count, into: &counts)
      }
    }
    var before = 0
    for rank in others.sorted() {
      tail.put(rank - before)
      before = rank
    }
  }

  private static func put(_ value: Int, into bytes: inout [UInt8]) {
    bytes.append(UInt8(truncatingIfNeeded: value))
    bytes.append(UInt8(truncatingIfNeeded: value >> 8))
  }

  private static func bytes(of value: Float) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> UInt32(8 * $0)) }
  }
}

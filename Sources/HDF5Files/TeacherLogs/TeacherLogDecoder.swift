// Windows from the bytes of a log's columns. The bytes may be anybody's: whatever they say is checked.

import Checkpoints
import Glibc
import Tensors

/// Decodes windows with the ids of a whole log.
struct TeacherLogDecoder: Sendable {
  /// The sizes of a window's parts.
  struct Sizes: Sendable {
    var tokens = 0, firstRow = 0, rows = 0, tailHigh = 0, tailLow = 0
  }

  private let manifest: TeacherLogManifest
  /// The id of each rank.
  private let ids: [Int32]
  private let hasHighBits: Bool
  private let noneRank: Int
  private let countBytes: Int
  private let nats: [Float]

  init(manifest: TeacherLogManifest, ids: [Int32]) {
    let layout = TeacherLogLayout(manifest: manifest)
    self.manifest = manifest
    self.ids = ids
    hasHighBits = layout.hasHighBits
    noneRank = layout.noneRank
    countBytes = layout.countType.byteCount
    nats = TeacherLogSteps(resolution: manifest.resolution).nats
  }

  /// What is wrong with a window, and in which column.
  struct Failure: Error {
    let column: String
    let problem: CheckpointError.Problem
  }

  private static func damaged(_ column: String, _ what: String) -> Failure {
    Failure(
      column: column,
      problem: .badValue(found: what, expected: "what this program writes; log it again"))
  }

  /// A window of bytes whose lengths follow from its sizes.
  func window(
    _ sizes: Sizes, _ columns: [String: [UInt8]]
  ) throws(Failure) -> TeacherLogWindow {
    let k = manifest.topCount, rows = sizes.rows
    let ranks = self.ranks(columns, TeacherLogLayout.tokens, count: sizes.tokens)
    var tokens: [Int32] = []
    tokens.reserveCapacity(ranks.count)
    for rank in ranks { tokens.append(try id(rank, TeacherLogLayout.tokens)) }
    var window = TeacherLogWindow(tokens: tokens, rows: sizes.firstRow..<sizes.firstRow + rows)
    if k > 0 {
      let steps16 = numbers(columns, TeacherLogLayout.topLogProbability, bytes: 2)
      let list = self.ranks(columns, TeacherLogLayout.top, count: rows * k)
      for row in 0..<rows {
        var sum = 0, isOver = false
        for index in row * k..<(row + 1) * k {
          if list[index] == noneRank {
            isOver = true
            window.topTokens.append(-1)
            window.topLogProbabilities.append(-.infinity)
            continue
          }
          let own = try id(list[index], TeacherLogLayout.top)
          guard !isOver, !window.topTokens[(row * k)...].contains(own) else {
            throw Self.damaged(TeacherLogLayout.top, "an id twice or behind the list's end")
          }
          sum += steps16[index]
          window.topTokens.append(own)
          window.topLogProbabilities.append(-(try value(sum, TeacherLogLayout.topLogProbability)))
        }
      }
    }
    try decodeScalars(into: &window, columns)
    if manifest.sampleCount > 0 { try decodeSamples(into: &window, columns) }
    for layer in manifest.hiddenLayers {
      let name = TeacherLogLayout.hidden(layer)
      let patterns = numbers(columns, name, bytes: 2).map { UInt16($0) }
      let values = widen(patterns, as: .float16)
      guard countNotFinite(values.span) == 0 else {
        throw Self.damaged(name, "hidden states that are infinite or NaN")
      }
      window.hidden[layer] = Matrix(rows: rows, columns: manifest.hiddenWidth, values: values)
    }
    return window
  }

  private func decodeScalars(
    into window: inout TeacherLogWindow, _ columns: [String: [UInt8]]
  ) throws(Failure) {
    let k = manifest.topCount, rows = window.rows.count
    let truth = numbers(columns, TeacherLogLayout.true_, bytes: 2)
    for row in 0..<rows {
      guard truth[row] == TeacherLogLayout.inList else {
        window.trueLogProbabilities.append(-(try value(truth[row], TeacherLogLayout.true_)))
        continue
      }
      let next = window.tokens[window.rows.lowerBound + row + 1]
      guard let place = window.topTokens[row * k..<(row + 1) * k].firstIndex(of: next) else {
        throw Self.damaged(TeacherLogLayout.true_, "a token that is not in the list it points to")
      }
      window.trueLogProbabilities.append(window.topLogProbabilities[place])
    }
    for step in numbers(columns, TeacherLogLayout.entropy, bytes: 2) {
      window.entropies.append(try value(step, TeacherLogLayout.entropy))
    }
    window.logSumExps = try floats(columns, TeacherLogLayout.logSumExp)
    if manifest.hasOtherMass {
      window.otherMass = try floats(columns, TeacherLogLayout.otherMass)
      guard window.otherMass.allSatisfy({ (0...1).contains($0) }) else {
        throw Self.damaged(TeacherLogLayout.otherMass, "a probability outside 0…1")
      }
    }
  }

  private func decodeSamples(
    into window: inout TeacherLogWindow, _ columns: [String: [UInt8]]
  ) throws(Failure) {
    let k = manifest.topCount
    let counts = k > 0 ? numbers(columns, TeacherLogLayout.topCount, bytes: countBytes) : []
    var high = columns[TeacherLogLayout.tailHigh, default: []][...]
    let low = columns[TeacherLogLayout.tailLow, default: []]
    var nibble = 0
    var samples: [(id: Int32, count: Int)] = []
    for row in 0..<window.rows.count {
      samples.removeAll(keepingCapacity: true)
      var left = manifest.sampleCount
      for index in row * k..<(row + 1) * k where counts[index] > 0 {
        let id = window.topTokens[index]
        left -= counts[index]
        guard left >= 0, id >= 0 else {
          throw Self.damaged(TeacherLogLayout.topCount, "more samples than were drawn")
        }
        samples.append((id, counts[index]))
      }
      var rank = 0, isFirst = true
      for _ in 0..<left {
        guard let upper = Self.number(&high), nibble / 2 < low.count else {
          throw Self.damaged(TeacherLogLayout.tailHigh, "an end before the last sample")
        }
        let gap = upper << 4 | Int(low[nibble / 2] >> UInt8(nibble % 2 * 4) & 15)
        nibble += 1
        rank += gap
        if gap == 0, !isFirst {
          samples[samples.count - 1].count += 1
        } else {
          samples.append((try id(rank, TeacherLogLayout.tailHigh), 1))
        }
        isFirst = false
      }
      samples.sort { $0.id < $1.id }
      for (index, sample) in samples.enumerated() {
        guard index == 0 || samples[index - 1].id < sample.id else {
          throw Self.damaged(TeacherLogLayout.tailHigh, "a sample that is in the list")
        }
        window.sampleTokens.append(sample.id)
        window.sampleCounts.append(Float(sample.count))
      }
      window.sampleOffsets[row + 1] = window.sampleTokens.count
    }
    guard high.isEmpty, (nibble + 1) / 2 == low.count else {
      throw Self.damaged(TeacherLogLayout.tailHigh, "bytes behind the last sample")
    }
  }

  /// The next LEB128 number, at most 2^28; nil when there is none.
  private static func number(_ bytes: inout ArraySlice<UInt8>) -> Int? {
    var value = 0
    for shift in stride(from: 0, through: 21, by: 7) {
      guard let byte = bytes.popFirst() else { return nil }
      value |= Int(byte & 127) << shift
      if byte < 128 { return value }
    }
    return nil
  }

  /// The nats of a step.
  private func value(_ step: Int, _ column: String) throws(Failure) -> Float {
    guard step < nats.count else { throw Self.damaged(column, "step \(step) of \(nats.count)") }
    return nats[step]
  }

  private func id(_ rank: Int, _ column: String) throws(Failure) -> Int32 {
    guard rank < ids.count else {
      throw Self.damaged(column, "rank \(rank) of \(ids.count)")
    }
    return ids[rank]
  }

  private func ranks(_ columns: [String: [UInt8]], _ name: String, count: Int) -> [Int] {
    var ranks = numbers(columns, name, bytes: 2)
    if hasHighBits, let high = columns[name + TeacherLogLayout.highSuffix] {
      for index in ranks.indices { ranks[index] |= Int(high[index]) << 16 }
    }
    return ranks
  }

  /// Little-endian numbers of one or two bytes.
  private func numbers(_ columns: [String: [UInt8]], _ name: String, bytes size: Int) -> [Int] {
    let bytes = columns[name, default: []]
    if size == 1 { return bytes.map { Int($0) } }
    return (0..<bytes.count / 2).map { Int(bytes[2 * $0]) | Int(bytes[2 * $0 + 1]) << 8 }
  }

  private func floats(
    _ columns: [String: [UInt8]], _ name: String
  ) throws(Failure) -> [Float] {
    let halves = numbers(columns, name, bytes: 2)
    let values = (0..<halves.count / 2).map {
      Float(bitPattern: UInt32(halves[2 * $0]) | UInt32(halves[2 * $0 + 1]) << 16)
    }
    guard values.allSatisfy(\.isFinite) else {
      throw Self.damaged(name, "numbers that are infinite or NaN")
    }
    return values
  }
}

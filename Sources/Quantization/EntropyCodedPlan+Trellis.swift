// When columns go along a trellis, and how they do when rows of one segment belong to groups with factors of their own.
//
// Given    128 consecutive rows, and which of them belong to which group
// Result   column by column: errors are pushed on with each group's factor; the path goes through all rows in order
// Differs  inside, a group's rows stand together, so that a push is still one vector
// Checked  EntropyCodedGPTQTests: the recurrence in Double, each row with its own factor

import Encodings
import LinearAlgebra
import Tensors

extension EntropyCodedGPTQ {
  /// A trellis starts with few choices, so that it needs some rows; and its codes are to fit into a byte when decoded.
  private static let trellisRows = 32
  private static let trellisBits = 6.5
  /// Rows without bits between rows with many would have to take odd codes: bits per octave by which steps of rows spread.
  private static let trellisSpread = 0.6

  /// Whether columns go along a trellis.
  func usesTrellis(_ weight: Matrix, _ rowExponents: [Int]) -> Bool {
    let octaves = rowExponents.map { Double($0) / 8 }
    let mean = Self.mean(rowExponents) / 8
    let square = octaves.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) }
    let spread = (square / Double(max(1, octaves.count))).squareRoot()
    return !keepsZeros && weight.rows >= Self.trellisRows && expectedBits <= Self.trellisBits
      && expectedBits >= Self.trellisSpread * spread
  }
}

extension EntropyCodedGPTQ.Plan {
  /// Rows of a group within a segment, and where they stand in it.
  private struct Part {
    let group: EntropyCodedGPTQ.RowGroup
    /// Counted within the group.
    let own: Range<Int>
    /// Counted within the segment, its groups one after the other.
    let places: Range<Int>
  }

  /// The parts of a segment.
  private func parts(of segment: Range<Int>) -> [Part] {
    var parts: [Part] = []
    var place = 0
    for group in groups {
      let first = group.rows.firstIndex { $0 >= segment.lowerBound } ?? group.rows.count
      let end = group.rows.firstIndex { $0 >= segment.upperBound } ?? group.rows.count
      guard first < end else { continue }
      parts.append(Part(group: group, own: first..<end, places: place..<place + end - first))
      place += end - first
    }
    return parts
  }

  /// Codes `[rows, columns]` and scales of a segment.
  func roundAlongTrellis(
    _ segment: Range<Int>, steps: [Float]
  ) -> (codes: [Int32], scales: [Int]) {
    let rows = segment.count, columns = weight.columns
    let parts = parts(of: segment)
    /// The row, counted within the segment, at each place.
    let order = parts.flatMap { part in part.own.map { part.group.rows[$0] - segment.lowerBound } }
    let rowSteps = order.map {
      Float(IntegerCodes.power(eighths: rowExponents[segment.lowerBound + $0]))
    }
    var w = [Float](repeating: 0, count: columns * rows)
    for part in parts {
      for (row, place) in zip(part.own, part.places) {
        let inverse = 1 / rowSteps[place]
        for column in 0..<columns {
          w[column * rows + place] = part.group.target[row * columns + column] * inverse
        }
      }
    }
    var codes = [Int32](repeating: 0, count: columns * rows)
    var aim = [Float](repeating: 0, count: rows), left = aim
    var path = [Int32](repeating: 0, count: rows)
    ErrorFeedback.run(
      w, rows: rows, columns: columns, parts: parts.map { ($0.places, $0.group.factor) },
      blockSize: blockSize
    ) { column, values, errors in
      for place in 0..<rows { aim[order[place]] = values[place] }
      var pathSpan = path.mutableSpan, leftSpan = left.mutableSpan
      Trellis.round(
        aim.span, step: steps[column], divisor: 1, codes: &pathSpan, errors: &leftSpan)
      for part in parts {
        let inverse = 1 / part.group.factor[column * columns + column]
        for place in part.places { errors[place] = left[order[place]] * inverse }
      }
      guard !isDead[column] else { return }
      for place in 0..<rows { codes[place * columns + column] = path[order[place]] }
    }
    var turned = [Int32](repeating: 0, count: rows * columns)
    var scales = [Int](repeating: 0, count: rows)
    for part in parts {
      var own = Array(
        codes[part.places.lowerBound * columns..<part.places.upperBound * columns])
      let ownScales = refine(
        &own, part.group, part.own, steps: steps, rowSteps: Array(rowSteps[part.places]))
      for (index, place) in part.places.enumerated() {
        let row = order[place]
        scales[row] = ownScales[index]
        turned.replaceSubrange(
          row * columns..<(row + 1) * columns, with: own[index * columns..<(index + 1) * columns])
      }
    }
    return (turned, scales)
  }

  /// Codes and scales of all rows, group by group inside of each segment.
  func roundGroupsAlongTrellis(steps: [Float]) -> (codes: [Int32], scales: [Int]) {
    let rows = weight.rows
    let segments = ParallelLoop.map((rows + Self.rowsAtOnce - 1) / Self.rowsAtOnce) { index in
      let start = index * Self.rowsAtOnce
      return roundAlongTrellis(start..<min(start + Self.rowsAtOnce, rows), steps: steps)
    }
    return (segments.flatMap(\.codes), segments.flatMap(\.scales))
  }
}

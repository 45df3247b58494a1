// Chooses the classes of rows and columns: a code's spread is the product of its row's and its column's.

import Tensors

/// What the encoder found out about a matrix of codes.
struct SpreadClasses {
  /// Half the degrees of freedom.
  var half: Int
  /// A column's class is `constant − step exponent + columns[c] << columnShift`.
  var constant: Int
  var columns: [Int]
  var columnShift: Int
  /// A row adds `rows[r] << rowShift − row exponent`.
  var rows: [Int]
  var rowShift: Int

  /// The class of each column, for a row of class 0.
  func columnClasses(exponents: [Int]) -> [Int] {
    zip(columns, exponents).map { constant - $1 + $0 << columnShift }
  }

  /// The class of each row.
  func rowClasses(exponents: [Int]) -> [Int] { zip(rows, exponents).map { $0 << rowShift - $1 } }

  /// Families that are tried: half the degrees of freedom.
  static let families = [2, 3, 5, 8, 32]
  /// Samples of a row or column that its class is chosen by.
  static let samples = 1024
  /// Below this many samples, a class of 1/8 octave costs more to store than it saves.
  static let fineSamples = 400
}

/// Codes as sizes 0...255 and their costs under each class.
private struct Sample {
  /// `[lines, length]`: rows or columns of sizes.
  let sizes: [UInt8]
  let lines: Int
  let length: Int

  /// Bits of a line whose class is `own`, given the classes of the other direction.
  func cost(_ line: Int, own: Int, others: [Int], costs: [Float]) -> Float {
    let sizes = sizes.span.extracting(line * length..<(line + 1) * length)
    let others = others.span, costs = costs.span
    var sum: Float = 0
    for i in sizes.indices {
      let spread = min(max(own + others[i], 0), SpreadTables.classes - 1)
      sum += costs[spread * (SpreadTables.largestCost + 1) + Int(sizes[i])]
    }
    return sum
  }

  /// The best number near `start`, where a line's class is `base + number << shift`, and its bits. A step
  /// further from 0 has to save a bit, which is about what it costs.
  func descend(
    _ line: Int, base: Int, start: Int, shift: Int, others: [Int], costs: [Float]
  ) -> (number: Int, bits: Float) {
    func bits(_ number: Int) -> Float {
      cost(line, own: base + number << shift, others: others, costs: costs)
        + 0.5 * Float(abs(number))
    }
    var best = start
    var least = bits(best)
    for direction in [1, -1] {
      var found = false
      while abs(best) < 200 {
        let next = bits(best + direction)
        guard next < least - 1e-3 else { break }
        best += direction
        least = next
        found = true
      }
      if found { break }
    }
    return (best, least)
  }
}

extension SpreadClasses {
  /// The classes for codes with steps base · 2^((exponents + rowExponents) / 8).
  ///
  /// - Parameter known: The classes of nearly the same codes, to begin with: they take one look instead of many.
  init(_ matrix: IntegerCodes, like known: SpreadClasses? = nil) {
    let codes = matrix.codes, outputs = matrix.outputs, inputs = matrix.inputs
    let exponents = matrix.exponents, rowExponents = matrix.rowExponents
    let rowStride = (outputs + Self.samples - 1) / Self.samples
    let columnStride = (inputs + Self.samples - 1) / Self.samples
    let sampledRows = Array(stride(from: 0, to: outputs, by: max(1, rowStride)))
    let sampledColumns = Array(stride(from: 0, to: inputs, by: max(1, columnStride)))
    func sizes(
      _ lines: Int, _ length: Int, _ index: (Int, Int) -> Int
    ) -> Sample {
      var sizes = [UInt8](repeating: 0, count: lines * length)
      ParallelLoop.parts(of: &sizes, count: lines, range: { $0 * length..<($0 + 1) * length }) {
        line, target in
        for i in 0..<length {
          target[i] = UInt8(min(codes[index(line, i)].magnitude, UInt32(SpreadTables.largestCost)))
        }
      }
      return Sample(sizes: sizes, lines: lines, length: length)
    }
    let byColumn = sizes(inputs, sampledRows.count) { sampledRows[$1] * inputs + $0 }
    let byRow = sizes(outputs, sampledColumns.count) { $0 * inputs + sampledColumns[$1] }
    columnShift = sampledRows.count < Self.fineSamples ? 1 : 0
    rowShift = sampledColumns.count < Self.fineSamples ? 1 : 0
    half = Self.families[0]
    constant = 64
    columns = [Int](repeating: 0, count: inputs)
    rows = [Int](repeating: 0, count: outputs)
    guard outputs > 0, inputs > 0 else { return }
    let families = matrix.isTrellis ? SpreadTables.trellisCosts : SpreadTables.costs
    if let known, known.rows.count == outputs, known.columns.count == inputs,
      let family = Self.families.firstIndex(of: known.half)
    {
      self = known
      fitColumns(byColumn, sampledRows, exponents, rowExponents, families[family])
      _ = fitRows(byRow, sampledColumns, exponents, rowExponents, families[family])
      center()
      return
    }

    // Where the search starts: the class whose second moment is the column's.
    let starts = (0..<inputs).map { column -> Int in
      var sum = 0
      for i in column * byColumn.length..<(column + 1) * byColumn.length {
        sum += Int(byColumn.sizes[i]) * Int(byColumn.sizes[i])
      }
      // Classes count in steps of k, which is half a trellis's code.
      let square = Double(sum) / Double(byColumn.length) / (matrix.isTrellis ? 4 : 1)
      var spread = 40
      while spread < 127, SpreadTables.power(eighths: 2 * (spread - 64)) < square { spread += 1 }
      return spread
    }
    constant = zip(starts, exponents).map { $0 + $1 }.sorted()[inputs / 2]
    for column in 0..<inputs {
      columns[column] = (starts[column] - constant + exponents[column]) >> columnShift
    }
    var best: (bits: Float, classes: SpreadClasses)?
    for (half, costs) in zip(Self.families, families) {
      var candidate = best?.classes ?? self
      candidate.half = half
      var total: Float = 0
      for _ in 0..<(best == nil ? 3 : 1) {
        candidate.fitColumns(byColumn, sampledRows, exponents, rowExponents, costs)
        total = candidate.fitRows(byRow, sampledColumns, exponents, rowExponents, costs)
      }
      if let best, best.bits <= total { continue }
      best = (total, candidate)
    }
    if let best { self = best.classes }
    center()
  }

  /// A mean other than 0 costs bits.
  private mutating func center() {
    let middle = rows.sorted()[rows.count / 2]
    for row in rows.indices { rows[row] -= middle }
    constant += middle << rowShift
    let columnMiddle = columns.sorted()[columns.count / 2]
    for column in columns.indices { columns[column] -= columnMiddle }
    constant += columnMiddle << columnShift
  }

  private mutating func fitColumns(
    _ sample: Sample, _ sampledRows: [Int], _ exponents: [Int], _ rowExponents: [Int],
    _ costs: [Float]
  ) {
    let others = sampledRows.map { rows[$0] << rowShift - rowExponents[$0] }
    let old = columns, constant = constant, shift = columnShift
    columns = ParallelLoop.map(sample.lines) { column in
      sample.descend(
        column, base: constant - exponents[column], start: old[column], shift: shift,
        others: others, costs: costs
      ).number
    }
  }

  /// Returns the bits of the sampled codes.
  private mutating func fitRows(
    _ sample: Sample, _ sampledColumns: [Int], _ exponents: [Int], _ rowExponents: [Int],
    _ costs: [Float]
  ) -> Float {
    let all = columnClasses(exponents: exponents)
    let others = sampledColumns.map { all[$0] }
    let old = rows, shift = rowShift
    let found = ParallelLoop.map(sample.lines) { row in
      sample.descend(
        row, base: -rowExponents[row], start: old[row], shift: shift, others: others, costs: costs)
    }
    rows = found.map(\.number)
    return found.reduce(0) { $0 + $1.bits }
  }
}

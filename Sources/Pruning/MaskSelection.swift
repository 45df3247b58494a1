// Which weights go, given what each is worth: the least of a whole, of each row, of each N:M group, or whole blocks.
//
// Given    worth [outputs, inputs], finite, at least 0; a weight that is zero already is worth -1, so that it goes first
// Result   exactly the asked number of places; equal worth goes by place, first place first
// Cost     a few passes over the values (radix selection); N:M sorts each group
// Checked  MaskSelectionTests: equals sorting, for every pattern

import Encodings
import Tensors

/// Among which weights the least are looked for.
enum SelectionScope {
  /// All weights of the matrix.
  case matrix
  /// Each row by itself; rows share the zeros to within one.
  case row
}

/// Chooses the weights that go.
enum MaskSelection {
  /// The worth of a weight that is zero already.
  static let ofZero: Float = -1

  /// Whether each weight goes, row-major.
  ///
  /// - Parameter worth: `[outputs, inputs]`; of blocks, the sum counts.
  static func removed(_ worth: Matrix, goal: SparsityGoal, scope: SelectionScope) -> [Bool] {
    switch goal.pattern {
    case .unstructured:
      return removed(worth.values, columns: worth.columns, count: goal.zeros, scope: scope)
    case .groups(let kept, let size):
      var result = [Bool](repeating: false, count: worth.values.count)
      ParallelLoop.parts(
        of: &result, count: worth.rows, range: { worth.range(ofRow: $0) }
      ) { row, part in
        let own = worth.values.span.extracting(worth.range(ofRow: row))
        for start in stride(from: 0, to: own.count, by: size) {
          // The least of what is left, one by one: groups are short.
          for _ in 0..<size - kept {
            var least = -1
            for index in start..<start + size
            where !part[index] && (least < 0 || own[index] < own[least]) { least = index }
            part[least] = true
          }
        }
      }
      return result
    case .blocks(let size):
      var sums = [Float](repeating: 0, count: worth.values.count / size)
      for index in sums.indices {
        // A block of zeros alone is a zero; beside other weights, a zero adds nothing.
        let block = worth.values[index * size..<(index + 1) * size]
        sums[index] =
          block.contains { $0 >= 0 } ? block.reduce(0) { $0 + max($1, 0) } : ofZero
      }
      let blocks = removed(
        sums, columns: worth.columns / size, count: goal.zeros / size, scope: scope)
      return blocks.flatMap { [Bool](repeating: $0, count: size) }
    }
  }

  private static func removed(
    _ worth: [Float], columns: Int, count: Int, scope: SelectionScope
  ) -> [Bool] {
    guard scope == .row, columns > 0 else { return removed(worth[...], count: count) }
    let rows = worth.count / columns
    let parts = ParallelLoop.map(rows) { row in
      removed(
        worth[row * columns..<(row + 1) * columns],
        count: (row + 1) * count / rows - row * count / rows)
    }
    return parts.flatMap { $0 }
  }

  /// Whether each value is among the `count` smallest.
  static func removed(_ worth: ArraySlice<Float>, count: Int) -> [Bool] {
    precondition((0...worth.count).contains(count))
    let keys = worth.map(key)
    var (limit, equal) = threshold(keys, count: count)
    return keys.map { key in
      if key < limit { return true }
      guard key == limit, equal > 0 else { return false }
      equal -= 1
      return true
    }
  }

  /// Indices of the `count` smallest values of a short slice.
  static func smallest(_ count: Int, of worth: ArraySlice<Float>) -> ArraySlice<Int> {
    worth.indices.sorted { (worth[$0], $0) < (worth[$1], $1) }.prefix(count)
  }

  /// Order-preserving: of floats that are at least 0 the bits are in order (−0 + 0 is 0), and those below come first.
  private static func key(_ worth: Float) -> UInt32 { worth < 0 ? 0 : (worth + 0).bitPattern + 1 }

  /// The key up to which keys are taken, and how many of those that equal it.
  private static func threshold(_ keys: [UInt32], count: Int) -> (limit: UInt32, equal: Int) {
    guard count > 0 else { return (0, 0) }
    var prefix: UInt32 = 0
    var left = count
    // Digits of 8 bits from the highest: the digit in which the count-th smallest key lies.
    for shift in [24, 16, 8, 0] as [UInt32] {
      var histogram = [Int](repeating: 0, count: 256)
      let mask: UInt32 = shift == 24 ? 0 : ~0 << (shift + 8)
      for key in keys where key & mask == prefix { histogram[Int((key >> shift) & 255)] += 1 }
      var digit = 0
      while histogram[digit] < left {
        left -= histogram[digit]
        digit += 1
      }
      prefix |= UInt32(digit) << shift
    }
    return (prefix, left)
  }
}

extension Matrix {
  /// This matrix with zeros where weights go.
  func without(_ removed: [Bool]) -> Matrix {
    var result = self
    for index in removed.indices where removed[index] { result.values[index] = 0 }
    return result
  }

  /// A power of two that brings the largest value near 1, so that squares of tiny weights stay apart.
  var squareScale: Float {
    let largest = values.reduce(0) { max($0, abs($1)) }
    guard largest > 0, largest.isFinite else { return 1 }
    return Float(
      sign: .plus, exponent: -min(max(Int(largest.exponent), -120), 120), significand: 1)
  }
}

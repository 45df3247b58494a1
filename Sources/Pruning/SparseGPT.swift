// SparseGPT: go through the columns, remove the weights that later ones can make up for best, and let them.
//
// Source   Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", ICML 2023,
//          arXiv:2301.00774, Algorithm 1, with adaptive masks (section 3.2) and N:M (section 3.3)
// Given    W [outputs, inputs]; H = mean of x x^T [inputs, inputs]; U of the damped H, (H + damping I)^-1 = U^T U
// Result   zeros for the least w^2 / U_jj^2 of each block of columns, all outputs together, or of each N:M group when
//          its turn comes; what stays greedily minimises ||(W - Q) X||
// Cost     outputs * inputs^2 multiply-adds through BLAS, 2/3 inputs^3 for the factor
// Differs  with statistics of the original model's inputs the target is `driftCorrected`; a weight that was zero stays
//          zero whatever is pushed onto it; blocks of a row go by the sum over their columns
// Checked  SparseGPTTests: equals column-by-column optimal brain surgery with explicit inverses in Double

import Encodings
public import LinearAlgebra
public import Tensors

/// SparseGPT and its options.
public struct SparseGPT: WeightPruner, Equatable {
  /// This share of H's mean diagonal is added to the diagonal.
  public let damping: Double
  /// Columns whose masks are chosen together; rounded up to whole groups of the pattern.
  public let blockSize: Int

  /// SparseGPT with its options.
  public init(damping: Double = 0.01, blockSize: Int = 128) {
    precondition(damping >= 0 && blockSize > 0)
    self.damping = damping
    self.blockSize = blockSize
  }

  /// `sparsegpt`.
  public static let method = PruningMethod.sparsegpt

  /// Prunes with error feedback.
  public func prune(
    _ weight: Matrix, statistics: InputStatistics, goal: SparsityGoal
  ) throws(PruningError) -> PrunedWeight {
    try check(weight, statistics, goal)
    guard let moment = statistics.moment else {
      throw .needsStatistics(method: Self.method.rawValue)
    }
    let factor = try feedbackFactor(of: moment, damping: damping)
    let target = try correctedTarget(weight, statistics, factor)
    let pruned = Self.run(
      target, fixed: weight.values.map { $0 == 0 }, goal, factor: factor.values,
      blockSize: blockSize)
    return PrunedWeight(
      pruned, of: weight, .moment(moment), method: Self.method, fallbacks: factor.fallbacks)
  }

  /// Algorithm 1.
  ///
  /// - Parameter fixed: What is zero and stays so, row-major.
  static func run(
    _ weight: Matrix, fixed: [Bool], _ goal: SparsityGoal, factor: [Float], blockSize: Int
  ) -> Matrix {
    let columns = weight.columns, multiple = goal.pattern.columnMultiple
    let size = (blockSize + multiple - 1) / multiple * multiple
    var tiles = PruningTiles(weight, fixed: fixed)
    let blocks = stride(from: 0, to: columns, by: size).map { $0..<min($0 + size, columns) }
    if case .groups(let kept, let group) = goal.pattern {
      tiles.run(blocks, factor: factor, groups: (group - kept, group))
    } else {
      var removed = 0
      for block in blocks {
        // What is reached at the end is the goal, to the weight, unless more was zero before.
        let due = goal.share(of: block.upperBound, columns: columns)
        removed += tiles.choose(
          max(0, due - removed), in: block, factor: factor, blockOf: multiple)
        tiles.run(block, factor: factor)
      }
    }
    return tiles.matrix
  }
}

extension SparsityGoal {
  /// Zeros that the first columns get, in whole blocks: all of them at the last column.
  fileprivate func share(of column: Int, columns: Int) -> Int {
    let multiple = pattern.columnMultiple
    let share = Double(zeros / multiple) * Double(column) / Double(columns)
    return column == columns ? zeros : Int(share.rounded()) * multiple
  }
}

/// U of the damped H, columns in their own order.
func feedbackFactor(
  of moment: DoubleMatrix, damping: Double
) throws(PruningError) -> FeedbackFactor {
  do throws(FeedbackFactor.Singular) {
    return try FeedbackFactor(of: moment, order: Array(0..<moment.size), damping: damping)
  } catch {
    throw .singular(damping: error.damping)
  }
}

/// What is to be approximated: with statistics of the original model's inputs, the weights that best give its outputs.
func correctedTarget(
  _ weight: Matrix, _ statistics: InputStatistics, _ factor: FeedbackFactor
) throws(PruningError) -> Matrix {
  guard let moment = statistics.moment, let cross = statistics.cross else { return weight }
  let target = driftCorrected(
    weight, moment: moment, cross: cross, factor: factor.values,
    order: Array(0..<weight.columns))
  guard countNotFinite(target.values.span) == 0 else { throw .badStatistics }
  return target
}

/// A matrix in tiles of rows, each column-major, with what is removed of it.
private struct PruningTiles {
  /// Rows of a tile: a column of them is one vector.
  private static let rowsAtOnce = 128

  private let rows: Int
  private let columns: Int
  /// Tile by tile, `[columns, rows of the tile]`: weights with the errors that were pushed onto them.
  private var w: [Float]
  /// The same places: zero from the beginning.
  private let fixed: [Bool]
  /// The same places: removed.
  private var removed: [Bool]

  private var count: Int { (rows + Self.rowsAtOnce - 1) / Self.rowsAtOnce }

  private func rows(of tile: Int) -> Range<Int> {
    tile * Self.rowsAtOnce..<min((tile + 1) * Self.rowsAtOnce, rows)
  }

  private func range(of tile: Int) -> Range<Int> {
    rows(of: tile).lowerBound * columns..<rows(of: tile).upperBound * columns
  }

  init(_ weight: Matrix, fixed: [Bool]) {
    rows = weight.rows
    columns = weight.columns
    var w = weight.values
    var places = fixed
    for tile in 0..<((weight.rows + Self.rowsAtOnce - 1) / Self.rowsAtOnce) {
      let first = tile * Self.rowsAtOnce
      let height = min(Self.rowsAtOnce, weight.rows - first)
      for row in 0..<height {
        for column in 0..<weight.columns {
          let place = first * weight.columns + column * height + row
          w[place] = weight.values[(first + row) * weight.columns + column]
          places[place] = fixed[(first + row) * weight.columns + column]
        }
      }
    }
    self.w = w
    self.fixed = places
    removed = places
  }

  /// The rows, zero where weights were removed.
  var matrix: Matrix {
    var result = Matrix(rows: rows, columns: columns)
    for tile in 0..<count {
      let own = rows(of: tile), start = range(of: tile).lowerBound
      for (index, row) in own.enumerated() {
        for column in 0..<columns {
          let place = start + column * own.count + index
          result.values[row * columns + column] = removed[place] ? 0 : w[place]
        }
      }
    }
    return result
  }

  /// Chooses what goes of a block of columns; returns how many are zero in it then.
  mutating func choose(
    _ wanted: Int, in block: Range<Int>, factor: [Float], blockOf size: Int
  ) -> Int {
    var worth: [Float] = []
    for tile in 0..<count {
      let height = rows(of: tile).count, start = range(of: tile).lowerBound
      for column in stride(from: block.lowerBound, to: block.upperBound, by: size) {
        for row in 0..<height {
          var sum: Float = 0, isZero = true
          for own in column..<column + size {
            let place = start + own * height + row
            guard !fixed[place] else { continue }
            isZero = false
            let error = w[place] / factor[own * columns + own]
            sum += error * error
          }
          worth.append(isZero ? MaskSelection.ofZero : sum)
        }
      }
    }
    let count = min(worth.count, wanted / size)
    let goes = MaskSelection.removed(worth[...], count: count)
    var index = 0, zeros = 0
    for tile in 0..<self.count {
      let height = rows(of: tile).count, start = range(of: tile).lowerBound
      for column in stride(from: block.lowerBound, to: block.upperBound, by: size) {
        for row in 0..<height {
          for own in column..<column + size {
            let place = start + own * height + row
            if goes[index] { removed[place] = true }
            if removed[place] { zeros += 1 }
          }
          index += 1
        }
      }
    }
    return zeros
  }

  /// Goes through a block of columns with feedback; what is removed is chosen.
  mutating func run(_ block: Range<Int>, factor: [Float]) {
    let columns = columns, removed = removed
    let tiles = (0..<count).map { (range: range(of: $0), height: rows(of: $0).count) }
    ParallelLoop.parts(of: &w, count: count, range: { tiles[$0].range }) { tile, part in
      let (range, height) = tiles[tile]
      let mask = removed[range]
      var errors = [Float](repeating: 0, count: block.count * height)
      ErrorFeedback.block(
        block, of: &part, rows: height, columns: columns, parts: [(0..<height, factor)],
        errors: &errors
      ) { column, rest, errors in
        Self.remove(column, rest, height, columns, factor, mask, errors: &errors)
      }
    }
  }

  /// Goes through all blocks; what goes of each group is chosen when its turn comes.
  mutating func run(
    _ blocks: [Range<Int>], factor: [Float], groups: (removed: Int, of: Int)
  ) {
    let longest = blocks.map(\.count).max() ?? 0
    let parts = ParallelLoop.map(count) { tile -> (w: [Float], removed: [Bool]) in
      let range = range(of: tile), height = rows(of: tile).count
      var part = Array(w[range]), mask = removed[range]
      var span = part.mutableSpan
      var errors = [Float](repeating: 0, count: longest * height)
      for block in blocks {
        ErrorFeedback.block(
          block, of: &span, rows: height, columns: columns, parts: [(0..<height, factor)],
          errors: &errors
        ) { column, rest, errors in
          if column % groups.of == 0 {
            Self.choose(
              groups, at: column, rest, height, columns, factor: factor, fixed: fixed[range],
              mask: &mask)
          }
          Self.remove(column, rest, height, columns, factor, mask, errors: &errors)
        }
      }
      return (part, Array(mask))
    }
    w = parts.flatMap { $0.w }
    removed = parts.flatMap { $0.removed }
  }

  /// The errors of one column: all of what is removed, nothing of what stays.
  private static func remove(
    _ column: Int, _ rest: Span<Float>, _ height: Int, _ columns: Int, _ factor: [Float],
    _ mask: ArraySlice<Bool>, errors: inout MutableSpan<Float>
  ) {
    let inverse = 1 / factor[column * columns + column]
    let start = mask.startIndex + column * height
    for row in 0..<height { errors[row] = mask[start + row] ? rest[row] * inverse : 0 }
  }

  /// Removes the least w² / U_jj² of each row's group.
  private static func choose(
    _ groups: (removed: Int, of: Int), at column: Int, _ rest: Span<Float>, _ height: Int,
    _ columns: Int, factor: [Float], fixed: ArraySlice<Bool>, mask: inout ArraySlice<Bool>
  ) {
    let size = groups.of
    var worth = [Float](repeating: 0, count: size)
    for row in 0..<height {
      for index in 0..<size {
        let own = column + index
        let error = rest[index * height + row] / factor[own * columns + own]
        worth[index] =
          fixed[fixed.startIndex + own * height + row] ? MaskSelection.ofZero : error * error
      }
      for index in MaskSelection.smallest(groups.removed, of: worth[...]) {
        mask[mask.startIndex + (column + index) * height + row] = true
      }
    }
  }
}

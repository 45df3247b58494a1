// The recurrence that GPTQ, SparseGPT and their descendants share: change a column, push its error onto the columns
// after it.
//
// Source   Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, Algorithm 1; lazy blocks, section 3.4
// Checked  GPTQTests, EntropyCodedGPTQTests, SparseGPTTests: each against the unblocked recurrence in Double

import Tensors

/// Changes with feedback on a tile of rows, column-major so that a column of all rows is one vector.
public enum ErrorFeedback {
  /// Goes through the columns.
  ///
  /// - Parameters:
  ///   - w: `[columns, rows]`: the weights; each column carries the errors pushed onto it when its turn comes.
  ///   - factor: `[columns, columns]`, U of the damped H.
  ///   - round: Rounds a column and leaves (w − q) / U_jj in `errors`.
  public static func run(
    _ w: consuming [Float], rows: Int, columns: Int, factor u: [Float], blockSize: Int,
    round: (_ column: Int, _ values: Span<Float>, _ errors: inout MutableSpan<Float>) -> Void
  ) {
    run(
      w, rows: rows, columns: columns, parts: [(0..<rows, u)], blockSize: blockSize, round: round)
  }

  /// The same for rows of which each part has a factor of its own.
  public static func run(
    _ w: consuming [Float], rows: Int, columns: Int, parts: [(rows: Range<Int>, factor: [Float])],
    blockSize: Int,
    round: (_ column: Int, _ values: Span<Float>, _ errors: inout MutableSpan<Float>) -> Void
  ) {
    var w = w
    var span = w.mutableSpan
    var errors = [Float](repeating: 0, count: blockSize * rows)
    for start in stride(from: 0, to: columns, by: blockSize) {
      block(
        start..<min(start + blockSize, columns), of: &span, rows: rows, columns: columns,
        parts: parts, errors: &errors
      ) { column, rest, errors in round(column, rest.extracting(0..<rows), &errors) }
    }
  }

  /// One block of columns, and what follows from it for all later ones.
  ///
  /// - Parameters:
  ///   - block: The columns to go through.
  ///   - w: `[columns, rows]`, changed from `block.lowerBound` on.
  ///   - parts: Rows and their factor `[columns, columns]`.
  ///   - errors: Room for `block.count * rows` values.
  ///   - change: Leaves (w − q) / U_jj of a column in its last argument; `rest` holds the column and, behind it, all
  ///     later ones, `[columns − column, rows]`, of which those of the block carry all errors so far.
  public static func block(
    _ block: Range<Int>, of w: inout MutableSpan<Float>, rows: Int, columns: Int,
    parts: [(rows: Range<Int>, factor: [Float])], errors: inout [Float],
    change: (_ column: Int, _ rest: Span<Float>, _ errors: inout MutableSpan<Float>) -> Void
  ) {
    let start = block.lowerBound, end = block.upperBound
    for column in block {
      let errorRange = (column - start) * rows..<(column - start + 1) * rows
      var errorSpan = errors.mutableSpan
      var columnErrors = errorSpan._mutatingExtracting(errorRange)
      change(column, w.span.extracting(column * rows..<columns * rows), &columnErrors)
      // W[:, j] -= e U[i, j] within the block, at once.
      let error = errors.span.extracting(errorRange)
      for (part, u) in parts {
        let own = error.extracting(part)
        for j in column + 1..<max(end, column + 1) {
          var target = w._mutatingExtracting(
            j * rows + part.lowerBound..<j * rows + part.upperBound)
          RowKernels.add(-u[column * columns + j], times: own, to: &target)
        }
      }
    }
    guard end < columns else { return }
    // W[:, rest] -= E U[block, rest], through BLAS.
    for (part, u) in parts {
      var rest = w._mutatingExtracting(end * rows + part.lowerBound..<columns * rows)
      BLAS.addProduct(
        scale: -1, u.span.extracting(start * columns + end..<columns * columns), transposed: true,
        aStride: columns, errors.span.extracting(part.lowerBound..<errors.count), bStride: rows,
        to: &rest, cStride: rows, rows: columns - end, columns: part.count, depth: end - start)
    }
  }
}

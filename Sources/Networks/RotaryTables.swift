// The rotation of queries and keys in a batch; the angles' formulas are in RotaryEmbedding.swift.

import Tensors

/// Rotation tables by sequence length, made once for a length.
final class RotaryTables {
  private let rotary: RotaryEmbedding
  private var tables: [Int: RotaryEmbedding.Table] = [:]

  init(_ rotary: RotaryEmbedding) { self.rotary = rotary }

  /// Rotates every head of rows whose positions start at `past` in each sequence.
  func rotate(_ x: inout Matrix, batch: TokenBatch, past: Int) {
    let longest = past + (batch.sequences.map(\.count).max() ?? 0)
    let table = table(length: longest)
    let head = rotary.fullHead
    Self.rotate(&x, batch: batch, past: past, head: head, table)
    guard let record = x.record else { return }
    x.record = GradientRecord(of: [record]) { gradient, _ in
      // The transposed matrix: the same length, the opposite angle.
      var gradient = gradient
      Self.rotate(
        &gradient, batch: batch, past: past, head: head,
        RotaryEmbedding.Table(
          half: table.half, cosines: table.cosines, sines: table.sines.map { -$0 }))
      return [gradient]
    }
  }

  private static func rotate(
    _ x: inout Matrix, batch: TokenBatch, past: Int, head size: Int,
    _ table: RotaryEmbedding.Table
  ) {
    let columns = x.columns, half = table.half
    ParallelLoop.parts(
      of: &x.values, count: batch.sequences.count,
      range: {
        batch.sequences[$0].lowerBound * columns..<batch.sequences[$0].upperBound * columns
      }
    ) { index, part in
      for token in 0..<batch.sequences[index].count {
        let angles = (past + token) * half..<(past + token + 1) * half
        for start in stride(from: token * columns, to: (token + 1) * columns, by: size) {
          var head = part._mutatingExtracting(start..<start + 2 * half)
          RowKernels.rotate(
            &head, cosines: table.cosines.span.extracting(angles),
            sines: table.sines.span.extracting(angles))
        }
      }
    }
  }

  private func table(length: Int) -> RotaryEmbedding.Table {
    // Some scalings change with the length; the others only need more rows, rounded up to few sizes.
    var rounded = length
    if !rotary.dependsOnLength { rounded = (length + 255) / 256 * 256 }
    if let table = tables[rounded] { return table }
    if tables.count > 8 { tables.removeAll() }
    let table = rotary.table(length: rounded)
    tables[rounded] = table
    return table
  }
}

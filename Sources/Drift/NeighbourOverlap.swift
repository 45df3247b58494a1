// How many of a sentence's nearest neighbours stay its nearest neighbours: what a search over embeddings returns.
//
// Source   Wendlandt, Kummerfeld and Mihalcea, "Factors influencing the surprising instability of word embeddings",
//          NAACL 2018, arXiv:1804.09692: percent overlap of the ten nearest neighbours by cosine
// Given    embeddings [sentences, width] of both models, whose widths may differ
// Result   for each sentence the share of the reference's neighbours that are the model's too
// Cost     O(sentences² · width)
// Checked  EmbeddingDriftTests: every pair in Double

import Tensors

/// Overlap of nearest neighbours between two models' embeddings of the same sentences.
public struct NeighbourOverlap: Sendable, Equatable {
  /// Neighbours of a sentence, unless there are fewer other sentences.
  public static let usualCount = 10

  /// Neighbours of a sentence.
  public let count: Int
  /// The mean share of neighbours that both models have in common, 0…1.
  public let mean: Double
  /// Of the mean, by bootstrap over sentences.
  public let interval: ClosedRange<Double>

  init(count: Int, mean: Double, interval: ClosedRange<Double>) {
    self.count = count
    self.mean = mean
    self.interval = interval
  }

  /// Compares two models; nil when there are less than two sentences.
  init?(_ own: Matrix, _ reference: Matrix) {
    precondition(own.rows == reference.rows)
    guard own.rows > 1 else { return nil }
    let count = min(Self.usualCount, own.rows - 1)
    let a = Self.neighbours(own, count: count), b = Self.neighbours(reference, count: count)
    let shares = zip(a, b).map { Double(Set($0).intersection($1).count) / Double(count) }
    self.count = count
    mean = shares.reduce(0, +) / Double(shares.count)
    interval = Bootstrap(windows: shares.count).intervalOfMean(shares)
  }

  /// The nearest other rows of each row by cosine; of equally near ones the first.
  static func neighbours(_ embeddings: Matrix, count: Int) -> [[Int]] {
    var unit = embeddings
    for row in 0..<unit.rows {
      let values = unit.row(row)
      let length = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      guard length > 0 else { continue }
      unit.values.replaceSubrange(
        unit.range(ofRow: row), with: values.map { Float(Double($0) / length) })
    }
    let all = DenseMatrix(unit)
    let block = 256
    var result: [[Int]] = []
    for start in stride(from: 0, to: unit.rows, by: block) {
      let rows = start..<min(start + block, unit.rows)
      let cosines = all.apply(to: unit.rows(rows))
      result += ParallelLoop.map(rows.count) { index in
        nearest(
          cosines.values.span.extracting(cosines.range(ofRow: index)), count, not: start + index)
      }
    }
    return result
  }

  /// The places of the largest values, without one of them.
  private static func nearest(_ values: Span<Float>, _ count: Int, not own: Int) -> [Int] {
    var best: [Int] = []
    for index in values.indices where index != own {
      if best.count == count, values[index] <= values[best[count - 1]] { continue }
      if best.count == count { best.removeLast() }
      var place = best.count
      while place > 0, values[best[place - 1]] < values[index] { place -= 1 }
      best.insert(index, at: place)
    }
    return best
  }
}

import Foundation
import TestSupport
import Tensors
import Testing

@Suite struct DivergenceKernelTests {
  /// A few units of the last place of Double for each term.
  static func allowed(_ count: Int, _ values: [Float]) -> Double {
    let largest = values.map { abs(Double($0)) }.max() ?? 0
    return Double(count + 20) * 0x1p-52 * (1 + largest)
  }

  static func logSoftmax(_ row: [Float]) -> [Double] {
    let largest = row.map { Double($0) }.max() ?? 0
    let logSum = log(row.reduce(0) { $0 + exp(Double($1) - largest) }) + largest
    return row.map { Double($0) - logSum }
  }

  @Test(arguments: kernelLengths.dropFirst()) func rowsAgainstTheDefinition(_ count: Int) {
    var stream = RandomStream(test: "divergence")
    for (deviation, noise) in [(1.0, 0.1), (8, 4), (30, 30), (0, 0)] {
      let reference = stream.floats(count, deviation: deviation)
      let model = reference.map { $0 + Float(stream.normal() * noise) }
      let found = LogitComparison(reference: reference.span, model: model.span)
      let p = Self.logSoftmax(reference), q = Self.logSoftmax(model)
      let divergence = zip(p, q).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
      let allowed = 4 * Self.allowed(count, reference + model)
      #expect(abs(found.divergence - divergence) <= allowed)
      #expect(abs(found.referenceLogSum - (Double(reference[0]) - p[0])) <= allowed)
      #expect(abs(found.modelLogSum - (Double(model[0]) - q[0])) <= allowed)
      #expect(found.referenceArgmax == reference.firstIndex(of: reference.max() ?? 0))
      #expect(found.modelArgmax == model.firstIndex(of: model.max() ?? 0))
      #expect(abs(logSumExp(model.span) - found.modelLogSum) <= allowed)
    }
  }

  @Test func equalRowsDoNotDiverge() {
    var stream = RandomStream(test: "equal rows")
    let row = stream.floats(1000, deviation: 10)
    #expect(LogitComparison(reference: row.span, model: row.span).divergence == 0)
    let shifted = row.map { $0 + 1 }
    #expect(abs(LogitComparison(reference: row.span, model: shifted.span).divergence) < 1e-5)
  }

  @Test func largeLogitsStayFinite() {
    let a: [Float] = [3e38, -3e38], b: [Float] = [-3e38, 3e38]
    let found = LogitComparison(reference: a.span, model: b.span)
    #expect(found.divergence.isFinite && found.divergence > 5e38)
    #expect(logSumExp(a.span) == Double(3e38 as Float))
  }

  @Test(arguments: [0, 1, 57, 99]) func whatIsNoNumberShows(_ position: Int) {
    var row = [Float](repeating: 0.5, count: 100)
    row[position] = .nan
    #expect(logSumExp(row.span).isNaN)
    let good = [Float](repeating: 0.5, count: 100)
    #expect(!LogitComparison(reference: good.span, model: row.span).modelLogSum.isFinite)
    #expect(!LogitComparison(reference: row.span, model: good.span).referenceLogSum.isFinite)
    row[position] = .infinity
    #expect(!logSumExp(row.span).isFinite)
  }
}

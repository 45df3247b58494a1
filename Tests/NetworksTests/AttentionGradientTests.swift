import Foundation
import Tensors
import TestSupport
import Testing

@testable import Networks

/// The backward pass of attention against its definition in Double, with the whole matrix of probabilities.
@Suite struct AttentionGradientTests {
  static let masks: [Attention.Mask] = [.full, .causal(window: nil), .causal(window: 5)]
  /// Query heads, key heads, head size.
  static let shapes = [(4, 2, 8), (3, 1, 34), (2, 2, 5)]

  final class Leaves: GradientObserver {
    var found: [String: Matrix] = [:]
    func wants(_ parameter: String) -> Bool { true }
    func receive(_ parameter: String, _ gradient: ParameterGradient) {
      if case .rows(_, let gradients) = gradient { found[parameter] = gradients }
    }
  }

  /// Gradients of Q, K and V: dV = Pᵀ dO, dS = P ∘ (dP − Σ dP ∘ P), in Double.
  static func definition(
    _ a: Attention, q: Matrix, k: Matrix, v: Matrix, gradient: Matrix, sequences: [Range<Int>]
  ) -> [[Double]] {
    let size = a.headSize
    var dq = [Double](repeating: 0, count: q.values.count)
    var dk = [Double](repeating: 0, count: k.values.count), dv = dk
    for sequence in sequences {
      for head in 0..<a.heads {
        let keyHead = head / (a.heads / a.keyHeads)
        for row in sequence {
          let seen = sequence.filter { key in
            switch a.mask {
            case .full: true
            case .causal(let window): key <= row && key > row - (window ?? Int.max / 2)
            }
          }
          let ofQuery = row * q.columns + head * size
          func ofKey(_ key: Int) -> Int { key * k.columns + keyHead * size }
          func product(_ x: Matrix, _ i: Int, _ y: Matrix, _ j: Int) -> Double {
            (0..<size).reduce(0.0) { $0 + Double(x.values[i + $1]) * Double(y.values[j + $1]) }
          }
          let scores = seen.map { exp(Double(a.scale) * product(q, ofQuery, k, ofKey($0))) }
          let p = scores.map { $0 / scores.reduce(0, +) }
          let dp = seen.map { product(gradient, ofQuery, v, ofKey($0)) }
          let mean = zip(p, dp).reduce(0) { $0 + $1.0 * $1.1 }
          for (index, key) in seen.enumerated() {
            let ds = Double(a.scale) * p[index] * (dp[index] - mean)
            for i in 0..<size {
              dq[ofQuery + i] += ds * Double(k.values[ofKey(key) + i])
              dk[ofKey(key) + i] += ds * Double(q.values[ofQuery + i])
              dv[ofKey(key) + i] += p[index] * Double(gradient.values[ofQuery + i])
            }
          }
        }
      }
    }
    return [dq, dk, dv]
  }

  @Test(arguments: masks, [[1], [3, 70], [130]]) func againstTheDefinition(
    _ mask: Attention.Mask, _ lengths: [Int]
  ) throws {
    for (heads, keyHeads, size) in Self.shapes {
      let attention = Attention(
        heads: heads, keyHeads: keyHeads, headSize: size, mask: mask, scale: 0.4)
      let tape = GradientTape()
      let batch = TokenBatch(lengths.map { [Int32](repeating: 0, count: $0) }, tape: tape)
      let tokens = batch.tokens.count
      var stream = RandomStream(test: "attention \(size)")
      func leaf(_ name: String, _ matrix: Matrix) -> Matrix {
        tape.leaf(matrix) { $1.receive(name, .rows(tokens: [], gradients: $0)) }
      }
      let q = stream.matrix(rows: tokens, columns: heads * size)
      let k = stream.matrix(rows: tokens, columns: keyHeads * size)
      let v = stream.matrix(rows: tokens, columns: keyHeads * size)
      let gradient = stream.matrix(rows: tokens, columns: heads * size)
      let result = attention.apply(
        queries: leaf("q", q), keys: leaf("k", k), values: leaf("v", v), batch: batch, cache: nil)
      let leaves = Leaves()
      GradientRecord.walk(from: result, gradient: gradient, observer: leaves)
      let expected = Self.definition(
        attention, q: q, k: k, v: v, gradient: gradient, sequences: batch.sequences)
      for (name, expected) in zip(["q", "k", "v"], expected) {
        let found = try #require(leaves.found[name])
        let worst = zip(found.values, expected).reduce(0.0) {
          Swift.max($0, abs(Double($1.0) - $1.1))
        }
        let largest = expected.reduce(0) { Swift.max($0, abs($1)) }
        // A thousand roundings of the largest value; float32 sums of up to 130 terms.
        #expect(worst <= 1000 * 0x1p-24 * largest + 1e-6, "\(name) of \(heads) heads")
      }
    }
  }
}

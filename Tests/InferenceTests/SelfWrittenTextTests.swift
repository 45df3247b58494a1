import Foundation
import Networks
import TestSupport
import Testing

@testable import CondenseInference
@testable import Tensors

@Suite struct SelfWrittenTextTests {
  private static func model() throws -> any LanguageModel {
    try Model(path: TestData.root + "checkpoints/quickstart").languageModel()
  }

  /// Several sequences in one cache, token by token: the logits of each sequence alone in one pass.
  @Test func sequencesInStepEqualSequencesAlone() throws {
    let model = try Self.model()
    let sequences: [[Int32]] = [[5, 900, 17, 33, 2048], [7, 7, 7, 1000, 3], [4095, 1, 2, 3, 4]]
    let cache = KeyValueCache(sequences: 3, capacity: 6)
    var worst: Float = 0
    for step in 0..<5 {
      let batch = TokenBatch(sequences.map { [$0[step]] })
      let logits = model.logits(model.hidden(batch, cache: cache))
      for (index, sequence) in sequences.enumerated() {
        let alone = model.logits(model.hidden(TokenBatch([Array(sequence[...step])])))
        for (a, b) in zip(logits.row(index), alone.row(step)) { worst = max(worst, abs(a - b)) }
      }
    }
    #expect(cache.count == 5)
    #expect(worst < 2e-4, "\(worst)")
  }

  /// What is written has the probability that the model gives it: the mean of −log p is the model's own entropy.
  @Test func followsTheModel() throws {
    let model = try Self.model()
    let written = SelfWrittenText.sequences(
      of: model, count: 70, length: 48, avoiding: [0], seed: 3)
    #expect(written.count == 70 && written.allSatisfy { $0.count == 48 && $0[0] != 0 })
    #expect(Set(written.map { $0[0] }).count > 50)
    var loss = 0.0, entropy = 0.0
    for sequence in written {
      let logits = model.logits(model.hidden(TokenBatch([sequence])))
      for row in 0..<47 {
        let values = logits.values.span.extracting(logits.range(ofRow: row))
        let sum = logSumExp(values)
        loss += sum - Double(values[Int(sequence[row + 1])])
        for i in values.indices {
          let log = Double(values[i]) - sum
          entropy -= exp(log) * log
        }
      }
    }
    #expect(abs(loss / entropy - 1) < 0.03, "\(loss) \(entropy)")
    let again = withThreads(1) {
      SelfWrittenText.sequences(of: model, count: 70, length: 48, avoiding: [0], seed: 3)
    }
    #expect(again == written)
  }
}

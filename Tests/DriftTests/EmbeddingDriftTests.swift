import Networks
import Tensors
import TestSupport
import Testing

@testable import Drift

@Suite struct EmbeddingDriftTests {
  static func sentences(_ count: Int) -> [[Int32]] {
    var stream = RandomStream(test: "sentences")
    return (0..<count).map { _ in
      (0..<2 + stream.integer(below: 20)).map { _ in Int32(stream.integer(below: 40)) }
    }
  }

  /// Sorting by length and batching give each sentence the embedding that it has alone.
  @Test func embeddingsKeepTheirOrder() throws {
    let model = try ChangedCheckpoint("bert-mean").encoder()
    let sentences = Self.sentences(300)
    let all = EmbeddingEvaluator.embeddings(sentences, model)
    for (index, sentence) in sentences.enumerated() {
      let alone = model.embeddings(TokenBatch([sentence])).values
      #expect(zip(all.row(index), alone).allSatisfy { abs($0 - $1) < 1e-5 })
    }
    #expect(EmbeddingEvaluator.embeddings([], model).rows == 0)
  }

  @Test func cosinesAndCorrelations() throws {
    let reference = try ChangedCheckpoint("bert-mean").encoder()
    let model = try ChangedCheckpoint.noisy("bert-mean", 0.1).encoder()
    let sentences = Self.sentences(120)
    var stream = RandomStream(test: "labels")
    let pairs = stride(from: 0, to: 120, by: 2).map {
      SentencePair(first: sentences[$0], second: sentences[$0 + 1], score: stream.unit() * 5)
    }
    let found = try EmbeddingEvaluator(sentences: sentences, pairs: pairs)
      .drift(of: model, from: reference)
    func embedding(_ model: any TextEncoder, _ sentence: [Int32]) -> [Double] {
      model.embeddings(TokenBatch([sentence])).values.map { Double($0) }
    }
    func cosine(_ a: [Double], _ b: [Double]) -> Double {
      func product(_ a: [Double], _ b: [Double]) -> Double {
        zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
      }
      return product(a, b) / (product(a, a) * product(b, b)).squareRoot()
    }
    let cosines = sentences.map { cosine(embedding(model, $0), embedding(reference, $0)) }
    let result = try #require(found.cosine)
    #expect(abs(result.mean - cosines.reduce(0, +) / 120) < 1e-5)
    #expect(abs(result.min - (cosines.min() ?? 0)) < 1e-5)
    #expect(abs(result.p01 - percentile(0.01, ofSorted: cosines.sorted())) < 1e-5)
    #expect(result.interval.contains(result.mean) && result.mean < 0.9999)
    // The definition: every other sentence sorted by its cosine.
    func nearest(_ model: any TextEncoder, _ index: Int) -> Set<Int> {
      let own = embedding(model, sentences[index])
      let order = sentences.indices.filter { $0 != index }.map {
        (cosine(own, embedding(model, sentences[$0])), $0)
      }.sorted { ($1.0, $0.1) < ($0.0, $1.1) }
      return Set(order.prefix(10).map(\.1))
    }
    let neighbours = try #require(found.neighbours)
    let shares = stride(from: 0, to: 120, by: 10).map {
      Double(nearest(model, $0).intersection(nearest(reference, $0)).count) / 10
    }
    let some = NeighbourOverlap.neighbours(
      EmbeddingEvaluator.embeddings(sentences, model), count: 10)
    let others = NeighbourOverlap.neighbours(
      EmbeddingEvaluator.embeddings(sentences, reference), count: 10)
    let own = stride(from: 0, to: 120, by: 10).map {
      Double(Set(some[$0]).intersection(others[$0]).count) / 10
    }
    // Two neighbours that lie within the last bits may change places.
    #expect(
      zip(shares, own).allSatisfy { abs($0 - $1) < 0.11 }
        && abs(shares.reduce(0, +) - own.reduce(0, +)) < 0.21)
    #expect(neighbours.count == 10 && neighbours.mean > 0.1 && neighbours.mean < 0.99)
    #expect(neighbours.interval.contains(neighbours.mean))
    func correlation(_ model: any TextEncoder) -> Double {
      100
        * spearman(
          pairs.map { cosine(embedding(model, $0.first), embedding(model, $0.second)) },
          pairs.map(\.score))
    }
    // A swap of two near ranks may happen in the last bits.
    let spearmanOfModel = try #require(found.spearman),
      other = try #require(found.referenceSpearman)
    #expect(abs(spearmanOfModel - correlation(model)) < 0.1)
    #expect(abs(other - correlation(reference)) < 0.1)
    #expect(found.sentences == 120)
    let itself = try EmbeddingEvaluator(sentences: sentences, pairs: [])
      .drift(of: reference, from: reference)
    #expect(itself.cosine.map { abs($0.min - 1) < 1e-12 } ?? false)
    #expect(itself.neighbours?.mean == 1)
    #expect(itself.spearman == nil && itself.referenceSpearman == nil)
  }

  @Test func embeddingsThatAreNoNumbers() throws {
    let good = try ChangedCheckpoint("bert-mean").encoder()
    let bad = try ChangedCheckpoint("bert-mean") { name, values in
      if name.hasSuffix("word_embeddings.weight") {
        for index in values.indices { values[index] = .nan }
      }
    }.encoder()
    let evaluator = EmbeddingEvaluator(sentences: Self.sentences(5), pairs: [])
    #expect(throws: DriftError.notFinite(window: 0)) { try evaluator.drift(of: bad, from: good) }
    #expect(throws: DriftError.notFinite(window: 0)) { try evaluator.drift(of: good, from: bad) }
    #expect(throws: DriftError.notFinite(window: 0)) { try evaluator.drift(of: bad, from: nil) }
  }
}

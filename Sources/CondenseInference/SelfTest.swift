// A model's proof of itself: a few ids and what the model makes of them.

public import Bundles
public import Networks
import Tensors

/// Makes and runs self-tests.
public enum SelfTest {
  /// Ids of a test and values that are kept.
  private static let length = 16, kept = 16

  /// What a network gives for a few fixed ids.
  public static func make(for network: any Network) -> BundleManifest.SelfTest {
    var ids: [Int32] = []
    if let network = network as? any TokenNetwork {
      var stream = RandomStream(seed: 0, name: "self-test")
      let count = min(length, network.contextLimit)
      ids = (0..<count).map { _ in Int32(stream.integer(below: network.vocabularySize)) }
    }
    let output = output(of: network, ids: ids)
    // The largest values are the ones that decide; ties fall to the lower index.
    let order = output.indices.sorted { (output[$1], $0) < (output[$0], $1) }
    let indices = Array(order.prefix(kept))
    let largest = output.map { abs($0) }.max() ?? 0
    return BundleManifest.SelfTest(
      inputIds: ids, indices: indices, values: indices.map { output[$0] },
      // Sums run in another order on another CPU; a wrong weight is far beyond this.
      tolerance: 1e-3 * largest + 1e-5)
  }

  /// A self-test of the size that `make` gives, without running the network.
  public static func placeholder(for network: any Network) -> BundleManifest.SelfTest {
    var outputs = 1, ids: [Int32] = []
    if let network = network as? any TokenNetwork {
      outputs =
        (network as? any TextEncoder)?.embeddingWidth
        ?? (network is any TokenPredictor
          ? network.vocabularySize : network.embedding.matrix.inputs)
      ids = [Int32](repeating: 0, count: min(length, network.contextLimit))
    } else if let network = network as? any SampleNetwork {
      outputs = network.outputCount
    }
    let count = min(kept, outputs)
    return BundleManifest.SelfTest(
      inputIds: ids,
      indices: [Int](repeating: 0, count: count), values: [Float](repeating: 0, count: count),
      tolerance: 0)
  }

  /// The largest difference between what the network gives and the test says; nil when an index of the
  /// test does not exist.
  public static func difference(
    of network: any Network, from test: BundleManifest.SelfTest
  ) -> Float? {
    if let network = network as? any TokenNetwork {
      guard !test.inputIds.isEmpty,
        test.inputIds.allSatisfy({ (0..<network.vocabularySize).contains(Int($0)) }),
        test.inputIds.count <= network.contextLimit
      else { return nil }
    } else if !test.inputIds.isEmpty {
      return nil
    }
    let output = output(of: network, ids: test.inputIds)
    guard test.indices.allSatisfy({ $0 < output.count }) else { return nil }
    return zip(test.indices, test.values).reduce(0) { worst, pair in
      let difference = abs(output[pair.0] - pair.1)
      return difference.isFinite ? max(worst, difference) : .infinity
    }
  }

  /// The last position's logits, or the embedding.
  private static func output(of network: any Network, ids: [Int32]) -> [Float] {
    if let network = network as? any SampleNetwork {
      return network.outputs(network.batch(sample(of: network.inputs, as: network.input))).values
    }
    let batch =
      (network as? any SpeechRecognizer).map {
        $0.batch(
          sample(of: [SampleInput("input", $0.input)], as: $0.input), tokens: [ids])
      }
      ?? TokenBatch([ids])
    if let model = network as? any TokenPredictor {
      let hidden = model.hidden(batch)
      return model.logits(hidden.rows(hidden.rows - 1..<hidden.rows)).values
    }
    if let encoder = network as? any TextEncoder { return encoder.embeddings(batch).values }
    return network.hidden(batch).values
  }

  /// The input of a network over samples, which anyone can make: with h = (i + 1) · 2654435761 mod 2³² (Knuth's
  /// multiplicative hash), number i, counted over all inputs, is h / 2³¹ − 1, or where it is an id ⌊h · limit / 2³²⌋.
  private static func sample(of inputs: [SampleInput], as shape: SampleShape) -> Matrix {
    var values: [Float] = []
    for input in inputs {
      for _ in 0..<input.shape.values {
        let hash = UInt32(truncatingIfNeeded: (values.count + 1) &* 2_654_435_761)
        if let limit = input.idLimit {
          values.append(Float((UInt64(hash) * UInt64(limit)) >> 32))
        } else {
          values.append(Float(Double(hash) / 2_147_483_648 - 1))
        }
      }
    }
    return Matrix(rows: shape.rows, columns: shape.channels, values: values)
  }
}

import Calibration
import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Tensors
import TestSupport
import Testing

/// Two streams through one network, against two networks with one stream each.
@Suite struct LayerStreamTests {
  static let families = ["llama-tied", "qwen2", "bert-mean"]

  static func network(_ family: String) throws -> any TokenNetwork {
    let folder = TestData.fixtures + "/families/" + family
    return try #require(
      try FamilyRegistry.network(of: CheckpointFolder(path: folder)) as? any TokenNetwork)
  }

  static func set(_ network: any TokenNetwork) -> CalibrationSet {
    var stream = RandomStream(test: "layer stream")
    let sequences = (0..<5).map { index in
      (0..<11 + index).map { _ in Int32(stream.integer(below: network.vocabularySize)) }
    }
    return CalibrationSet(sequences: sequences, tokensAsked: 65)
  }

  /// A change that every layer's outputs notice.
  static func change(_ linear: Linear) {
    var matrix = linear.matrix.decoded()
    for i in matrix.values.indices { matrix.values[i] *= i % 3 == 0 ? 1.25 : 0.875 }
    linear.matrix = FloatMatrix(matrix)
  }

  static func moment(_ x: [Matrix], _ y: [Matrix]) -> [Double] {
    let width = x[0].columns
    var sum = [Double](repeating: 0, count: width * width), count = 0
    for (x, y) in zip(x, y) {
      count += x.rows
      for row in 0..<x.rows {
        let a = x.row(row), b = y.row(row)
        for i in 0..<width {
          for j in 0..<width { sum[i * width + j] += Double(a[i]) * Double(b[j]) }
        }
      }
    }
    return sum.map { $0 / Double(count) }
  }

  static func isNear(_ found: DoubleMatrix, _ expected: [Double]) -> Bool {
    let size = expected.reduce(0) { max($0, abs($1)) }
    return zip(found.values, expected).allSatisfy { abs($0 - $1) <= 1e-5 * size }
  }

  /// The walk of a quantizer: a group is asked for, then its layers change. Every pair of moments is that of a network
  /// that was never touched beside one that is changed in the same way, from the embedding on.
  @Test(arguments: families) func pairsEqualTwoNetworks(_ family: String) throws {
    let walked = try Self.network(family), original = try Self.network(family)
    let set = Self.set(walked)
    let embedding = walked.embedding.matrix
    Self.change(walked.embedding)
    let stream = LayerStream(
      network: walked, set: set, keepsOriginal: true, originalEmbeddings: [embedding])
    let batch = TokenBatch(set.sequences)
    var x = original.embed(batch, position: 0), y = walked.embed(batch, position: 0)
    for (index, sublayer) in walked.sublayers.enumerated() {
      let other = original.sublayers[index]
      for group in sublayer.groups.indices {
        let found = stream.pairedInputs(ofGroup: group).means()
        let inX = other.run(x, batch, cache: nil, inputOf: group)
        let inY = sublayer.run(y, batch, cache: nil, inputOf: group)
        #expect(Self.isNear(found.moment, Self.moment([inY], [inY])))
        #expect(Self.isNear(found.cross, Self.moment([inX], [inY])))
        #expect(!Self.isNear(found.cross, found.moment.values))
        #expect(found.moment == stream.inputs(ofGroup: group).mean())
        for linear in sublayer.groups[group] { Self.change(linear) }
      }
      stream.advance()
      x = other.run(x, batch, cache: nil, inputOf: nil)
      y = sublayer.run(y, batch, cache: nil, inputOf: nil)
    }
    guard let model = walked as? any LanguageModel else { return }
    let found = stream.pairedHeadInputs(of: model).means()
    let inX = model.normalize(x), inY = model.normalize(y)
    #expect(Self.isNear(found.cross, Self.moment([inX], [inY])))
    #expect(found.moment == stream.headInputs(of: model).mean())
  }

  /// As long as nothing has changed, both streams are one.
  @Test func anUnchangedNetworkHasOneStream() throws {
    let network = try Self.network("llama-tied")
    let stream = LayerStream(
      network: network, set: Self.set(network), keepsOriginal: true,
      originalEmbeddings: [network.embedding.matrix])
    let found = stream.pairedInputs(ofGroup: 0).means()
    #expect(found.cross == found.moment)
  }
}

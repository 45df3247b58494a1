import Checkpoints
import Tensors
import TestSupport
import Testing

@testable import Networks

/// Where channels go in a graph.
@Suite struct FilterGroupTests {
  /// v + b(v): b reads the sum's channels and makes them.
  @Test func aLayerMayReadTheSumThatItIsPartOf() throws {
    let tensors = [("a", [4, 3, 3, 3]), ("b", [4, 4, 3, 3]), ("c", [5, 4])].map {
      FoundTensor(
        name: $0 + ".weight",
        Tensor(
          .float32, shape: $1, copying: [Float](repeating: 1, count: $1.reduce(1, *))))
    }
    let file = try TensorFile(path: "graph", formatName: "test", tensors: tensors, byteCount: 1)
    var graph = GraphBuilder(file, input: SampleShape([6, 6, 3]))
    let start = try graph.convolution("a", of: 0, padding: 1)
    let inner = try graph.convolution("b", of: start, padding: 1)
    let sum = try graph.sum("sum", [start, inner])
    let result = try graph.matrix("c", of: graph.meanOfPixels(of: sum))
    let network = GraphNetwork(
      family: "test", graph, normalization: .imageNet,
      results: [GraphResult(name: "c", node: result, kind: .logits)])
    let groups = network.filterGroups
    #expect(groups.count == 1)
    let group = try #require(groups.first)
    #expect(group.isSummed && group.count == 4)
    #expect(group.producers.map(\.owner.name) == ["a", "b"])
    #expect(group.readers.map(\.owner.name) == ["b", "c"])
  }
}

// Networks that are any graph of layers. The branches of the stream are the steps from one layer with matrices to the
// next; what the stream carries are the results that later steps still read, side by side.

import Checkpoints
import JSONDocuments
import Tensors

/// One node of a graph: a layer and where its inputs come from.
struct GraphNode {
  enum Layer {
    case input
    case matrix(any MatrixLayer)
    case plain(any PlainLayer)
  }

  let name: String
  let layer: Layer
  /// Nodes before this one.
  let inputs: [Int]
  /// Of the result, one sample.
  var shape: SampleShape

  var vectors: [VectorParameter] {
    switch layer {
    case .input: []
    case .matrix(let layer): layer.vectors
    case .plain(let layer): layer.vectors
    }
  }
}

/// A node whose numbers a graph gives.
struct GraphResult {
  let name: String
  let node: Int
  let kind: SampleOutput
}

/// Where the sizes of a graph's layers stand.
enum GraphSizes {
  /// In the shapes of its tensors alone.
  case tensors
  /// In the configuration too: gives the configuration with other numbers of outputs of layers, by their names; nil where
  /// it has no place for them.
  case configuration(
    (_ configuration: JSONValue, _ outputs: [String: Int]) -> JSONValue?)
}

/// A network over a graph whose nodes stand in the order of their work, the inputs first.
final class GraphNetwork: SampleNetwork {
  let family: String
  let inputs: [SampleInput]
  let normalization: SampleNormalization
  let results: [SampleResult]
  let tensorNames: Set<String>
  let sublayers: [any Sublayer]
  let tables: [Linear]
  let sizes: GraphSizes
  let nodes: [GraphNode]
  let resultNodes: [Int]
  /// The last node that reads each node's result.
  private let lastReaders: [Int]

  /// A network.
  ///
  /// - Parameters:
  ///   - graph: Nodes and tensors; each node reads nodes before it.
  ///   - others: Tensors that the graph does not read, and knows.
  ///   - sizes: Where the sizes of its layers stand.
  init(
    family: String, _ graph: GraphBuilder, normalization: SampleNormalization,
    results: [GraphResult], others: Set<String> = [], sizes: GraphSizes = .tensors
  ) {
    let nodes = graph.nodes
    precondition(nodes.indices.allSatisfy { node in nodes[node].inputs.allSatisfy { $0 < node } })
    self.family = family
    self.nodes = nodes
    self.normalization = normalization
    self.results = results.map {
      SampleResult($0.name, count: nodes[$0.node].shape.values, kind: $0.kind)
    }
    resultNodes = results.map(\.node)
    tensorNames = graph.tensorNames.union(others)
    tables = graph.tables
    self.sizes = sizes
    inputs = graph.inputs
    var last = [Int](repeating: 0, count: nodes.count)
    for (index, node) in nodes.enumerated() {
      for input in node.inputs { last[input] = index }
    }
    // The results are read by whoever asked for them.
    for node in resultNodes { last[node] = nodes.count }
    lastReaders = last
    let starts = nodes.indices.filter { if case .matrix = nodes[$0].layer { true } else { false } }
    sublayers = starts.enumerated().map { index, start in
      let end = index + 1 < starts.count ? starts[index + 1] : nodes.count
      return GraphStep(nodes: nodes, lastReaders: last, range: start..<end)
    }
  }

  var embeddings: [Linear] { tables }
  var outerVectors: [VectorParameter] { leading.flatMap { nodes[$0].vectors } }

  /// The nodes before the first branch.
  private var leading: Range<Int> {
    inputs.count..<((sublayers.first as? GraphStep)?.range.lowerBound ?? nodes.count)
  }

  func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    var values = start(batch)
    values.run(leading, of: nodes, lastReaders)
    return LiveNodes(before: leading.upperBound, of: nodes, lastReaders).packed(values)
  }

  func outputs(of hidden: Matrix, _ batch: TokenBatch) -> Matrix {
    let live = LiveNodes(before: nodes.count, of: nodes, lastReaders)
    return row(of: resultNodes.map { live.value(of: $0, in: hidden) }, batch)
  }

  /// Node after node, without packing what is alive.
  func outputs(_ batch: TokenBatch) -> Matrix {
    var values = start(batch)
    values.run(inputs.count..<nodes.count, of: nodes, lastReaders)
    return row(
      of: resultNodes.map { node in
        guard let value = values[node] else { preconditionFailure("node \(node) has not run") }
        return value
      }, batch)
  }

  private func row(of results: [Matrix], _ batch: TokenBatch) -> Matrix {
    Matrix.sideBySide(
      zip(results, resultNodes).map {
        $0.reshaped(rows: batch.sequences.count, columns: nodes[$1].shape.values)
      })
  }

  private func start(_ batch: TokenBatch) -> LiveValues {
    guard let features = batch.features else { preconditionFailure("a batch of ids") }
    precondition(features.columns == input.channels && features.rows % input.rows == 0)
    // Gradients start at the input, which itself needs none.
    let whole = batch.tape?.leaf(features) { _, _ in } ?? features
    var values = LiveValues(count: nodes.count)
    guard inputs.count > 1 else {
      values[0] = whole
      return values
    }
    var first = 0
    for (node, input) in inputs.enumerated() {
      let shape = input.shape
      values[node] = whole.columns(first..<first + shape.values)
        .reshaped(rows: features.rows * shape.rows, columns: shape.channels)
      first += shape.values
    }
    return values
  }
}

/// Results of nodes that others still read.
private struct LiveValues {
  private var values: [Matrix?]

  init(count: Int) { values = Array(repeating: nil, count: count) }

  subscript(node: Int) -> Matrix? {
    get { values[node] }
    set { values[node] = newValue }
  }

  /// Runs some nodes, whose inputs are there.
  mutating func run(_ range: Range<Int>, of nodes: [GraphNode], _ lastReaders: [Int]) {
    for index in range {
      let node = nodes[index]
      var inputs: [Matrix] = []
      for (place, input) in node.inputs.enumerated() {
        guard let value = values[input] else {
          preconditionFailure("node \(input) has not run")
        }
        inputs.append(value)
        let isLast = lastReaders[input] == index && !node.inputs[(place + 1)...].contains(input)
        if isLast { values[input] = nil }
      }
      switch node.layer {
      case .input: preconditionFailure("an input behind other nodes")
      case .matrix(let layer): values[index] = layer.apply(inputs.removeFirst())
      case .plain(let layer): values[index] = layer.apply(&inputs)
      }
      if lastReaders[index] == 0 { values[index] = nil }
    }
  }
}

/// What the stream holds before a node: the results that it or a later one reads, in the order of the nodes.
private struct LiveNodes {
  private let shapes: [(node: Int, shape: SampleShape)]

  init(before end: Int, of nodes: [GraphNode], _ lastReaders: [Int]) {
    shapes = (0..<end).filter { lastReaders[$0] >= end }.map { ($0, nodes[$0].shape) }
  }

  var nodes: [Int] { shapes.map(\.node) }

  /// The stream: one result as it is, or several as a row a sample.
  func packed(_ values: LiveValues) -> Matrix {
    let parts = shapes.map { node, _ -> Matrix in
      guard let value = values[node] else { preconditionFailure("node \(node) has not run") }
      return value
    }
    guard parts.count > 1 else { return parts[0] }
    return Matrix.sideBySide(
      zip(parts, shapes).map { part, live in
        part.reshaped(rows: part.rows / live.shape.rows, columns: live.shape.values)
      })
  }

  /// One node's result out of the stream.
  func value(of node: Int, in stream: Matrix) -> Matrix {
    guard shapes.count > 1 else { return stream }
    var first = 0
    for (own, shape) in shapes {
      if own == node {
        return stream.columns(first..<first + shape.values)
          .reshaped(rows: stream.rows * shape.rows, columns: shape.channels)
      }
      first += shape.values
    }
    preconditionFailure("node \(node) is not alive")
  }
}

/// A layer with matrices and the layers without that follow it.
private final class GraphStep: Sublayer {
  let range: Range<Int>
  private let nodes: [GraphNode]
  private let lastReaders: [Int]
  private let layer: any MatrixLayer
  /// What the stream before the step and the one behind it hold.
  private let before, behind: LiveNodes

  init(nodes: [GraphNode], lastReaders: [Int], range: Range<Int>) {
    guard case .matrix(let layer) = nodes[range.lowerBound].layer else {
      preconditionFailure("a step without matrices")
    }
    self.layer = layer
    self.nodes = nodes
    self.lastReaders = lastReaders
    self.range = range
    before = LiveNodes(before: range.lowerBound, of: nodes, lastReaders)
    behind = LiveNodes(before: range.upperBound, of: nodes, lastReaders)
  }

  var groups: [[Linear]] { layer.groups }
  var sources: [InputSource] { groups.map { _ in .fixed } }
  var vectors: [VectorParameter] { range.flatMap { nodes[$0].vectors } }

  func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState {
    layer.start(before.value(of: nodes[range.lowerBound].inputs[0], in: hidden))
  }

  func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState {
    layer.step(toGroup: group, from: previous)
  }

  func finish(_ last: BranchState, hidden: Matrix) -> Matrix {
    var values = LiveValues(count: nodes.count)
    for node in before.nodes where lastReaders[node] > range.lowerBound {
      values[node] = before.value(of: node, in: hidden)
    }
    values[range.lowerBound] = layer.output(from: last)
    values.run(range.dropFirst(), of: nodes, lastReaders)
    return behind.packed(values)
  }
}

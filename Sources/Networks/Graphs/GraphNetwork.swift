// Networks that are any graph of layers. The branches of the stream are the steps from one layer with matrices to the
// next; what the stream carries are the results that later steps still read, side by side.

import Checkpoints
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
  let shape: SampleShape
}

/// A network over a graph whose nodes stand in the order of their work; the last one is the result.
final class GraphNetwork: SampleNetwork {
  let family: String
  let input: SampleShape
  let normalization: SampleNormalization
  let output: SampleOutput
  let tensorNames: Set<String>
  let sublayers: [any Sublayer]
  let tables: [Linear]
  let fixedSizes: String?
  let nodes: [GraphNode]
  /// The last node that reads each node's result.
  private let lastReaders: [Int]

  /// A network.
  ///
  /// - Parameters:
  ///   - nodes: The first is the input; each reads nodes before it.
  ///   - tensorNames: Tensors that the graph reads, or knows and leaves alone.
  ///   - tables: Matrices whose rows are looked up.
  ///   - fixedSizes: Why the sizes of its layers cannot change; nil where they follow from the tensors.
  init(
    family: String, nodes: [GraphNode], normalization: SampleNormalization, output: SampleOutput,
    tensorNames: Set<String>, tables: [Linear] = [], fixedSizes: String? = nil
  ) {
    precondition(nodes.indices.allSatisfy { node in nodes[node].inputs.allSatisfy { $0 < node } })
    self.family = family
    self.nodes = nodes
    self.normalization = normalization
    self.output = output
    self.tensorNames = tensorNames
    self.tables = tables
    self.fixedSizes = fixedSizes
    input = nodes[0].shape
    var last = [Int](repeating: 0, count: nodes.count)
    for (index, node) in nodes.enumerated() {
      for input in node.inputs { last[input] = index }
    }
    // The result is read by whoever asked for it.
    last[nodes.count - 1] = nodes.count
    lastReaders = last
    let starts = nodes.indices.filter { if case .matrix = nodes[$0].layer { true } else { false } }
    sublayers = starts.enumerated().map { index, start in
      let end = index + 1 < starts.count ? starts[index + 1] : nodes.count
      return GraphStep(nodes: nodes, lastReaders: last, range: start..<end)
    }
  }

  var outputCount: Int { nodes[nodes.count - 1].shape.values }
  var outerVectors: [VectorParameter] { leading.flatMap { nodes[$0].vectors } }

  /// The nodes before the first branch.
  private var leading: Range<Int> {
    1..<((sublayers.first as? GraphStep)?.range.lowerBound ?? nodes.count)
  }

  func embed(_ batch: TokenBatch, position: Int) -> Matrix {
    var values = LiveValues(count: nodes.count)
    values[0] = start(batch)
    values.run(leading, of: nodes, lastReaders)
    return values.packed(before: leading.upperBound, of: nodes, lastReaders)
  }

  func outputs(of hidden: Matrix, _ batch: TokenBatch) -> Matrix {
    hidden.reshaped(rows: batch.sequences.count, columns: outputCount)
  }

  /// Node after node, without packing what is alive.
  func outputs(_ batch: TokenBatch) -> Matrix {
    var values = LiveValues(count: nodes.count)
    values[0] = start(batch)
    values.run(1..<nodes.count, of: nodes, lastReaders)
    return outputs(of: values.take(nodes.count - 1), batch)
  }

  private func start(_ batch: TokenBatch) -> Matrix {
    guard let features = batch.features else { preconditionFailure("a batch of ids") }
    precondition(features.columns == input.channels && features.rows % input.rows == 0)
    // Gradients start at the input, which itself needs none.
    return batch.tape?.leaf(features) { _, _ in } ?? features
  }
}

extension GraphNode {
  var vectors: [VectorParameter] {
    switch layer {
    case .input: []
    case .matrix(let layer): layer.vectors
    case .plain(let layer): layer.vectors
    }
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

  /// A result that nobody reads after this.
  mutating func take(_ node: Int) -> Matrix {
    guard let value = values[node].take() else { preconditionFailure("node \(node) has not run") }
    return value
  }

  /// Runs some nodes, whose inputs are there.
  mutating func run(_ range: Range<Int>, of nodes: [GraphNode], _ lastReaders: [Int]) {
    for index in range {
      let node = nodes[index]
      var inputs: [Matrix] = []
      for (place, input) in node.inputs.enumerated() {
        let isLast = lastReaders[input] == index && !node.inputs[(place + 1)...].contains(input)
        if isLast {
          inputs.append(take(input))
        } else if let value = values[input] {
          inputs.append(value)
        }
      }
      switch node.layer {
      case .input: preconditionFailure("a second input")
      case .matrix(let layer): values[index] = layer.apply(inputs.removeFirst())
      case .plain(let layer): values[index] = layer.apply(&inputs)
      }
      if lastReaders[index] == 0 { values[index] = nil }
    }
  }

  /// What is alive before a node, as one matrix.
  func packed(before end: Int, of nodes: [GraphNode], _ lastReaders: [Int]) -> Matrix {
    let alive = LiveValues.alive(before: end, lastReaders)
    let parts = alive.map { node -> Matrix in
      guard let value = values[node] else { preconditionFailure("node \(node) has not run") }
      return value
    }
    guard parts.count > 1 else { return parts[0] }
    return Matrix.sideBySide(
      zip(parts, alive).map { part, node in
        let shape = nodes[node].shape
        return part.reshaped(rows: part.rows / shape.rows, columns: shape.values)
      })
  }

  /// Nodes before `end` that it or a later one reads.
  static func alive(before end: Int, _ lastReaders: [Int]) -> [Int] {
    (0..<end).filter { lastReaders[$0] >= end }
  }
}

/// A layer with matrices and the layers without that follow it.
private final class GraphStep: ChainedSublayer {
  let range: Range<Int>
  private let nodes: [GraphNode]
  private let lastReaders: [Int]
  private let layer: any MatrixLayer
  /// What the stream before the step holds.
  private let alive: [Int]

  init(nodes: [GraphNode], lastReaders: [Int], range: Range<Int>) {
    guard case .matrix(let layer) = nodes[range.lowerBound].layer else {
      preconditionFailure("a step without matrices")
    }
    self.layer = layer
    self.nodes = nodes
    self.lastReaders = lastReaders
    self.range = range
    alive = LiveValues.alive(before: range.lowerBound, lastReaders)
  }

  var groups: [[Linear]] { layer.groups }
  var sources: [InputSource] { groups.map { _ in .fixed } }
  var vectors: [VectorParameter] { range.flatMap { nodes[$0].vectors } }

  func input(
    ofGroup group: Int, from previous: Matrix, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> Matrix {
    guard group == 0 else { return layer.input(ofGroup: group, from: previous) }
    return layer.input(ofGroup: 0, from: value(of: nodes[range.lowerBound].inputs[0], in: previous))
  }

  func output(from last: Matrix, hidden: Matrix) -> Matrix {
    var values = LiveValues(count: nodes.count)
    for node in alive where lastReaders[node] > range.lowerBound {
      values[node] = value(of: node, in: hidden)
    }
    values[range.lowerBound] = layer.output(from: last)
    values.run(range.dropFirst(), of: nodes, lastReaders)
    return values.packed(before: range.upperBound, of: nodes, lastReaders)
  }

  /// One node's result out of the stream.
  private func value(of node: Int, in stream: Matrix) -> Matrix {
    guard alive.count > 1 else { return stream }
    let shape = nodes[node].shape
    let first = alive.prefix { $0 != node }.reduce(0) { $0 + nodes[$1].shape.values }
    return stream.columns(first..<first + shape.values)
      .reshaped(rows: stream.rows * shape.rows, columns: shape.channels)
  }
}

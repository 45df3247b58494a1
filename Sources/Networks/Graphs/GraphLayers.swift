// What the nodes of a graph are: layers with matrices, which a quantizer sees as groups of linear layers, and layers
// without.

import Checkpoints
import Tensors

/// A layer of a graph that has linear layers. It has one input.
protocol MatrixLayer: AnyObject {
  /// The linear layers by shared input, in the order in which they run.
  var groups: [[Linear]] { get }
  /// Vectors that are no biases of them.
  var vectors: [VectorParameter] { get }
  /// What the first group reads, from the layer's input.
  func start(_ x: Matrix) -> BranchState
  /// From what one group reads to what the next one does.
  func step(toGroup group: Int, from previous: BranchState) -> BranchState
  /// The layer's result from what its last group reads.
  func output(from last: BranchState) -> Matrix
  /// The layer's result from its input.
  func apply(_ x: Matrix) -> Matrix
}

extension MatrixLayer {
  var vectors: [VectorParameter] { [] }

  func start(_ x: Matrix) -> BranchState { BranchState(x) }

  func apply(_ x: Matrix) -> Matrix {
    var state = start(x)
    for group in groups.indices.dropFirst() { state = step(toGroup: group, from: state) }
    return output(from: state)
  }
}

/// A layer of a graph without linear layers.
protocol PlainLayer: AnyObject {
  /// Vectors that training changes.
  var vectors: [VectorParameter] { get }
  /// How the channels of its result follow from its inputs'.
  var channelRelation: ChannelRelation { get }
  /// Tensors with a value for each channel.
  var channelVectors: [String] { get }
  /// Whether the result is the inputs' numbers in another order.
  var keepsNumbers: Bool { get }
  /// The result; takes its inputs out of the list, so that it may change them in place.
  func apply(_ inputs: inout [Matrix]) -> Matrix
}

extension PlainLayer {
  var vectors: [VectorParameter] { [] }
  var channelRelation: ChannelRelation { .other }
  var channelVectors: [String] { [] }
  var keepsNumbers: Bool { false }
}

/// A convolution, or a matrix that every row goes through.
final class SingleLinear: MatrixLayer {
  let linear: Linear

  init(_ linear: Linear) { self.linear = linear }

  var groups: [[Linear]] { [[linear]] }
  func step(toGroup group: Int, from previous: BranchState) -> BranchState { previous }
  func output(from last: BranchState) -> Matrix { linear.apply(last.input) }
}

/// Batch normalization with the statistics of training: `(x − mean) / √(variance + ε) · weight + bias`.
///
/// Source: Ioffe and Szegedy, 2015, arXiv:1502.03167.
final class BatchNorm: PlainLayer {
  /// Names of the tensors; nil where there is none.
  struct Names {
    var weight, bias: String?
    var mean, variance: String
  }

  let names: Names
  let epsilon: Float
  var weight: [Float]
  var bias: [Float]
  var mean: [Float]
  var variance: [Float]

  init(
    names: Names, epsilon: Float, weight: [Float], bias: [Float], mean: [Float], variance: [Float]
  ) {
    self.names = names
    self.epsilon = epsilon
    self.weight = weight
    self.bias = bias
    self.mean = mean
    self.variance = variance
  }

  var vectors: [VectorParameter] {
    [
      names.weight.map { VectorParameter($0, self, \.weight) },
      names.bias.map { VectorParameter($0, self, \.bias) },
    ].compactMap { $0 }
  }

  var channelRelation: ChannelRelation { .same }
  var channelVectors: [String] {
    [names.weight, names.bias, names.mean, names.variance].compactMap { $0 }
  }

  /// The factor and the summand of each channel.
  var scaleAndShift: (scale: [Float], shift: [Float]) {
    let scale = zip(weight, variance).map { $0 / ($1 + epsilon).squareRoot() }
    return (scale, zip(bias, zip(mean, scale)).map { $0 - $1.0 * $1.1 })
  }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    var x = inputs.removeFirst()
    let (scale, shift) = scaleAndShift
    let record = x.record.flatMap { record in
      let input = x.unrecorded, mean = mean, names = names
      let inverses = variance.map { 1 / ($0 + epsilon).squareRoot() }
      return GradientRecord(of: [record]) { gradient, observer in
        if let name = names.bias, observer.wants(name) {
          observer.receive(name, .vector(gradient.columnSums()))
        }
        if let name = names.weight, observer.wants(name) {
          var normalized = input
          normalized.scaleAndShift(inverses, zip(mean, inverses).map { -$0 * $1 })
          let product = normalized.changed(with: gradient) { part, gradient in
            for i in gradient.indices { part[i] *= gradient[i] }
          }
          observer.receive(name, .vector(product.columnSums()))
        }
        var result = gradient
        result.scaleAndShift(scale, [Float](repeating: 0, count: scale.count))
        return [result]
      }
    }
    x.scaleAndShift(scale, shift)
    x.record = record
    return x
  }
}

/// Layer normalization of every row.
final class RowNorm: PlainLayer {
  private var norm: LayerNorm

  init(_ norm: LayerNorm) { self.norm = norm }

  var vectors: [VectorParameter] { VectorParameter.of(norm, self, \.norm) }
  func apply(_ inputs: inout [Matrix]) -> Matrix { norm.applied(to: inputs.removeFirst()) }
}

/// Rows of a table by ids: every number of the input is one.
final class Lookup: PlainLayer {
  let table: Linear

  init(_ table: Linear) { self.table = table }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    return table.gather(x.values.map { Int32($0) }, tape: x.record?.tape)
  }
}

/// A function of each value.
final class Elementwise: PlainLayer {
  let activation: Activation

  init(_ activation: Activation) { self.activation = activation }

  var channelRelation: ChannelRelation { .same }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    var x = inputs.removeFirst()
    activation.apply(&x)
    return x
  }
}

/// The sum of its inputs.
final class Sum: PlainLayer {
  var channelRelation: ChannelRelation { .same }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    var sum = inputs.removeFirst()
    for other in inputs { sum.add(other) }
    inputs = []
    return sum
  }
}

/// Pooling by windows.
final class WindowPooling: PlainLayer {
  let geometry: PatchGeometry
  let pooling: Pooling

  init(_ geometry: PatchGeometry, _ pooling: Pooling) {
    self.geometry = geometry
    self.pooling = pooling
  }

  var channelRelation: ChannelRelation { .same }

  func apply(_ inputs: inout [Matrix]) -> Matrix { inputs.removeFirst().pooled(geometry, pooling) }
}

/// A shortcut without weights: every second pixel, and zeros in place of channels that the input lacks.
///
/// Source: He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, option A.
final class PaddedShortcut: PlainLayer {
  let geometry: PatchGeometry
  let before, after: Int

  /// - Parameters:
  ///   - geometry: A window of one pixel.
  ///   - before: Zero channels before the input's.
  ///   - after: Zero channels behind them.
  init(_ geometry: PatchGeometry, before: Int, after: Int) {
    self.geometry = geometry
    self.before = before
    self.after = after
  }

  var channelRelation: ChannelRelation { .moved(by: before) }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    var pixels = x.patches(geometry)
    let geometry = geometry
    pixels.record = GradientRecord(of: [x.record]) { gradient, _ in [gradient.folded(geometry)] }
    return Matrix.sideBySide(
      [
        before > 0 ? Matrix(rows: pixels.rows, columns: before) : nil, pixels,
        after > 0 ? Matrix(rows: pixels.rows, columns: after) : nil,
      ].compactMap { $0 })
  }
}

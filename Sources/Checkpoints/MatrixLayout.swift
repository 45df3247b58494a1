// How a tensor of a convolution, or one that is stored the other way around, is a matrix: what quantizing, pruning and
// training work on. The tensor keeps its own shape wherever it is a plain tensor.

import Encodings
import JSONDocuments
public import Tensors

/// A tensor's axes in the order of a matrix `[outputs, inputs]`.
public struct MatrixLayout: Sendable, Equatable {
  /// The tensor's dimensions, such as `[outputs, channels, 3, 3]`.
  public let shape: [Int]
  /// The tensor's axes, in the order in which the matrix has them, such as `[0, 2, 3, 1]`.
  public let axes: [Int]
  /// How many of them make the matrix's rows; the others make its columns.
  public let rowAxes: Int

  /// A layout; nil when `axes` are not all axes of the shape, or leave rows or columns without one.
  public init?(shape: [Int], axes: [Int], rowAxes: Int = 1) {
    guard axes.sorted() == Array(shape.indices), (1..<max(2, axes.count)).contains(rowAxes),
      axes.count >= 2, elementCount(of: shape) != nil
    else { return nil }
    self.shape = shape
    self.axes = axes
    self.rowAxes = rowAxes
  }

  /// Rows of the matrix.
  public var outputs: Int { axes.prefix(rowAxes).reduce(1) { $0 * shape[$1] } }
  /// Columns of the matrix.
  public var inputs: Int { axes.dropFirst(rowAxes).reduce(1) { $0 * shape[$1] } }

  /// The matrix of a tensor's values.
  public func matrix(of values: [Float]) -> Matrix {
    var result = Matrix(rows: outputs, columns: inputs)
    precondition(values.count == result.values.count)
    walk { place, index in result.values[place] = values[index] }
    return result
  }

  /// The values of the tensor of a matrix.
  public func tensorValues(of matrix: Matrix) -> [Float] {
    precondition(matrix.rows == outputs && matrix.columns == inputs)
    var result = [Float](repeating: 0, count: matrix.values.count)
    walk { place, index in result[index] = matrix.values[place] }
    return result
  }

  /// Calls `body` with each place in the matrix and the element of the tensor that it has.
  private func walk(_ body: (_ place: Int, _ index: Int) -> Void) {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() {
      strides[axis] = strides[axis + 1] * shape[axis + 1]
    }
    let sizes = axes.map { shape[$0] }, steps = axes.map { strides[$0] }
    var position = [Int](repeating: 0, count: sizes.count)
    var index = 0
    for place in 0..<sizes.reduce(1, *) {
      body(place, index)
      for axis in sizes.indices.reversed() {
        position[axis] += 1
        index += steps[axis]
        if position[axis] < sizes[axis] { break }
        index -= sizes[axis] * steps[axis]
        position[axis] = 0
      }
    }
  }

  /// `{"shape": […], "axes": […], "row_axes": 1}`.
  var json: JSONValue {
    [
      "shape": .array(shape.map { .integer($0) }), "axes": .array(axes.map { .integer($0) }),
      "row_axes": .integer(rowAxes),
    ]
  }

  /// Reads what `json` gives; nil when it is no layout.
  init?(json: JSONValue) {
    guard let shape = json["shape"]?.array, let axes = json["axes"]?.array,
      let rowAxes = json["row_axes"]?.integer, shape.count <= 8
    else { return nil }
    let sizes = shape.compactMap(\.integer), order = axes.compactMap(\.integer)
    guard sizes.count == shape.count, order.count == axes.count,
      sizes.allSatisfy({ (0...Int(Int32.max)).contains($0) })
    else { return nil }
    self.init(shape: sizes, axes: order, rowAxes: rowAxes)
  }
}

extension Checkpoint {
  /// A weight as the matrix of its layout, in its encoding.
  ///
  /// - Parameter layout: How its tensor is a matrix.
  /// - Throws: `CheckpointError` when it is absent or has another shape.
  public func weight(
    _ name: String, layout: MatrixLayout
  ) throws(CheckpointError) -> any LinearOperator {
    if let entry = manifest[name] {
      guard entry.layout == layout else {
        throw CheckpointError(
          path: path, tensor: name,
          .shapeMismatch(
            found: entry.layout?.shape ?? [entry.outputs, entry.inputs], expected: layout.shape))
      }
      return try encodedMatrix(entry).matrix
    }
    return DenseMatrix(layout.matrix(of: try floats(name, shape: layout.shape)))
  }

  /// The dimensions of a tensor as the model knows it, in whatever encoding; nil when there is none of this name.
  public func shape(_ name: String) -> [Int]? {
    if let entry = manifest[name] { return entry.tensorShape }
    return tensorType(name)?.shape
  }

  /// An encoded weight as float32, in the dimensions and the order of the model's tensor.
  public func decodedTensor(_ entry: WeightManifest.Entry) throws(CheckpointError) -> Tensor {
    let matrix = try encodedMatrix(entry).matrix.decoded()
    return Tensor(
      .float32, shape: entry.tensorShape,
      copying: entry.layout?.tensorValues(of: matrix) ?? matrix.values)
  }
}

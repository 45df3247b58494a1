// Arrays of samples in NumPy's formats.

import Checkpoints
public import Tensors

/// Samples in a file: integers that are normalized, ids, or floats as the network reads them.
///
/// For a network of one input this is a `.npy` file with `[samples] + shape`, or a `.npz` archive with one such array;
/// for a network of several an archive whose arrays have the names of the inputs.
public struct SampleArray: Sendable {
  /// The file.
  public let path: String
  /// Samples.
  public let count: Int
  /// Of one sample, as it stands in a batch: the one input's, or all values of several.
  public var shape: SampleShape {
    arrays.count == 1
      ? arrays[0].input.shape
      : SampleShape([arrays.reduce(0) { $0 + $1.input.shape.values }])
  }
  /// Whether some of the numbers are ids.
  public var holdsIds: Bool { arrays.contains { $0.input.idLimit != nil } }
  /// By input.
  private let arrays: [(input: SampleInput, tensor: Tensor)]

  /// Opens a file.
  ///
  /// - Throws: `CheckpointError` when an array is missing, has another shape, or holds what the network cannot read.
  public init(path: String, for network: any SampleNetwork) throws {
    try self.init(path: path, inputs: network.inputs)
  }

  /// Opens a file for a network of one input of numbers.
  ///
  /// - Parameter shape: What the network reads; a last dimension of 1 may be missing in the file.
  public init(path: String, shape: SampleShape) throws {
    try self.init(path: path, inputs: [SampleInput("input", shape)])
  }

  /// Opens a file.
  ///
  /// - Parameter inputs: What the network reads, at least one.
  init(path: String, inputs: [SampleInput]) throws {
    let isArchive = path.hasSuffix(".npz")
    let file = try isArchive ? NumPyArchiveFormat.open(path) : NumPyArrayFormat.open(path)
    guard inputs.count == 1 || isArchive else {
      throw CheckpointError(
        path: path,
        .badValue(
          found: "one array",
          expected: "an archive (.npz) with the arrays "
            + inputs.map { "'\($0.name)'" }.joined(separator: ", ")))
    }
    var arrays: [(input: SampleInput, tensor: Tensor)] = []
    for input in inputs {
      let isOnly = inputs.count == 1 && file.tensorNames.count == 1
      let name = isOnly ? file.tensorNames[0] : input.name
      guard let tensor = file.tensor(name) else {
        throw CheckpointError(
          path: path,
          .missing(
            key: name,
            expected: "an array of [samples] and \(input.shape), one of the network's inputs"))
      }
      try Self.check(tensor, input, path: path, name: isArchive ? name : nil)
      if let first = arrays.first, first.tensor.shape[0] != tensor.shape[0] {
        throw CheckpointError(
          path: path, tensor: name,
          .badValue(
            found: "\(tensor.shape[0]) samples",
            expected: "\(first.tensor.shape[0]), as many as '\(first.input.name)' has"))
      }
      arrays.append((input, tensor))
    }
    if inputs.count > 1,
      let other = file.tensorNames.first(where: { name in !inputs.contains { $0.name == name } })
    {
      throw CheckpointError(
        path: path, tensor: other,
        .badValue(
          found: "an array that is no input",
          expected: inputs.map { "'\($0.name)'" }.joined(separator: ", ")))
    }
    self.path = path
    self.arrays = arrays
    count = arrays[0].tensor.shape[0]
  }

  private static func check(
    _ tensor: Tensor, _ input: SampleInput, path: String, name: String?
  ) throws(CheckpointError) {
    let own = Array(tensor.shape.dropFirst()), shape = input.shape.dimensions
    guard own == shape || own + [1] == shape, !tensor.shape.isEmpty else {
      throw CheckpointError(
        path: path, tensor: name,
        .badValue(
          found: "an array of \(tensor.shape)",
          expected: "[samples] and \(input.shape) of the network"))
    }
    guard tensor.shape[0] > 0 else {
      throw CheckpointError(
        path: path, tensor: name, .badValue(found: "no samples", expected: "at least one"))
    }
    guard tensor.dtype.isFloat || tensor.dtype == .uint8 || input.idLimit != nil else {
      throw CheckpointError(
        path: path, tensor: name, .typeMismatch(found: tensor.dtype, expected: "U8 or floats"))
    }
    if tensor.dtype.isFloat {
      let bad = countNotFinite(tensor.floats().span)
      guard bad == 0 else {
        throw CheckpointError(
          path: path, tensor: name, .notFinite(count: bad, total: tensor.count))
      }
    }
    guard let limit = input.idLimit else { return }
    func refuse(_ index: Int, _ found: String) -> CheckpointError {
      CheckpointError(
        path: path, tensor: name,
        .badValue(
          found: "\(found) in sample \(index / max(1, input.shape.values))",
          expected: "ids from 0 to \(limit - 1), the rows of the embedding"))
    }
    if let ids = tensor.integers() {
      if let index = ids.firstIndex(where: { !(0..<limit).contains($0) }) {
        throw refuse(index, "the id \(ids[index])")
      }
    } else {
      let values = tensor.floats()
      for (index, value) in values.enumerated()
      where value != value.rounded() || value < 0 || value >= Float(limit) {
        throw refuse(index, "\(value)")
      }
    }
  }

  /// Some samples as a network reads them: `[samples * rows, channels]` of one input, `[samples, values]` of several.
  public func features(_ samples: Range<Int>, _ normalization: SampleNormalization) -> Matrix {
    let parts = arrays.map { features(samples, normalization, $0.input, $0.tensor) }
    guard parts.count > 1 else { return parts[0] }
    return Matrix.sideBySide(
      zip(parts, arrays).map {
        $0.reshaped(rows: samples.count, columns: $1.input.shape.values)
      })
  }

  private func features(
    _ samples: Range<Int>, _ normalization: SampleNormalization, _ input: SampleInput,
    _ tensor: Tensor
  ) -> Matrix {
    let shape = input.shape
    let range = samples.lowerBound * shape.values..<samples.upperBound * shape.values
    var values = tensor.floats(elements: range)
    if !tensor.dtype.isFloat, input.idLimit == nil {
      let channels = shape.channels
      let mean = normalization.mean, deviation = normalization.deviation
      let divisor = normalization.divisor
      ParallelLoop.overRows(of: &values, rowLength: channels, blockRows: 1024) { rows, part in
        for channel in 0..<channels {
          let mean = mean[channel % mean.count], deviation = deviation[channel % deviation.count]
          for row in 0..<rows.count {
            let place = row * channels + channel
            part[place] = (part[place] / divisor - mean) / deviation
          }
        }
      }
    }
    return Matrix(rows: samples.count * shape.rows, columns: shape.channels, values: values)
  }

  /// What the network reads where the array of its first input has 0, a value for each channel, or one for all.
  func zero(_ normalization: SampleNormalization) -> [Float] {
    if arrays[0].tensor.dtype.isFloat { return [0] }
    return (0..<max(normalization.mean.count, normalization.deviation.count)).map { channel in
      -normalization.mean[channel % normalization.mean.count]
        / normalization.deviation[channel % normalization.deviation.count]
    }
  }

  /// The labels in a file of as many integers.
  public static func labels(path: String, count: Int, below limit: Int) throws -> [Int] {
    let file = try NumPyArrayFormat.open(path)
    guard let name = file.tensorNames.first, let tensor = file.tensor(name),
      let labels = tensor.integers()
    else { throw CheckpointError(path: path, .missing(key: "an array", expected: "integers")) }
    guard tensor.shape == [count] || tensor.shape == [count, 1] else {
      throw CheckpointError(path: path, .shapeMismatch(found: tensor.shape, expected: [count]))
    }
    if let label = labels.first(where: { !(0..<limit).contains($0) }) {
      throw CheckpointError(
        path: path, .badValue(found: "the label \(label)", expected: "0 to \(limit - 1)"))
    }
    return labels
  }
}

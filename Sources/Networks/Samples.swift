// Networks that read numbers instead of tokens' ids: pictures, signals, tables; and arrays of such samples.

import Checkpoints
import Foundation
public import Tensors

/// The dimensions of one sample, such as `[height, width, channels]`; the last counts channels.
public struct SampleShape: Sendable, Equatable, CustomStringConvertible {
  /// The dimensions, at least one.
  public let dimensions: [Int]

  /// A shape.
  public init(_ dimensions: [Int]) {
    precondition(!dimensions.isEmpty && elementCount(of: dimensions) != nil, "\(dimensions)")
    self.dimensions = dimensions
  }

  /// Channels.
  public var channels: Int { dimensions[dimensions.count - 1] }
  /// Rows of a sample in a matrix of activations: pixels, or steps of time.
  public var rows: Int { dimensions.dropLast().reduce(1, *) }
  /// Numbers of a sample.
  public var values: Int { rows * channels }
  /// As `32 x 32 x 3`.
  public var description: String { dimensions.map(String.init).joined(separator: " x ") }
}

/// What makes a network's input of integers, such as a picture's bytes: `(x / 255 − mean) / deviation`.
public struct SampleNormalization: Sendable, Equatable {
  /// Of each channel; one value serves all.
  public let mean, deviation: [Float]
  /// What the integers are divided by first.
  public let divisor: Float

  /// A normalization.
  public init(mean: [Float] = [0], deviation: [Float] = [1], divisor: Float = 255) {
    self.mean = mean
    self.deviation = deviation
    self.divisor = divisor
  }

  /// The mean and the deviation of ImageNet's pictures.
  public static let imageNet = SampleNormalization(
    mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225])
}

/// What the numbers that a network gives for a sample are.
public enum SampleOutput: String, Sendable {
  /// Logits of labels.
  case logits
  /// Probabilities of labels: the network ends in a softmax.
  case probabilities
  /// Other numbers.
  case values
}

/// A network that reads samples of numbers.
public protocol FeatureNetwork: Network {
  /// What it reads.
  var input: SampleShape { get }
}

extension FeatureNetwork {
  /// Samples that are run together: about 2¹⁸ numbers of the input's size times 16 channels.
  public var batchSamples: Int { max(1, min(256, (1 << 14) / max(1, input.rows))) }
}

/// A network that gives one row of numbers a sample.
public protocol SampleNetwork: FeatureNetwork {
  /// What makes its input of integers.
  var normalization: SampleNormalization { get }
  /// What its numbers are.
  var output: SampleOutput { get }
  /// How many they are: labels, where they are logits or probabilities.
  var outputCount: Int { get }
  /// The numbers `[samples, outputCount]` of the stream behind the last branch.
  func outputs(of hidden: Matrix, _ batch: TokenBatch) -> Matrix
  /// The numbers `[samples, outputCount]` of a batch.
  func outputs(_ batch: TokenBatch) -> Matrix
}

extension SampleNetwork {
  /// Through the branches, unless a network knows a shorter way.
  public func outputs(_ batch: TokenBatch) -> Matrix { outputs(of: hidden(batch), batch) }

  /// Whether the numbers tell labels.
  public var isClassifier: Bool { output != .values }

  /// A batch of the network's input, `[samples * input.rows, channels]`.
  public func batch(_ features: Matrix, tape: GradientTape? = nil) -> TokenBatch {
    TokenBatch(features: features, rowsPerSample: input.rows, tape: tape)
  }

  /// Logits of what the network gives: the logarithms of probabilities are logits too.
  public func logits(_ outputs: Matrix) -> Matrix {
    guard output == .probabilities else { return outputs }
    var result = outputs
    for i in result.values.indices {
      result.values[i] = Foundation.log(max(result.values[i], 1e-30))
    }
    return result
  }
}

/// Samples in a NumPy file: `[samples] + shape`, integers that are normalized, or floats as the network reads them.
public struct SampleArray: Sendable {
  /// The file.
  public let path: String
  /// Samples.
  public let count: Int
  /// Of one sample.
  public let shape: SampleShape
  private let tensor: Tensor

  /// Opens a file.
  ///
  /// - Parameter shape: What the network reads; a last dimension of 1 may be missing in the file.
  public init(path: String, shape: SampleShape) throws {
    let file = try NumPyArrayFormat.open(path)
    guard let name = file.tensorNames.first, let tensor = file.tensor(name) else {
      throw CheckpointError(path: path, .missing(key: "an array", expected: "samples"))
    }
    let own = Array(tensor.shape.dropFirst())
    guard own == shape.dimensions || own + [1] == shape.dimensions, !own.isEmpty else {
      throw CheckpointError(
        path: path,
        .badValue(
          found: "an array of \(tensor.shape)", expected: "[samples] and \(shape) of the network"))
    }
    guard tensor.shape[0] > 0 else {
      throw CheckpointError(path: path, .badValue(found: "no samples", expected: "at least one"))
    }
    guard tensor.dtype.isFloat || tensor.dtype == .uint8 else {
      throw CheckpointError(
        path: path, .typeMismatch(found: tensor.dtype, expected: "U8 or floats"))
    }
    if tensor.dtype.isFloat {
      let bad = countNotFinite(tensor.floats().span)
      guard bad == 0 else {
        throw CheckpointError(path: path, .notFinite(count: bad, total: tensor.count))
      }
    }
    self.path = path
    self.shape = shape
    self.tensor = tensor
    count = tensor.shape[0]
  }

  /// Some samples as a network reads them, `[samples * rows, channels]`.
  public func features(_ samples: Range<Int>, _ normalization: SampleNormalization) -> Matrix {
    let range = samples.lowerBound * shape.values..<samples.upperBound * shape.values
    var values = tensor.floats(elements: range)
    if !tensor.dtype.isFloat {
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

  /// What the network reads where the array has 0, a value for each channel, or one for all.
  func zero(_ normalization: SampleNormalization) -> [Float] {
    if tensor.dtype.isFloat { return [0] }
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

// Networks that read samples of numbers instead of a text's ids: pictures, signals, tables.

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
  /// What a row of a batch is.
  var input: SampleShape { get }
  /// Samples that are run together.
  var batchSamples: Int { get }
}

extension FeatureNetwork {
  /// About 2¹⁸ numbers of the input's size times 16 channels.
  public var batchSamples: Int { max(1, min(256, (1 << 14) / max(1, input.rows))) }
}

/// One input of a network over samples.
public struct SampleInput: Sendable, Equatable {
  /// What the model calls it, and an archive of samples its array.
  public let name: String
  /// Of one sample.
  public let shape: SampleShape
  /// Where the numbers are ids, such as words of a vocabulary: they are whole and below this. Nil for other numbers.
  public let idLimit: Int?

  /// An input.
  public init(_ name: String, _ shape: SampleShape, idLimit: Int? = nil) {
    self.name = name
    self.shape = shape
    self.idLimit = idLimit
  }
}

/// One of the results that a network gives for a sample.
public struct SampleResult: Sendable, Equatable {
  /// What the model calls it.
  public let name: String
  /// How many numbers it has: labels, where they are logits or probabilities.
  public let count: Int
  /// What they are.
  public let kind: SampleOutput

  /// A result.
  public init(_ name: String, count: Int, kind: SampleOutput) {
    self.name = name
    self.count = count
    self.kind = kind
  }

  /// Whether the numbers tell labels.
  public var isClassifier: Bool { kind != .values }
}

/// A network that gives one row of numbers a sample.
public protocol SampleNetwork: FeatureNetwork {
  /// What it reads.
  var inputs: [SampleInput] { get }
  /// What makes its input of integers that are no ids.
  var normalization: SampleNormalization { get }
  /// What it gives, in the order in which the numbers of a row stand.
  var results: [SampleResult] { get }
  /// The numbers `[samples, outputCount]` of the stream behind the last branch.
  func outputs(of hidden: Matrix, _ batch: TokenBatch) -> Matrix
  /// The numbers `[samples, outputCount]` of a batch.
  func outputs(_ batch: TokenBatch) -> Matrix
}

extension SampleNetwork {
  /// Through the branches, unless a network knows a shorter way.
  public func outputs(_ batch: TokenBatch) -> Matrix { outputs(of: hidden(batch), batch) }

  /// What a row of the batch is: the one input's shape, or all values of several inputs, one after the other.
  public var input: SampleShape {
    inputs.count == 1
      ? inputs[0].shape : SampleShape([inputs.reduce(0) { $0 + $1.shape.values }])
  }

  /// Numbers of a row.
  public var outputCount: Int { results.reduce(0) { $0 + $1.count } }

  /// Where each result's numbers stand in a row.
  public var resultRanges: [Range<Int>] {
    var start = 0
    return results.map { result in
      defer { start += result.count }
      return start..<start + result.count
    }
  }

  /// Whether a result tells labels.
  public var isClassifier: Bool { results.contains(where: \.isClassifier) }

  /// About 2¹⁸ numbers of the largest input's size times 16 channels.
  public var batchSamples: Int {
    max(1, min(256, (1 << 14) / max(1, inputs.map(\.shape.rows).max() ?? 1)))
  }

  /// A batch of the network's input, `[samples * input.rows, channels]`.
  public func batch(_ features: Matrix, tape: GradientTape? = nil) -> TokenBatch {
    TokenBatch(features: features, rowsPerSample: input.rows, tape: tape)
  }

  /// Logits of what the network gives: the logarithms of probabilities are logits too.
  public func logits(_ outputs: Matrix) -> Matrix {
    let ranges = zip(resultRanges, results).filter { $1.kind == .probabilities }.map(\.0)
    guard !ranges.isEmpty else { return outputs }
    var result = outputs
    for row in 0..<result.rows {
      for range in ranges {
        for column in range {
          let i = row * result.columns + column
          result.values[i] = Foundation.log(max(result.values[i], 1e-30))
        }
      }
    }
    return result
  }
}

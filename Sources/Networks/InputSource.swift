// Where a group of linear layers gets its inputs from: what a factor of each input channel can be moved into.

import Tensors

/// What makes the inputs of a group.
public enum InputSource {
  /// A norm whose output nothing else reads: a factor of a channel is a factor of the norm's weight.
  case norm(weight: String)
  /// The rows of a linear layer, channel by channel, with nothing in between that a factor does not pass.
  case rows(of: Linear)
  /// Attention's mixture of the value layer's rows, head by head; probabilities sum to 1, so that the layer's bias
  /// passes as its rows do.
  case values(of: Linear, heads: HeadLayout)
  /// Something that a factor cannot be moved into.
  case fixed

  /// The linear layer that makes the inputs, with the row that each input channel comes from; nil for other sources.
  public var layer: (linear: Linear, rows: [Int])? {
    switch self {
    case .norm, .fixed: nil
    case .rows(let linear): (linear, Array(0..<linear.matrix.outputs))
    case .values(let linear, let heads): (linear, heads.valueRows)
    }
  }
}

/// How attention's heads share keys and values.
public struct HeadLayout: Sendable, Equatable {
  /// Heads of the queries.
  public let heads: Int
  /// Heads of the keys and values, which divide `heads`.
  public let keyHeads: Int
  /// Channels of a head.
  public let size: Int

  /// The value layer's row behind each channel of the mixture, `[heads * size]`.
  public var valueRows: [Int] {
    (0..<heads * size).map { $0 / size / (heads / keyHeads) * size + $0 % size }
  }
}

/// A residual stream that only norms without mean and bias read, so that any rotation of it can be moved into the
/// layers around it.
public struct RotatableStream {
  /// Each norm with the layers that read it.
  public let readers: [(norm: String, layers: [Linear])]
  /// The layers whose outputs are added to the stream.
  public let writers: [Linear]
  /// The norm before the head.
  public let finalNorm: String
}

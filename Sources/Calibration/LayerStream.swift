// Walks a network branch by branch with the activations of a calibration set, so that only one branch's
// inputs exist at a time, and later branches see what earlier ones have become.

public import LinearAlgebra
public import Networks
import Tensors

/// The residual streams of a calibration set on their way through a network.
public struct LayerStream {
  private let network: any Network
  private let batches: [TokenBatch]
  private var hidden: [Matrix]
  /// The branch that comes next.
  public private(set) var position = 0

  /// Tokens of a batch.
  public static let batchTokens = 2048

  /// The streams before the first branch.
  public init(network: any Network, set: CalibrationSet) {
    self.network = network
    batches = set.batches(tokens: Self.batchTokens).map { TokenBatch(Array(set.sequences[$0])) }
    hidden = batches.map { network.embed($0, position: 0) }
  }

  /// The second moments of what one group of the next branch reads.
  public func inputs(ofGroup group: Int) -> SecondMoment {
    let sublayer = network.sublayers[position]
    var moment = SecondMoment(width: sublayer.groups[group][0].matrix.inputs)
    for (batch, hidden) in zip(batches, hidden) {
      moment.add(sublayer.run(hidden, batch, cache: nil, inputOf: group))
    }
    return moment
  }

  /// Runs the next branch, as it is now, and moves behind it.
  public mutating func advance() {
    let sublayer = network.sublayers[position]
    for index in batches.indices {
      hidden[index] = sublayer.run(hidden[index], batches[index], cache: nil, inputOf: nil)
    }
    position += 1
  }

  /// The second moments of what the head reads; all branches have run.
  public func headInputs(of model: any LanguageModel) -> SecondMoment {
    precondition(position == network.sublayers.count)
    var moment = SecondMoment(width: model.head.matrix.inputs)
    for hidden in hidden { moment.add(model.normalize(hidden)) }
    return moment
  }
}

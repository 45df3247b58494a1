// Which layers of a network can go.
//
// A layer of the result is an attention branch and the MLP behind it. They need not come from one layer of the source:
// when an MLP and the attention behind it go, the attention before and the MLP behind become neighbours. So what goes is
// any two branches that stand next to each other, and what stays still alternates: an ordinary model of fewer layers.

import Calibration
import Networks
import Pruning
import Tensors

/// Chooses the branches that go, two neighbours at a time.
final class StructuredLayers {
  private let network: any StructuredNetwork
  private let set: CalibrationSet?
  private let importance: LayerImportance
  /// The branches that stay after 0, 1, 2 … removals, as far as anyone asked.
  private var choices: [[Int]]
  /// 1 − cos over each two neighbours.
  private var influences: [Double] = []
  private var probe: LossProbe?

  /// Tokens that `perplexity` measures each choice on.
  static let probeTokens = 8192

  /// - Parameter set: May be nil for `order` alone.
  init(network: any StructuredNetwork, set: CalibrationSet?, importance: LayerImportance) {
    precondition(set != nil || importance == .order)
    self.network = network
    self.set = set
    self.importance = importance
    choices = [Array(network.sublayers.indices)]
  }

  /// The branches that stay when some pairs go; at least one pair stays.
  func branches(removing count: Int) throws -> [Int] {
    precondition(2 * count < network.sublayers.count)
    guard let set, importance != .order else { return evenlySpaced(count) }
    while choices.count <= count {
      let left = choices[choices.count - 1]
      choices.append(
        try importance == .influence ? leastInfluence(left, set) : leastLoss(left, set))
    }
    return choices[count]
  }

  private func evenlySpaced(_ count: Int) -> [Int] {
    let layers = network.sublayers.count / 2
    let gone = Set((0..<count).map { ($0 * layers + layers / 2) / count })
    return network.sublayers.indices.filter { !gone.contains($0 / 2) }
  }

  /// Without the two neighbours that turn the stream least in the whole network.
  private func leastInfluence(_ left: [Int], _ set: CalibrationSet) -> [Int] {
    if influences.isEmpty { influences = measure(set) }
    // Neighbours by now need not have been neighbours at first: there both turn the stream by themselves.
    let costs = (0..<left.count - 1).map { place -> Double in
      left[place + 1] == left[place] + 1 ? influences[left[place]] : .infinity
    }
    let best = costs.indices.min { (costs[$0], $0) < (costs[$1], $1) } ?? 0
    return Self.removing(costs[best].isFinite ? best : left.count - 2, from: left)
  }

  private func measure(_ set: CalibrationSet) -> [Double] {
    var influences = [BlockInfluence](
      repeating: BlockInfluence(), count: network.sublayers.count - 1)
    for range in set.batches(tokens: LayerStream.batchTokens) {
      let batch = TokenBatch(Array(set.sequences[range]))
      var before: Matrix?
      var current = network.embed(batch, position: 0)
      for (index, sublayer) in network.sublayers.enumerated() {
        let next = sublayer.run(current, batch, cache: nil, inputOf: nil)
        if let before { influences[index - 1].add(before: before, behind: next) }
        before = current
        current = next
      }
    }
    return influences.map(\.mean)
  }

  /// Without the two neighbours that the model predicts text best without.
  private func leastLoss(_ left: [Int], _ set: CalibrationSet) throws -> [Int] {
    let probe = probe ?? LossProbe(network: network, set: set.first(tokens: Self.probeTokens))
    self.probe = probe
    let losses = try (0..<left.count - 1).map {
      try probe.loss(branches: Self.removing($0, from: left))
    }
    return Self.removing(
      losses.indices.min { (losses[$0], $0) < (losses[$1], $1) } ?? 0, from: left)
  }

  private static func removing(_ place: Int, from branches: [Int]) -> [Int] {
    var branches = branches
    branches.removeSubrange(place..<place + 2)
    return branches
  }
}

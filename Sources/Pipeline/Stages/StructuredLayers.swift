// Which layers, or which single branches, of a network can go.
//
// A layer of the result is an attention branch and the MLP behind it. They need not come from one layer of the source:
// when an MLP and the attention behind it go, the attention before and the MLP behind become neighbours. So what goes is
// any two branches that stand next to each other, and what stays still alternates: an ordinary model of fewer layers.
//
// Single branches go one by one, whichever they are. Source of the choice by perplexity: Zhong et al., "BlockPruner:
// Fine-grained Pruning for Large Language Models", 2024, arXiv:2406.10594, algorithm 1.

import Calibration
import Networks
import Pruning
import Tensors

/// Chooses the branches that go, two neighbours at a time or one by one.
final class StructuredLayers {
  private let network: any StructuredNetwork
  private let set: CalibrationSet?
  private let importance: LayerImportance
  /// Neighbours that go together: 2 for layers, 1 for single branches.
  private let unit: Int
  private let journal: SearchJournal?
  /// The branches that stay after 0, 1, 2 … removals, as far as anyone asked.
  private var choices: [[Int]]
  /// 1 − cos over each unit.
  private var influences: [Double] = []
  private var probe: LossProbe?

  /// Tokens that `perplexity` measures each choice on.
  static let probeTokens = 8192

  /// - Parameters:
  ///   - set: May be nil for `order` alone.
  ///   - unit: Neighbours that go together: 2 for layers, 1 for single branches.
  ///   - journal: Keeps what `perplexity` chose.
  init(
    network: any StructuredNetwork, set: CalibrationSet?, importance: LayerImportance,
    unit: Int = 2, journal: SearchJournal? = nil
  ) {
    precondition(set != nil || importance == .order)
    self.network = network
    self.unit = unit
    self.journal = journal
    self.set = set
    self.importance = importance
    choices = [Array(network.sublayers.indices)]
  }

  /// The branches that stay when some units go; something stays.
  func branches(removing count: Int) throws -> [Int] {
    precondition(unit * count < network.sublayers.count)
    guard let set, importance != .order else { return evenlySpaced(count) }
    while choices.count <= count {
      let left = choices[choices.count - 1]
      choices.append(
        try importance == .influence ? leastInfluence(left, set) : leastLoss(left, set))
    }
    return choices[count]
  }

  private func evenlySpaced(_ count: Int) -> [Int] {
    let units = network.sublayers.count / unit
    let gone = Set((0..<count).map { ($0 * units + units / 2) / count })
    return network.sublayers.indices.filter { !gone.contains($0 / unit) }
  }

  /// Without the unit that turns the stream least in the whole network.
  private func leastInfluence(_ left: [Int], _ set: CalibrationSet) -> [Int] {
    if influences.isEmpty { influences = measure(set) }
    // Neighbours by now need not have been neighbours at first: there both turn the stream by themselves.
    let costs = (0...left.count - unit).map { place -> Double in
      left[place + unit - 1] == left[place] + unit - 1 ? influences[left[place]] : .infinity
    }
    let best = costs.indices.min { (costs[$0], $0) < (costs[$1], $1) } ?? 0
    return removing(costs[best].isFinite ? best : left.count - unit, from: left)
  }

  private func measure(_ set: CalibrationSet) -> [Double] {
    var influences = [BlockInfluence](
      repeating: BlockInfluence(), count: network.sublayers.count - unit + 1)
    for range in set.batches(tokens: LayerStream.batchTokens) {
      let batch = TokenBatch(Array(set.sequences[range]))
      // The stream before the branch, and before those that make a unit with it.
      var streams = [network.embed(batch, position: 0)]
      for (index, sublayer) in network.sublayers.enumerated() {
        let next = sublayer.run(streams[streams.count - 1], batch, cache: nil, inputOf: nil)
        if streams.count == unit {
          influences[index - unit + 1].add(before: streams.removeFirst(), behind: next)
        }
        streams.append(next)
      }
    }
    return influences.map(\.mean)
  }

  /// Without the unit that the model predicts text best without.
  private func leastLoss(_ left: [Int], _ set: CalibrationSet) throws -> [Int] {
    func best() throws -> Double {
      let probe = probe ?? LossProbe(network: network, set: set.first(tokens: Self.probeTokens))
      self.probe = probe
      let losses = try probe.losses(of: left, withoutEach: unit)
      return Double(losses.indices.min { (losses[$0], $0) < (losses[$1], $1) } ?? 0)
    }
    let place = try journal?.figure("\(unit) of \(left)", best) ?? best()
    return removing(min(max(0, Int(place)), left.count - unit), from: left)
  }

  private func removing(_ place: Int, from branches: [Int]) -> [Int] {
    var branches = branches
    branches.removeSubrange(place..<place + unit)
    return branches
  }
}

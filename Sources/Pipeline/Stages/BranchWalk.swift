// The walk over the branches of a model that quantizing and pruning share: which group of layers comes when, and which
// inputs it sees.

import Calibration
import LinearAlgebra
import Networks

/// What is known of a group's inputs.
struct GroupInputs {
  let statistics: InputStatistics
  /// Tokens that a router sent the group in the whole calibration; nil for groups that read every token.
  let routedTokens: Int?

  /// With fewer tokens an expert's second moments say little but which few directions they happened to have: a method
  /// that trusts them does worse than rounding. An expert of a few hundred inputs sees such a number in any
  /// calibration that reaches it at all.
  static let leastTokens = 64

  /// - Parameter routedTokens: With too few of them all inputs count alike instead: what methods then do is rounding,
  ///   or pruning by magnitude, and a fallback.
  init(_ statistics: InputStatistics, routedTokens: Int?) {
    self.routedTokens = routedTokens
    guard let routedTokens, routedTokens < Self.leastTokens, let size = statistics.moment?.size
    else {
      self.statistics = statistics
      return
    }
    let alike = DoubleMatrix(identity: size)
    self.statistics =
      statistics.cross == nil ? .moment(alike) : .asymmetric(moment: alike, cross: alike)
  }
}

/// Goes through the branches of a model while a stage changes their matrices.
struct BranchWalk {
  /// Each group of layers sees inputs from the groups before it as they are now; otherwise the groups of a branch see
  /// the branch as it was.
  let trueSequential: Bool
  /// Whether a layer is to be changed.
  let isChanged: (Linear) -> Bool
  /// What is to be known of a group's inputs.
  let statistics: (_ stream: LayerStream, _ group: Int) -> InputStatistics
  /// Changes a layer; the statistics are measured when they are asked for, once for a group.
  let change: (_ linear: Linear, _ inputs: () -> GroupInputs) throws -> Void
  /// Hears of each branch that the walk has left behind.
  var left: (_ sublayer: any Sublayer) -> Void = { _ in }

  /// Goes through all branches and leaves the stream behind the last one.
  func run(
    _ network: any Network, _ stream: LayerStream, progress: (Double) -> Void
  ) throws {
    for (index, sublayer) in network.sublayers.enumerated() {
      progress(Double(index) / Double(network.sublayers.count))
      try run(sublayer, stream)
      stream.advance()
      left(sublayer)
    }
  }

  /// One branch, group by group.
  private func run(_ sublayer: any Sublayer, _ stream: LayerStream) throws {
    let groups = sublayer.groups
    var early: [Int: GroupInputs] = [:]
    func inputs(_ group: Int) -> GroupInputs {
      let statistics = statistics(stream, group)
      return GroupInputs(
        statistics, routedTokens: sublayer.isRouted(group) ? stream.tokens : nil)
    }
    let needed = groups.indices.filter { groups[$0].contains(where: isChanged) }
    if !trueSequential {
      // All of them before the first layer changes, in a resumed run too: the bytes must be the same.
      for group in needed { early[group] = inputs(group) }
      stream.restart()
    }
    for group in needed {
      var known = early[group]
      for linear in groups[group] where isChanged(linear) {
        try change(linear) {
          let current = known ?? inputs(group)
          known = current
          return current
        }
      }
    }
  }
}

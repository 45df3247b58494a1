// The walk over the branches of a model that quantizing and pruning share: which group of layers comes when, and which
// inputs it sees.

import Calibration
import LinearAlgebra
import Networks

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
  let change: (_ linear: Linear, _ statistics: () -> InputStatistics) throws -> Void
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
    var early: [Int: InputStatistics] = [:]
    let needed = groups.indices.filter { groups[$0].contains(where: isChanged) }
    if !trueSequential {
      // All of them before the first layer changes, in a resumed run too: the bytes must be the same.
      for group in needed { early[group] = statistics(stream, group) }
      stream.restart()
    }
    for group in needed {
      var known = early[group]
      for linear in groups[group] where isChanged(linear) {
        try change(linear) {
          let current = known ?? statistics(stream, group)
          known = current
          return current
        }
      }
    }
  }
}

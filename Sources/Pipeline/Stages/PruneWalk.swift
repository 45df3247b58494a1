// The walk that prunes a model's matrices: which one, with which inputs, and what an interrupted run left.

import Calibration
import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// The walk over the matrices of a model.
final class PruneWalk {
  private let assignment: PruneAssignment
  private let weights: WeightPruning
  private let checkpoint: any Checkpoint
  private let output: StageOutput
  private let progress: (String, Double) -> Void
  private let finished: (LayerRecord, Double) -> Void
  private var layers: [FinishedLayer] = []
  private(set) var resumedLayers = 0
  /// Tokens of the expert that the walk is at; nil at other matrices.
  private var routedTokens: Int?

  init(
    _ weights: WeightPruning, assignment: PruneAssignment, checkpoint: any Checkpoint,
    output: StageOutput, progress: @escaping (String, Double) -> Void,
    finished: @escaping (LayerRecord, Double) -> Void
  ) {
    self.weights = weights
    self.assignment = assignment
    self.checkpoint = checkpoint
    self.output = output
    self.progress = progress
    self.finished = finished
  }

  /// Prunes all matrices that have a goal.
  ///
  /// - Parameter network: Nil for a checkpoint without a known architecture.
  func run(network: (any Network)?, set: CalibrationSet?) throws -> [FinishedLayer] {
    guard let network else {
      for (index, item) in assignment.items.enumerated() {
        progress("prune", Double(index) / Double(assignment.items.count))
        guard let goal = item.goal else { continue }
        let weight = try item.site.weight(in: checkpoint)
        _ = try finish(item.site.name, goal, weight) { .none }
      }
      return layers
    }
    let embeddings = network.embeddings.map(\.matrix)
    if let tokens = network as? any TokenNetwork {
      try pruneEmbedding(tokens, set)
    } else {
      for table in network.embeddings { try prune(table) { .none } }
    }
    guard let set else {
      for linear in network.linearLayers { try prune(linear) { .none } }
      if let model = network as? any TokenPredictor, !model.isTied {
        try prune(model.head) { .none }
      }
      return layers
    }
    let stream = LayerStream(
      network: network, set: set, keepsOriginal: weights.readsOriginalInputs,
      originalEmbeddings: embeddings)
    try BranchWalk(
      trueSequential: weights.trueSequential,
      isChanged: { self.assignment[$0.weightName] != nil },
      statistics: { stream, group in
        guard self.weights.readsOriginalInputs else {
          return .moment(stream.inputs(ofGroup: group).mean())
        }
        let (moment, cross) = stream.pairedInputs(ofGroup: group).means()
        return .asymmetric(moment: moment, cross: cross)
      },
      change: { linear, inputs in
        try self.prune(linear) {
          let current = inputs()
          self.routedTokens = current.routedTokens
          return current.statistics
        }
      },
      left: { self.leave($0) }
    ).run(network, stream) { progress("prune", $0) }
    if let model = network as? any TokenPredictor, !model.isTied {
      try prune(model.head) {
        guard self.weights.readsOriginalInputs else {
          return .moment(stream.headInputs(of: model).mean())
        }
        let (moment, cross) = stream.pairedHeadInputs(of: model).means()
        return .asymmetric(moment: moment, cross: cross)
      }
    }
    progress("prune", 1)
    return layers
  }

  /// The embedding comes first, so that all branches see it as it will be. As a tied head it is measured with the head's
  /// inputs in the original model.
  private func pruneEmbedding(_ network: any TokenNetwork, _ set: CalibrationSet?) throws {
    try prune(network.embedding) {
      guard let model = network as? any TokenPredictor, model.isTied, let set else { return .none }
      let stream = LayerStream(network: network, set: set)
      for index in network.sublayers.indices {
        self.progress("head statistics", Double(index) / Double(network.sublayers.count))
        stream.advance()
      }
      return .moment(stream.headInputs(of: model).mean())
    }
  }

  /// What the walk has left behind is read again only when the folder is written: until then it stays in the files of
  /// finished layers.
  private func leave(_ sublayer: any Sublayer) {
    for linear in sublayer.groups.flatMap({ $0 }) {
      guard let layer = layers.last(where: { $0.record.tensor == linear.weightName }) else {
        continue
      }
      linear.matrix = layer.encoded.matrix
      checkpoint.tensor(linear.weightName)?.releasePages()
      for part in layer.encoded.parts { part.releasePages() }
    }
  }

  private func prune(_ linear: Linear, statistics: () -> InputStatistics) throws {
    guard let goal = assignment[linear.weightName] else { return }
    linear.matrix = try finish(linear.weightName, goal, linear.matrix, statistics: statistics)
      .matrix
  }

  /// One layer: from an earlier run, or by the method.
  private func finish(
    _ name: String, _ goal: SparsityGoal, _ weight: any LinearOperator,
    statistics: () -> InputStatistics
  ) throws -> EncodedMatrix {
    let path = output.layerPath(layers.count)
    let start = ContinuousClock.now
    if let layer = try FinishedLayer.read(path, tensor: name) {
      layers.append(layer)
      resumedLayers += 1
      finished(layer.record, 0)
      return layer.encoded
    }
    let result: PrunedWeight
    routedTokens = nil
    do throws(PruningError) {
      result = try weights.pruner.prune(weight.decoded(), statistics: statistics(), goal: goal)
    } catch {
      throw LayerError(path: checkpoint.path, tensor: name, error)
    }
    let encoded = SparseStorage.encode(
      result.weight, dtype: checkpoint.floatType(of: name), pattern: goal.pattern,
      storesZeros: weights.storesZeros)
    let layer = FinishedLayer(
      record: LayerRecord(
        result, goal, name: name, encoded: encoded, routedTokens: routedTokens),
      encoded: encoded)
    try layer.write(to: path)
    layers.append(try FinishedLayer.read(path, tensor: name) ?? layer)
    finished(layer.record, (ContinuousClock.now - start) / .seconds(1))
    return layer.encoded
  }
}

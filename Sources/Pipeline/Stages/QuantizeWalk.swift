// The walk over the matrices of a model: which one, with which inputs, and what an interrupted run left.

import Calibration
import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Pruning
import Quantization
import Tensors

/// The walk over the matrices of a model.
final class QuantizeWalk {
  /// What stays the same in every attempt to meet a goal.
  struct Setting {
    let request: QuantizeRequest
    let output: StageOutput
    let checkpoint: any Checkpoint
    /// Zeros that weights get in this walk; nil when they get none.
    let zeros: PruneAssignment?
    /// Whether the checkpoint comes from a stage that pruned.
    let wasPruned: Bool
    let imatrix: ImportanceFile?
    let knowledge: ModelKnowledge?
    let sensitivities: SensitivityTable?
    let progress: (String, Double) -> Void
    let finished: (LayerRecord, Double) -> Void
  }

  private let assignment: EncodingAssignment
  private let setting: Setting
  private let rates: RatePlan?
  private let attempt: Int
  private var layers: [FinishedLayer] = []
  /// Eigenvalues of the last second-moment matrix: layers that read the same inputs share it.
  private var lastSpectrum: (moment: DoubleMatrix, values: [Double]?)?
  private(set) var resumedLayers = 0
  /// Tokens of the expert that the walk is at; nil at other matrices.
  private var routedTokens: Int?

  private var request: QuantizeRequest { setting.request }

  /// - Parameters:
  ///   - rates: The rates of entropy-coded tensors, where they follow from a goal for the whole model.
  ///   - attempt: Tells this walk's finished layers from those of others with other rates.
  init(
    _ setting: Setting, assignment: EncodingAssignment, rates: RatePlan? = nil, attempt: Int = 0
  ) {
    self.setting = setting
    self.assignment = assignment
    self.rates = rates
    self.attempt = attempt
  }

  func run(network: (any Network)?, set: CalibrationSet?) throws -> [FinishedLayer] {
    guard let network else { return try runUnknown() }
    let embeddings = network.embeddings.map(\.matrix)
    if let tokens = network as? any TokenNetwork {
      try quantizeEmbedding(tokens, set)
    } else {
      for table in network.embeddings { try quantize(table) { self.known(table.weightName) } }
    }
    if let set {
      let stream = LayerStream(
        network: network, set: set,
        keepsOriginal: request.readsOriginalInputs, originalEmbeddings: embeddings)
      try BranchWalk(
        trueSequential: request.trueSequential, isChanged: isEncoded, statistics: statistics,
        change: { linear, inputs in
          try self.quantize(linear) {
            let current = inputs()
            self.routedTokens = current.routedTokens
            return self.setting.knowledge?.layer(linear.weightName, current.statistics)
              ?? LayerKnowledge(statistics: current.statistics)
          }
        }
      ).run(network, stream) { setting.progress("quantize", $0) }
      if let model = network as? any TokenPredictor, !model.isTied, isEncoded(model.head) {
        try quantize(model.head) {
          let statistics = self.headStatistics(stream, model)
          return setting.knowledge?.head(statistics) ?? LayerKnowledge(statistics: statistics)
        }
      }
    } else {
      for linear in network.linearLayers { try quantize(linear) { self.known(linear.weightName) } }
      if let model = network as? any TokenPredictor, !model.isTied {
        try quantize(model.head) { self.known(model.head.weightName) }
      }
    }
    setting.progress("quantize", 1)
    return layers
  }

  private func isEncoded(_ linear: Linear) -> Bool {
    guard case .encode = assignment[linear.weightName]?.target else { return false }
    return true
  }

  /// What the method wants to know of a group's inputs.
  private func statistics(_ stream: LayerStream, _ group: Int) -> InputStatistics {
    guard request.readsOriginalInputs else {
      return .moment(stream.inputs(ofGroup: group).mean())
    }
    let (moment, cross) = stream.pairedInputs(ofGroup: group).means()
    return .asymmetric(moment: moment, cross: cross)
  }

  private func headStatistics(
    _ stream: LayerStream, _ model: any TokenPredictor
  ) -> InputStatistics {
    guard request.readsOriginalInputs else {
      return .moment(stream.headInputs(of: model).mean())
    }
    let (moment, cross) = stream.pairedHeadInputs(of: model).means()
    return .asymmetric(moment: moment, cross: cross)
  }

  /// The embedding comes first, so that all branches see it as it will be. As a tied head it is measured
  /// with the head's inputs in the original model; alone, each row is read by one token, and there is no
  /// other column to push an error onto: then it is rounded.
  private func quantizeEmbedding(_ network: any TokenNetwork, _ set: CalibrationSet?) throws {
    guard isEncoded(network.embedding) else { return }
    guard let model = network as? any TokenPredictor, model.isTied, let set else {
      try quantize(network.embedding) {
        guard self.request.method == .ec, let knowledge = self.setting.knowledge else {
          return self.known(network.embedding.weightName)
        }
        return knowledge.embedding(head: nil)
      }
      return
    }
    try quantize(network.embedding) {
      let stream = LayerStream(network: network, set: set)
      for index in network.sublayers.indices {
        self.setting.progress("head statistics", Double(index) / Double(network.sublayers.count))
        stream.advance()
      }
      // Nothing is quantized yet: the inputs are the original ones.
      let moment = stream.headInputs(of: model).mean()
      if self.request.method == .ec, let knowledge = self.setting.knowledge {
        return knowledge.embedding(head: moment)
      }
      return LayerKnowledge(
        statistics: self.request.readsOriginalInputs
          ? .asymmetric(moment: moment, cross: moment) : .moment(moment))
    }
  }

  /// What an importance file says of a weight's inputs.
  private func known(_ name: String) -> LayerKnowledge {
    LayerKnowledge(
      statistics: setting.imatrix?.diagonal(of: name).map { .diagonal($0) } ?? .none)
  }

  /// One layer: from an earlier run, or by the method.
  private func quantize(_ linear: Linear, knowledge: () -> LayerKnowledge) throws {
    guard let item = assignment[linear.weightName], case .encode(let encoding) = item.target else {
      return
    }
    let weight = linear.matrix
    linear.matrix = try finish(item, onto: encoding, weight: weight, knowledge: knowledge).matrix
  }

  private func finish(
    _ item: EncodingAssignment.Item, onto encoding: any WeightEncoding,
    weight: any LinearOperator, knowledge: () -> LayerKnowledge
  ) throws -> EncodedMatrix {
    let name = item.site.name
    let path = setting.output.layerPath(layers.count, attempt: attempt)
    let start = ContinuousClock.now
    if let layer = try FinishedLayer.read(path, tensor: name) {
      layers.append(layer)
      resumedLayers += 1
      rates?.note(name, bits: Double(layer.encoded.matrix.storedBits))
      setting.finished(layer.record, 0)
      return layer.encoded
    }
    var result: QuantizedWeight, extras: LayerRecord.Extras
    routedTokens = nil
    do {
      let knowledge = knowledge(), original = weight.decoded()
      let quantizer = request.quantizer(
        for: item, onto: encoding,
        keepsZeros: request.pruning != nil
          || request.keepsZeros(on: encoding, wasPruned: setting.wasPruned),
        goal: rates?.goal(of: name), knowledge)
      if let goal = setting.zeros?[name], let pruning = request.pruning {
        result = try quantizer.quantize(
          original, pruning.pruner, goal, statistics: knowledge.statistics, encoding: encoding)
      } else {
        result = try quantizer.quantizeAndRepair(
          original, statistics: knowledge.statistics, encoding: encoding)
      }
      extras = self.extras(result, of: original, name, knowledge.statistics)
      if let pattern = zeroPattern(of: name),
        let sparse = SparseEncoding.packed(result.encoded, pattern: pattern)
      {
        result = result.stored(as: sparse)
      }
    } catch let error as QuantizationError {
      throw LayerError(path: setting.checkpoint.path, tensor: name, error)
    } catch let error as PruningError {
      throw LayerError(path: setting.checkpoint.path, tensor: name, error)
    }
    let layer = FinishedLayer(
      record: LayerRecord(
        result, name: name, isFallback: item.insteadOf != nil || extras.isStarved, extras: extras),
      encoded: result.encoded)
    try layer.write(to: path)
    layers.append(layer)
    rates?.note(name, bits: Double(layer.encoded.matrix.storedBits))
    setting.finished(layer.record, (ContinuousClock.now - start) / .seconds(1))
    return layer.encoded
  }

  /// What the zeros of a tensor keep to, where it has any on purpose.
  private func zeroPattern(of name: String) -> SparsityPattern? {
    if let goal = setting.zeros?[name] { return goal.pattern }
    guard setting.wasPruned else { return nil }
    let stored = setting.checkpoint.manifest[name]?.encoding as? SparseEncoding
    return stored?.pattern ?? .unstructured
  }

  /// The matrices of a checkpoint without a known architecture, each for itself.
  private func runUnknown() throws -> [FinishedLayer] {
    for (index, item) in assignment.items.enumerated() {
      guard case .encode(let encoding) = item.target else { continue }
      setting.progress("quantize", Double(index) / Double(assignment.items.count))
      let weight = try item.site.weight(in: setting.checkpoint)
      _ = try finish(item, onto: encoding, weight: weight) { known(item.site.name) }
    }
    return layers
  }

  /// What is told of a layer beside the method's own figures.
  private func extras(
    _ result: QuantizedWeight, of weight: Matrix, _ name: String, _ statistics: InputStatistics
  ) -> LayerRecord.Extras {
    var extras = LayerRecord.Extras(routedTokens: routedTokens)
    if setting.zeros?[name] != nil || setting.wasPruned {
      let reached = result.encoded.matrix.decoded().values.count { $0 == 0 }
      extras.zeros = LayerRecord.Zeros(
        asked: setting.zeros?[name]?.zeros ?? weight.values.count { $0 == 0 }, reached: reached,
        share: Double(reached) / Double(max(1, weight.values.count)))
    }
    if let entry = setting.sensitivities?[name] {
      extras.predictedDrift = entry.driftPerError * result.relativeError
    }
    guard request.measuresLimit else { return extras }
    guard let moment = statistics.moment else {
      extras.bitsAboveLimit = .some(nil)
      return extras
    }
    let spectrum: [Double]?
    if let last = lastSpectrum, last.moment == moment {
      spectrum = last.values
    } else {
      spectrum = eigenvalues(of: moment)
      lastSpectrum = (moment, spectrum)
    }
    extras.bitsAboveLimit = .some(
      spectrum.flatMap {
        rateDistanceToLimit(
          weight, result.encoded, error: result.roundingError, moment: moment, spectrum: $0)
      })
    return extras
  }
}

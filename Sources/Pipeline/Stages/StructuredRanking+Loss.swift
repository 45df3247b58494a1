// What the loss feels of a network's heads and channels: backward passes over part of the calibration set.

import Calibration
import Networks
import Pruning
import Tensors

extension StructuredMeasurement {
  func measureCurvature() -> LossCurvature? {
    guard let set else { return nil }
    var names: Set<String> = []
    for sublayer in network.sublayers {
      names.formUnion((sublayer.groups.last ?? []).map(\.weightName))
      if cutsWidth { names.formUnion(sublayer.groups[0].map(\.weightName)) }
    }
    let options = LossCurvature.Options(
      tokens: Self.gradientTokens, measuresInputs: false, weights: names)
    let part = set.first(tokens: Self.gradientTokens)
    if let model = network as? any LanguageModel {
      return LossCurvature.measure(model, set: part, options: options)
    }
    return (network as? any TextEncoder).map {
      LossCurvature.measure($0, set: part, options: options)
    }
  }

  /// For each output layer the importance of its inputs, or heads of them.
  func measureGates() -> [String: [Double]]? {
    guard let set, let model = network as? any LanguageModel else { return nil }
    let collector = GateCollector(network)
    let part = set.first(tokens: Self.gradientTokens)
    for range in part.batches(tokens: LayerStream.batchTokens) {
      let batch = TokenBatch(Array(part.sequences[range]), tape: GradientTape())
      collector.sequences = batch.sequences
      let next = batch.nextTokens
      model.backpropagate(model.hidden(batch), observer: collector) { rows, logits in
        let columns = logits.columns
        for (index, row) in rows.enumerated() {
          var values = logits.values.mutableSpan
          var target = values._mutatingExtracting(index * columns..<(index + 1) * columns)
          guard let label = next[row] else {
            for i in target.indices { target[i] = 0 }
            continue
          }
          RowKernels.softmax(&target, scale: 1)
          target[Int(label)] -= 1
        }
      }
    }
    return collector.means
  }
}

extension TokenBatch {
  /// For each token the one behind it in its sequence; nil for the last.
  var nextTokens: [Int32?] {
    sequences.flatMap { range -> [Int32?] in
      range.map { $0 + 1 < range.upperBound ? tokens[$0 + 1] : nil }
    }
  }
}

/// Adds up the gradients of gates in front of the inputs of each branch's output layer.
private final class GateCollector: GradientObserver {
  private var sums: [String: GateImportance] = [:]
  private let layers: [String: Linear]
  /// Of the batch whose backward pass comes next.
  var sequences: [Range<Int>] = []

  init(_ network: any StructuredNetwork) {
    let size = network.structure.headSize
    var layers: [String: Linear] = [:]
    for (sublayer, branch) in zip(network.sublayers, network.structure.branches) {
      guard let output = sublayer.groups.last?.first else { continue }
      let unit = branch.isAttention ? size : 1
      layers[output.weightName] = output
      sums[output.weightName] = GateImportance(
        groups: output.matrix.inputs / unit, groupSize: unit)
    }
    self.layers = layers
  }

  func wants(_ parameter: String) -> Bool { layers[parameter] != nil }

  func receive(_ parameter: String, _ gradient: ParameterGradient) {
    guard case .product(let inputs, let outputs) = gradient, let layer = layers[parameter] else {
      return
    }
    sums[parameter]?.add(
      inputs, gradient: layer.matrix.applyTransposed(to: outputs), sequences: sequences)
  }

  var means: [String: [Double]] { sums.mapValues(\.means) }
}

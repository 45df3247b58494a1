// Students that are made before they are trained: fewer layers of the input, or random weights of its shapes.

import Checkpoints
import Distillation
import JSONDocuments
import Networks
import Pruning
import Tensors

/// A configuration of a student with fewer layers than the input.
struct StudentConfiguration {
  let path: String

  /// The input's model with so many layers, taken evenly from the first to the last.
  func checkpoint(of input: any Checkpoint) throws -> any Checkpoint {
    let wanted = try CheckpointFolder.json(at: path)
    let network = try StructuredRun.network(of: input), structure = network.structure
    let all = structure.sizes.layers, layersKey = structure.sizeKeys.layers
    for member in input.configuration.object?.members ?? [] {
      let isOfLayers =
        member.key == layersKey || structure.layerLists.contains(member.key)
      guard !isOfLayers, let own = wanted[member.key], own != member.value else { continue }
      throw DistillRequestError.configuration(
        key: member.key, found: own.compactText, expected: member.value.compactText)
    }
    guard let layers = wanted[layersKey]?.integer, layers > 0, layers <= all else {
      throw DistillRequestError.configuration(
        key: layersKey, found: wanted[layersKey]?.compactText ?? "nothing",
        expected: "\(all)")
    }
    // The first and the last layer stay; the others lie as far apart as they can.
    let kept = Set(
      (0..<layers).map { layers == 1 ? 0 : ($0 * (all - 1) + (layers - 1) / 2) / (layers - 1) })
    let ranking = try StructuredMeasurement(
      network: network, set: nil, importance: .order, cutsWidth: false, damping: 0.01
    ) { _ in }.ranking()
    let branches = structure.branches.indices.filter {
      structure.branches[$0].layer.map(kept.contains) == true
    }
    return StructuredCheckpoint(
      input, structure,
      cut: ranking.cut(
        layers: StructuredCut.layers(of: branches, in: structure), to: structure.sizes,
        of: structure.sizes))
  }
}

/// Random weights as models start with: normal with the configuration's deviation, norms of one, biases of zero.
struct RandomStart {
  let deviation: Double
  let seed: UInt64

  init(_ configuration: JSONValue, seed: UInt64) {
    deviation = configuration["initializer_range"]?.number ?? 0.02
    self.seed = seed
  }

  func apply(to model: TrainedModel) {
    for parameter in model.parameters {
      switch parameter.kind {
      case .matrix, .embedding:
        var stream = RandomStream(seed: seed, name: "start of " + parameter.name)
        parameter.values = parameter.values.map { _ in Float(stream.gaussian() * deviation) }
      default:
        let value: Float = parameter.name.hasSuffix(".bias") ? 0 : 1
        parameter.values = parameter.values.map { _ in value }
      }
    }
  }
}

// A checkpoint whose batch norms have become part of the layers before them.

public import Checkpoints
import Encodings
import Networks
import Tensors

/// Folds norms.
public enum NormFolding {
  /// The checkpoint without its norms.
  ///
  /// - Throws: `CheckpointError` for a network without such norms, and for weights in encodings, whose codes the factors
  ///   would leave.
  public static func folded(_ input: any Checkpoint) throws -> any Checkpoint {
    let network = try FamilyRegistry.network(of: input)
    func refused(_ what: String, tensor: String? = nil) -> CheckpointError {
      CheckpointError(
        path: input.path, tensor: tensor, .unsupported("folding the norms of " + what))
    }
    guard let foldable = network as? any FoldableNetwork else {
      throw refused("a \(network.family) model, which has no batch norms")
    }
    guard foldable.isToldByTensors else {
      throw refused("this model, whose configuration lists its layers")
    }
    let norms = foldable.foldableNorms
    guard !norms.isEmpty else { throw refused("this model: no batch norm stands behind a layer") }
    var changed: [String: Tensor] = [:], added: [String] = []
    for norm in norms {
      let layer = norm.layer, name = layer.weightName
      if let entry = input.manifest[name], entry.encoding.exactFloats == nil {
        throw refused(
          "weights stored as \(entry.encoding.name): fold first, then quantize", tensor: name)
      }
      var matrix = layer.matrix.decoded()
      for row in 0..<matrix.rows {
        for i in matrix.range(ofRow: row) { matrix.values[i] *= norm.scale[row] }
      }
      let type = input.floatType(of: name)
      changed[name] = Tensor(
        .float32, shape: layer.layout?.shape ?? [matrix.rows, matrix.columns],
        copying: layer.layout?.tensorValues(of: matrix) ?? matrix.values
      ).converted(to: type)
      let bias = norm.shift.indices.map {
        (layer.bias?[$0] ?? 0) * norm.scale[$0] + norm.shift[$0]
      }
      changed[layer.biasName] = Tensor(.float32, shape: [bias.count], copying: bias)
        .converted(to: type)
      if layer.bias == nil { added.append(layer.biasName) }
    }
    let removed = input.tensorNames.filter { tensor in
      norms.contains { tensor.hasPrefix($0.prefix) }
    }
    return TransformedCheckpoint(
      input, changed: changed, added: added, removed: Set(removed))
  }
}

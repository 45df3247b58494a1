// What does not go with low-rank repairs: zeros that are to stay, and goals for the whole model.

import Checkpoints
import Encodings
import Quantization

extension QuantizeRun {
  /// Refuses repairs of weights whose zeros are to stay, which the factors would fill, and repairs beside a goal.
  func checkRepair() throws {
    let repaired = try assignment().items.compactMap { item -> (tensor: String, as: Repaired)? in
      guard case .encode(let encoding as Repaired) = item.target else { return nil }
      return (item.site.name, encoding)
    }
    guard let first = repaired.first else { return }
    // Sensitivities are measured on some rows of a matrix, which say nothing of its singular values.
    if request.isAllocated { throw EncodingRuleError.repairBesideGoal(encoding: first.as.name) }
    let wasPruned = Lineage.holds("prune", in: try Lineage.parent(of: input))
    guard
      let kept = repaired.first(where: { request.keepsZeros(on: $0.as, wasPruned: wasPruned) })
    else { return }
    throw LayerError(
      path: input.path, tensor: kept.tensor,
      QuantizationError.repairFillsZeros(encoding: kept.as.name))
  }
}

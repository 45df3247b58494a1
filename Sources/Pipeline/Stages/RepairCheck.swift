// What does not go with low-rank repairs: zeros that are to stay.

import Checkpoints
import Encodings
import Quantization

extension QuantizeRun {
  /// Refuses repairs of weights whose zeros are to stay: the factors fill them.
  func checkRepair() throws {
    let items = try assignment().items
    guard
      let first = items.first(where: {
        if case .encode(let encoding) = $0.target { encoding is Repaired } else { false }
      }), case .encode(let encoding) = first.target
    else { return }
    // Sensitivities are measured on some rows of a matrix, which say nothing of its singular values.
    if request.isAllocated { throw EncodingRuleError.repairBesideGoal(encoding: encoding.name) }
    let wasPruned = Lineage.holds("prune", in: try Lineage.parent(of: input))
    guard request.keepsZeros(on: encoding, wasPruned: wasPruned) else { return }
    throw LayerError(
      path: input.path, tensor: first.site.name,
      QuantizationError.repairFillsZeros(encoding: encoding.name))
  }
}

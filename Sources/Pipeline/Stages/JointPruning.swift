// Zeros and codes in one pass over the model.
//
// Source   the order of work of Frantar, Alistarh, "SparseGPT", ICML 2023, arXiv:2301.00774, section 3.5 (joint
//          sparsification and quantization): what stays is rounded before the next layer is measured
// Given    W [outputs, inputs]; statistics of the inputs as they are by now, and of the original model's
// Result   codes on a support: the pruner chooses the support and the best weights P on it; GPTQ rounds P, and what is
//          pushed onto a removed weight goes on to later columns
// Why      with G = H + damping I and P the least-squares weights on their support, every Q on that support has
//          |W - Q|^2_G = |W - P|^2_G + |P - Q|^2_G: rounding P is rounding W. What two stages one after the other lose is
//          that the second takes the first one's outputs for the truth; here both are measured against the original
// Checked  PruneTests: zeros and codes; figures in docs/performance.md

import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Pruning
import Quantization
import Tensors

extension WeightQuantizer {
  /// Prunes a weight and quantizes what stays; the quantizer keeps zeros.
  func quantize(
    _ weight: Matrix, _ pruner: any WeightPruner, _ goal: SparsityGoal,
    statistics: InputStatistics, encoding: any WeightEncoding
  ) throws -> QuantizedWeight {
    let pruned = try pruner.prune(weight, statistics: statistics, goal: goal)
    let moment = statistics.moment.map { InputStatistics.moment($0) } ?? .none
    let result = try quantize(pruned.weight, statistics: moment, encoding: encoding)
    return QuantizedWeight(
      encoded: result.encoded, method: result.method,
      relativeError: relativeError(
        weight, result.encoded.matrix.decoded(), statistics: moment),
      roundingError: result.roundingError, isOutputError: result.isOutputError,
      fallbacks: pruned.fallbacks + result.fallbacks, deadInputs: result.deadInputs)
  }
}

extension QuantizeRun {
  /// Refuses what cannot be pruned and quantized in one pass.
  func checkPruning() throws {
    guard let pruning = request.pruning else { return }
    guard request.method == .gptq, request.goal == nil else {
      throw AllocationError(
        description:
          "weights become zero while they are quantized only with --method gptq and no goal")
    }
    guard request.calibration != nil, FamilyRegistry.family(of: input) != nil else {
      throw QuantizationError.needsStatistics(method: request.method.rawValue)
    }
    let zeros = try PruneAssignment(pruning, to: input)
    for item in try assignment().items {
      guard zeros[item.site.name] != nil, case .encode(let encoding) = item.target,
        !QuantizeRequest.isGrid(encoding) || encoding is Repaired
      else { continue }
      throw LayerError(
        path: input.path, tensor: item.site.name,
        QuantizationError.cannotKeepZeros(encoding: encoding.name))
    }
  }
}

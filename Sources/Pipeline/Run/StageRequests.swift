// From the options of a recipe to the requests of the stages.

import Checkpoints
import Encodings
import Pruning
import Quantization
import Tensors

extension QuantizeStageOptions {
  /// The request; every encoding name is checked at its place in the recipe.
  func request(_ recipe: Recipe) throws(RecipeError) -> QuantizeRequest {
    var rules = [
      EncodingRule(
        pattern: nil,
        target: try encoding.checked {
          try EncodingRule.target(Self.name($0, symmetric), hasPattern: false)
        })
    ]
    for override in overrides {
      let target = try override.encoding.checked {
        try EncodingRule.target(Self.name($0, symmetric), hasPattern: true)
      }
      rules.append(EncodingRule(pattern: override.pattern.value, target: target))
    }
    var request = QuantizeRequest(
      method: method, rules: rules,
      calibration: recipe.calibration.map { CalibrationRequest($0) })
    request.goal = try goal()
    request.rates = rates
    request.usesCurvature = curvature
    request.tiesGroups = tieGroups
    request.measuresLimit = limit && recipe.calibration != nil
    request.damping = damping
    request.blockSize = blockSize
    request.actOrder = actOrder
    request.smoothing = smoothing
    request.rotation = rotate
    request.rotationSeed = recipe.calibration?.seed ?? 0
    request.search = grid
    request.trueSequential = trueSequential
    request.pruning = try zeros()
    request.keepsZeros = keepZeros
    if let repairRank, method == .ec || method == .smoothquant {
      throw RecipeError(
        at: encoding.place,
        .refused("repair-rank \(repairRank) does nothing with method \(method.rawValue)"))
    }
    request.repairRank = repairRank
    return request
  }

  /// How weights become zero in the same pass; nil when they do not.
  private func zeros() throws(RecipeError) -> WeightPruning? {
    guard sparsity != nil || pattern != nil else { return nil }
    let name = pattern ?? Located("unstructured", at: encoding.place)
    do throws(SparsityRuleError) {
      guard let places = SparsityPattern(name.value) else { throw .unknownPattern(name.value) }
      var pruning = try WeightPruning(method: pruning, pattern: places, sparsity: sparsity)
      pruning.damping = damping
      return pruning
    } catch {
      throw RecipeError(at: name.place, .refused("\(error)"))
    }
  }

  /// The one goal that is given; ec has one in any case.
  private func goal() throws(RecipeError) -> ModelGoal? {
    let goals: [ModelGoal?] = [
      bits.map { .bits($0) }, try size().map { .budget($0) },
      maxKL.map { .drift($0) }, maxError.map { .error($0) },
    ]
    let given = goals.compactMap { $0 }
    guard given.count <= 1 else {
      throw RecipeError(
        at: encoding.place,
        .refused("bits, budget, max-kl and max-error are goals of one kind; give one of them"))
    }
    return given.first ?? (method == .ec ? .bits(4) : nil)
  }

  private func size() throws(RecipeError) -> Int? {
    guard let budget else { return nil }
    guard let bytes = ByteSize.parse(budget.value), bytes > 0 else {
      throw RecipeError(
        at: budget.place, .refused("the budget '\(budget.value)' is no size such as 9MB or 9437184")
      )
    }
    return bytes
  }

  /// `symmetric` is another way to write `-sym`.
  private static func name(_ name: String, _ symmetric: Bool) -> String {
    symmetric && name != "copy" && !name.hasSuffix("-sym") ? name + "-sym" : name
  }
}

extension PackStageOptions {
  /// The request.
  var request: PackRequest {
    let types: [PackedFloat: DType] = [.f32: .float32, .f16: .float16, .bf16: .bfloat16]
    return PackRequest(dtype: types[dtype], selfTest: selfTest)
  }
}

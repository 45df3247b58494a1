// From the options of a recipe to the requests of the stages.

import Checkpoints
import Encodings
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
      calibration: recipe.calibration.map {
        CalibrationRequest(
          text: $0.text.map(\.value), tokens: $0.tokens, context: $0.context, seed: $0.seed)
      })
    if method == .ec { request.bits = bits }
    request.damping = damping
    request.blockSize = blockSize
    request.actOrder = actOrder
    request.search = grid
    request.trueSequential = trueSequential
    return request
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

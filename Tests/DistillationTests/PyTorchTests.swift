import Checkpoints
import Networks
import Tensors
import TestSupport
import Testing

@testable import Distillation

/// Gradients and steps that PyTorch computed; see Tests/Fixtures/gradients.
@Suite struct PyTorchTests {
  static func fixture(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: TestData.fixtures + "/gradients/\(name).safetensors")
  }

  static func rows(_ tensor: Tensor?) throws -> [[Int32]] {
    let tensor = try #require(tensor)
    let ids = try #require(tensor.integers()).map { Int32($0) }
    return (0..<tensor.rows).map { Array(ids[$0 * tensor.columns..<($0 + 1) * tensor.columns]) }
  }

  static func model(_ name: String) throws -> TrainedModel {
    let (network, folder) = try TrainerTests.network(name)
    return try TrainingPlan(.all).model(network, of: folder)
  }

  /// Σ cross-entropy; the parameters' gradients are those of the sum.
  static func loss(
    _ model: TrainedModel, _ tokens: [[Int32]], _ labels: [[Int32]]
  ) throws -> Double {
    let network = try #require(model.network as? any LanguageModel)
    model.clearGradients()
    model.attach()
    let all = labels.flatMap { $0 }
    var sum = 0.0
    network.backpropagate(
      network.hidden(TokenBatch(tokens, tape: GradientTape())), observer: model
    ) { rows, logits in
      let width = logits.columns
      for (index, row) in rows.enumerated() {
        var values = logits.values.mutableSpan
        var target = values._mutatingExtracting(index * width..<(index + 1) * width)
        sum += RowGradients.crossEntropy(&target, label: Int(all[row]))
      }
    }
    model.detach()
    model.finishGradients()
    return sum
  }

  @Test(arguments: ["llama", "llama-tied", "mistral", "qwen2", "qwen3", "llama-rope-yarn"])
  func gradients(_ name: String) throws {
    let file = try Self.fixture(name), model = try Self.model(name)
    let loss = try Self.loss(
      model, try Self.rows(file.tensor("tokens")), try Self.rows(file.tensor("labels")))
    let expected = Double(try #require(file.tensor("loss")).floats()[0])
    #expect(abs(loss - expected) < 1e-4 * expected)
    var compared = 0
    for parameter in model.parameters {
      let gradient = try #require(file.tensor("grad:" + parameter.name), "\(parameter.name)")
        .floats()
      let size = gradient.reduce(0) { max($0, abs($1)) }
      for (found, expected) in zip(parameter.gradient, gradient) {
        #expect(abs(found - expected) < 2e-4 * size + 1e-5, "\(parameter.name)")
      }
      compared += gradient.count
    }
    #expect(compared == model.parameterCount)
  }

  @Test func fiveStepsOfAdamW() throws {
    let file = try Self.fixture("steps"), model = try Self.model("llama-tied")
    let windows = try Self.rows(file.tensor("windows"))
    let losses = try #require(file.tensor("losses")).floats()
    let optimizer = AdamW(model.parameters, TrainingOptions())
    for step in 0..<5 {
      let own = windows[4 * step..<4 * step + 4]
      let loss = try Self.loss(
        model, own.map { Array($0.dropLast()) }, own.map { Array($0.dropFirst()) })
      #expect(abs(loss / 64 - Double(losses[step])) < 2e-4 * loss / 64)
      for (index, parameter) in model.parameters.enumerated() {
        optimizer.step(
          parameter, at: index,
          OptimizerStep(index: step, rate: 1e-2, gradientScale: 1.0 / 64, decay: 0))
      }
    }
    for parameter in model.parameters {
      let expected = try #require(file.tensor("after:" + parameter.name)).floats()
      // Where a gradient is nearly zero its sign, and so the step, is a matter of rounding.
      let far = zip(parameter.values, expected).count { abs($0 - $1) > 2e-4 }
      #expect(far <= expected.count / 500, "\(parameter.name): \(far) of \(expected.count)")
    }
  }
}

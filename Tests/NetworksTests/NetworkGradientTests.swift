import Checkpoints
import Networks
import Tensors
import TestSupport
import Testing

/// Every tensor of whole models: the tape's gradient against central differences of the loss.
@Suite(.serialized) struct NetworkGradientTests {
  struct Model: Sendable, CustomStringConvertible {
    var family: String
    var replacing: [String: String] = [:]
    var pooling: String?
    var description: String { family + replacing.values.sorted().joined() + (pooling ?? "") }

    func checkpoint() throws -> EditedCheckpoint {
      try EditedCheckpoint(family, replacing: replacing, pooling: pooling)
    }
  }

  static let decoders = [
    Model(family: "llama"), Model(family: "llama-tied"), Model(family: "llama-head-dim"),
    Model(family: "llama-rope-yarn"), Model(family: "llama-rope-dynamic"),
    Model(family: "mistral"), Model(family: "qwen2-sliding"), Model(family: "qwen3"),
    Model(family: "llama", replacing: ["\"silu\"": "\"gelu\""]),
    Model(family: "gemma2"), Model(family: "gemma3"), Model(family: "phi3"),
    Model(family: "gpt2"), Model(family: "mixtral"), Model(family: "qwen2-moe"),
    Model(family: "qwen3-moe"),
    Model(family: "llama", replacing: ["\"silu\"": "\"gelu_pytorch_tanh\""]),
    Model(family: "llama", replacing: ["\"silu\"": "\"relu\""]),
  ]
  static let encoders = [
    Model(family: "bert-mean"), Model(family: "bert-cls"), Model(family: "bert-not-normalized"),
    Model(family: "bert-mean", replacing: ["\"gelu\"": "\"gelu_new\""]),
    Model(family: "roberta-max"), Model(family: "xlm-roberta-dense"),
    Model(family: "distilbert-mean"),
    Model(family: "bert-mean", pooling: "{\"pooling_mode\": \"max\"}"),
  ]

  /// Two sequences of different lengths, one longer than the windows and one block of queries.
  static func batch(_ vocabulary: Int, lengths: [Int], tape: GradientTape? = nil) -> TokenBatch {
    var stream = RandomStream(test: "tokens")
    return TokenBatch(
      lengths.map { count in (0..<count).map { _ in Int32(stream.integer(below: vocabulary)) } },
      tape: tape)
  }

  /// Σ over positions of the cross-entropy of random labels, and its gradients when asked for.
  static func loss(
    of checkpoint: EditedCheckpoint, observer: GradientSums? = nil
  ) throws -> Double {
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any LanguageModel)
    let batch = batch(model.vocabularySize, lengths: [61, 7], tape: observer.map { _ in .init() })
    var stream = RandomStream(test: "labels")
    let labels = batch.tokens.map { _ in stream.integer(below: model.vocabularySize) }
    var sum = 0.0
    func step(_ rows: Range<Int>, _ logits: inout Matrix) {
      for (index, row) in rows.enumerated() {
        let width = logits.columns
        var values = logits.values.mutableSpan
        var target = values._mutatingExtracting(index * width..<(index + 1) * width)
        sum += RowGradients.crossEntropy(&target, label: labels[row])
      }
    }
    let hidden = model.hidden(batch)
    if let observer {
      model.backpropagate(hidden, observer: observer, loss: step)
    } else {
      var logits = model.logits(hidden)
      step(0..<logits.rows, &logits)
    }
    return sum
  }

  /// Σ of random multiples of the embeddings' values.
  static func projection(
    of checkpoint: EditedCheckpoint, observer: GradientSums? = nil
  ) throws -> Double {
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any TextEncoder)
    let batch = batch(
      model.vocabularySize, lengths: [9, 24, 2], tape: observer.map { _ in .init() })
    let result = model.embeddings(batch)
    var stream = RandomStream(test: "projection")
    let direction = stream.matrix(rows: result.rows, columns: result.columns, deviation: 10)
    if let observer { GradientRecord.walk(from: result, gradient: direction, observer: observer) }
    return zip(result.values, direction.values).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
  }

  /// Tensors that the loss does not depend on.
  static let unused = ["pooler", "embeddings.position_ids"]

  /// Compares the slope along a random direction of each tensor.
  static func compare(
    _ checkpoint: EditedCheckpoint, _ loss: (EditedCheckpoint, GradientSums?) throws -> Double
  ) throws {
    let sums = GradientSums(checkpoint)
    _ = try loss(checkpoint, sums)
    let network = try FamilyRegistry.network(of: checkpoint)
    let layouts = Dictionary(
      network.matrices.map { ($0.weightName, $0.layout) }, uniquingKeysWith: { first, _ in first })
    for name in checkpoint.tensorNames {
      if unused.contains(where: { name.contains($0) }) { continue }
      var gradient = try #require(sums.sums[name], "no gradient of \(name)")
      if let layout = layouts[name] ?? nil {
        // In the order of the tensor, as the values that are moved.
        let floats = Matrix(
          rows: layout.outputs, columns: layout.inputs, values: gradient.map { Float($0) })
        gradient = layout.tensorValues(of: floats).map { Double($0) }
      }
      let length = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
      var stream = RandomStream(test: name)
      // Half along the gradient, so that the slope is not lost in the loss's rounding.
      let noise = stream.floats(gradient.count, deviation: 1)
      let direction = zip(gradient, noise).map { g, n in
        length > 0
          ? Float(g / length + Double(n) / Double(gradient.count).squareRoot()) : n
      }
      let expected = zip(gradient, direction).reduce(0.0) { $0 + $1.0 * Double($1.1) }
      // Short enough that few largest values change places.
      let kinks = checkpoint.pooling == nil ? 1.0 : 0.1
      let step = kinks * min(1e-2, 0.03 / max(length, 1e-3))
      let up = try loss(checkpoint.moved(name, by: direction, times: step), nil)
      let down = try loss(checkpoint.moved(name, by: direction, times: -step), nil)
      let slope = (up - down) / (2 * step)
      // 1 % for the step's curvature; the loss itself is rounded at about 5e-5.
      #expect(
        abs(slope - expected) <= 0.01 * length + 5e-5 / step,
        "\(name): \(slope), tape \(expected), length \(length)")
    }
  }

  @Test(arguments: decoders) func decoder(_ model: Model) throws {
    try Self.compare(try model.checkpoint()) { try Self.loss(of: $0, observer: $1) }
  }

  @Test(arguments: encoders) func encoder(_ model: Model) throws {
    try Self.compare(try model.checkpoint()) { try Self.projection(of: $0, observer: $1) }
  }

  @Test func recordingChangesNoValueAndThreadsChangeNoGradient() throws {
    let checkpoint = try EditedCheckpoint("mistral")
    let sums = [1, 2, 4].map { count in
      withThreads(count) { () -> [String: [Double]] in
        let sums = GradientSums(checkpoint)
        _ = try? Self.loss(of: checkpoint, observer: sums)
        return sums.sums
      }
    }
    #expect(!sums[0].isEmpty && sums[0] == sums[1] && sums[0] == sums[2])
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any LanguageModel)
    let plain = model.hidden(Self.batch(model.vocabularySize, lengths: [20, 5]))
    let recorded = model.hidden(
      Self.batch(model.vocabularySize, lengths: [20, 5], tape: GradientTape()))
    #expect(plain == recorded && plain.record == nil && recorded.record != nil)
  }
}

import Calibration
import Checkpoints
import Encodings
import Foundation
import LinearAlgebra
import Networks
import Tensors
import TestSupport
import Testing

/// The curvature against what errors of the weights really do, on tiny models.
@Suite(.serialized) struct LossCurvatureTests {
  static func network(_ family: String) throws -> any TokenNetwork {
    try #require(
      try FamilyRegistry.network(
        of: try CheckpointFolder(path: TestData.fixtures + "/families/" + family))
        as? any TokenNetwork)
  }

  static func decoder(_ family: String) throws -> any LanguageModel {
    try #require(try network(family) as? any LanguageModel)
  }

  static func set(_ network: any TokenNetwork, lengths: [Int]) -> CalibrationSet {
    var stream = RandomStream(test: "curvature tokens")
    let sequences = lengths.map { count in
      (0..<count).map { _ in Int32(stream.integer(below: network.vocabularySize)) }
    }
    return CalibrationSet(sequences: sequences, tokensAsked: lengths.reduce(0, +))
  }

  /// The mean over positions of KL(before ‖ after).
  static func divergence(
    _ model: any LanguageModel, _ batches: [TokenBatch], change: () -> Void
  ) -> Double {
    let before = batches.map { model.logits(model.hidden($0)) }
    change()
    var sum = 0.0, count = 0
    for (batch, before) in zip(batches, before) {
      let after = model.logits(model.hidden(batch))
      for row in 0..<before.rows {
        let range = before.range(ofRow: row)
        sum +=
          LogitComparison(
            reference: before.values.span.extracting(range),
            model: after.values.span.extracting(range)
          ).divergence
      }
      count += before.rows
    }
    return sum / Double(count)
  }

  /// The second moments of what each layer reads, by its weight's name.
  static func inputs(_ network: any Network, _ set: CalibrationSet) -> [String: DoubleMatrix] {
    let stream = LayerStream(network: network, set: set)
    var result: [String: DoubleMatrix] = [:]
    for sublayer in network.sublayers {
      for (index, group) in sublayer.groups.enumerated() {
        let moment = stream.inputs(ofGroup: index).mean()
        for layer in group { result[layer.weightName] = moment }
      }
      stream.advance()
    }
    return result
  }

  /// A random error with a given share of the weight's size, and the weight with it.
  static func error(of layer: Linear, share: Double) -> (error: Matrix, changed: FloatMatrix) {
    let weight = layer.matrix.decoded()
    let size = weight.values.reduce(0.0) { $0 + Double($1) * Double($1) }
    var stream = RandomStream(test: layer.name)
    let deviation = share * (size / Double(weight.values.count)).squareRoot()
    let error = stream.matrix(rows: weight.rows, columns: weight.columns, deviation: deviation)
    var changed = weight
    changed.add(error)
    return (error, FloatMatrix(changed))
  }

  /// The scale makes the expectation over random errors exact; one error of one layer is off by what its
  /// few effective directions leave to chance, and by the fourth order.
  @Test(arguments: ["llama", "qwen2-sliding", "qwen3"]) func predictsTheDivergenceOfSmallErrors(
    _ family: String
  ) throws {
    let model = try Self.decoder(family)
    let set = Self.set(model, lengths: [Int](repeating: 40, count: 150))
    let curvature = LossCurvature.measure(model, set: set, options: .init(batchTokens: 1000))
    #expect(curvature.tokens == 6000 && curvature.samples == 6000)
    let inputs = Self.inputs(model, set)
    let batches = [TokenBatch(Array(set.sequences.prefix(40)))]
    var logarithms = 0.0
    for layer in model.linearLayers {
      let (error, changed) = Self.error(of: layer, share: 0.01)
      let before = layer.matrix
      let measured = Self.divergence(model, batches) { layer.matrix = changed }
      layer.matrix = before
      let moment = try #require(inputs[layer.weightName])
      let predicted = try #require(
        curvature.predictedLoss(weight: layer.weightName, error: error, inputs: moment))
      #expect(
        (0.7...1.4).contains(predicted / measured), "\(layer.name): \(predicted), \(measured)")
      logarithms += log(predicted / measured)
    }
    let mean = exp(logarithms / Double(model.linearLayers.count))
    #expect((0.93...1.07).contains(mean), "\(mean)")
    #expect(curvature.layers.count == model.linearLayers.count)
  }

  @Test(arguments: ["bert-mean", "bert-not-normalized"]) func predictsTheTurningOfEmbeddings(
    _ family: String
  ) throws {
    let encoder = try #require(try Self.network(family) as? any TextEncoder)
    let lengths = (0..<400).map { 3 + $0 % 20 }
    let set = Self.set(encoder, lengths: lengths)
    let curvature = LossCurvature.measure(encoder, set: set)
    #expect(curvature.samples == 400 && curvature.tokens == lengths.reduce(0, +))
    #expect(curvature.head == nil)
    let inputs = Self.inputs(encoder, set)
    let batch = TokenBatch(Array(set.sequences.prefix(100)))
    var logarithms = 0.0
    for layer in encoder.linearLayers {
      let (error, changed) = Self.error(of: layer, share: 0.03)
      let before = layer.matrix, reference = encoder.embeddings(batch)
      layer.matrix = changed
      let found = encoder.embeddings(batch)
      layer.matrix = before
      // Half the squared distance: 1 − cos of unit vectors.
      let measured =
        zip(found.values, reference.values).reduce(0.0) {
          $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1))
        } / 2 / 100
      let moment = try #require(inputs[layer.weightName])
      let predicted = try #require(
        curvature.predictedLoss(weight: layer.weightName, error: error, inputs: moment))
      // Fewer directions than in a language model: the error of one layer may fall beside them.
      #expect(
        (0.4...2.5).contains(predicted / measured), "\(layer.name): \(predicted), \(measured)")
      logarithms += log(predicted / measured)
    }
    let mean = exp(logarithms / Double(encoder.linearLayers.count))
    #expect((0.8...1.25).contains(mean), "\(mean)")
  }

  @Test func embeddingAndHead() throws {
    let model = try Self.decoder("llama")
    let set = Self.set(model, lengths: [Int](repeating: 40, count: 150))
    let curvature = LossCurvature.measure(model, set: set)
    let batches = [TokenBatch(set.sequences)]
    #expect(curvature.embedding.counts.reduce(0, +) == 6000)
    // The embedding: ½ Σ over tokens v of counts[v] / tokens · dᵀ C d, d the error of row v.
    var (error, changed) = Self.error(of: model.embedding, share: 0.01)
    var before = model.embedding.matrix
    var measured = Self.divergence(model, batches) { model.embedding.matrix = changed }
    model.embedding.matrix = before
    var predicted = 0.0
    for (token, count) in curvature.embedding.counts.enumerated() {
      predicted +=
        0.5 * Double(count) / 6000
        * Self.form(curvature.embedding.gradient, error.row(token))
    }
    #expect((0.7...1.4).contains(predicted / measured), "\(predicted), \(measured)")
    // The head: ½ Σ over v of the mean p (1 − p) · dᵀ C d.
    let head = try #require(curvature.head)
    (error, changed) = Self.error(of: model.head, share: 0.01)
    before = model.head.matrix
    measured = Self.divergence(model, batches) { model.head.matrix = changed }
    model.head.matrix = before
    predicted = head.outputDiagonal.enumerated().reduce(0.0) {
      $0 + 0.5 * $1.element * Self.form(head.weightedInput, error.row($1.offset))
    }
    #expect((0.9...1.1).contains(predicted / measured), "\(predicted), \(measured)")
  }

  private static func form(_ matrix: DoubleMatrix, _ vector: [Float]) -> Double {
    var sum = 0.0
    for (i, a) in vector.enumerated() {
      for (j, b) in vector.enumerated() { sum += Double(a) * Double(b) * matrix[i, j] }
    }
    return sum
  }

  /// One position: the head's diagonal is p (1 − p), its inputs' moment x xᵀ, and each G is g gᵀ.
  @Test func onePosition() throws {
    let model = try Self.decoder("llama")
    let set = Self.set(model, lengths: [1])
    let curvature = LossCurvature.measure(model, set: set)
    let hidden = model.hidden(TokenBatch(set.sequences))
    let logits = model.logits(hidden).row(0).map { Double($0) }
    let total = logits.reduce(0) { $0 + exp($1) }
    let head = try #require(curvature.head)
    for (logit, found) in zip(logits, head.outputDiagonal) {
      let p = exp(logit) / total
      #expect(abs(found - p * (1 - p)) < 1e-6)
    }
    let x = model.normalize(hidden).row(0).map { Double($0) }
    for i in x.indices {
      for j in x.indices {
        #expect(abs(head.weightedInput[i, j] - x[i] * x[j]) < 1e-5 * (1 + abs(x[i] * x[j])))
      }
    }
    for (name, layer) in curvature.layers {
      let output = try #require(layer.output)
      #expect(layer.tokens == 1 && output.size == layer.outputDiagonal.count)
      for i in 0..<output.size {
        #expect(abs(output[i, i] - layer.outputDiagonal[i]) <= 1e-6 * layer.trace, "\(name)")
        #expect(abs(layer.scale - 1) < 1e-4, "\(name): one token has nothing to go together with")
        for j in 0..<output.size {
          let square = layer.outputDiagonal[i] * layer.outputDiagonal[j]
          #expect(abs(output[i, j] * output[i, j] - square) <= 1e-5 * layer.trace * layer.trace)
        }
      }
    }
  }

  /// Two sequences of one token: the second one's part of `Σ |g|² x xᵀ` is what the first one's leaves.
  @Test func inputsAreWeightedByTheSquareOfTheGradient() throws {
    let model = try Self.decoder("llama")
    let pair = CalibrationSet(sequences: [[5], [9]], tokensAsked: 2)
    let first = LossCurvature.measure(
      model, set: CalibrationSet(sequences: [[5]], tokensAsked: 1))
    let both = LossCurvature.measure(model, set: pair)
    let second = Self.inputs(model, CalibrationSet(sequences: [[9]], tokensAsked: 1))
    for (name, layer) in both.layers {
      let alone = try #require(first.layers[name]), x = try #require(second[name])
      let trace = 2 * layer.trace - alone.trace
      let largest = x.diagonal.reduce(0, max) * layer.trace
      let wrong = x.values.indices.filter { index in
        let whole = 2 * layer.trace * layer.weightedInput.values[index]
        let rest = whole - alone.trace * alone.weightedInput.values[index]
        return abs(rest - trace * x.values[index]) > 1e-4 * largest
      }
      #expect(wrong.isEmpty, "\(name)")
    }
  }

  /// A limit keeps the diagonal alone and changes no other number; so does the choice of weights.
  @Test func limitsAndChoices() throws {
    let model = try Self.decoder("llama")
    let set = Self.set(model, lengths: [20, 30, 10])
    let all = LossCurvature.measure(model, set: set)
    let limited = LossCurvature.measure(model, set: set, options: .init(outputLimit: 33))
    for (name, layer) in all.layers {
      let other = try #require(limited.layers[name])
      #expect((other.output == nil) == (layer.outputDiagonal.count > 33))
      #expect(other.outputDiagonal == layer.outputDiagonal)
      #expect(other.weightedInput == layer.weightedInput)
    }
    let name = "model.layers.1.mlp.down_proj.weight"
    let one = LossCurvature.measure(model, set: set, options: .init(weights: [name]))
    #expect(one.layers == all.layers.filter { $0.key == name } && one.head == all.head)
    let few = LossCurvature.measure(model, set: set, options: .init(tokens: 45))
    #expect(few.tokens == 30)
    #expect(LossCurvature.measure(model, set: set, options: .init(seed: 7)).layers != all.layers)
  }

  @Test func threadsChangeNothing() throws {
    let model = try Self.decoder("mistral")
    let encoder = try #require(try Self.network("bert-mean") as? any TextEncoder)
    let set = Self.set(model, lengths: [61, 40, 7])
    let sentences = Self.set(encoder, lengths: [20, 3, 11])
    let found = [1, 2, 5].map { count in
      withThreads(count) {
        [
          LossCurvature.measure(model, set: set), LossCurvature.measure(encoder, set: sentences),
        ]
      }
    }
    #expect(found[0] == found[1] && found[0] == found[2])
  }
}

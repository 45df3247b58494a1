// The curvature of the loss: how much the model's output distribution feels an error of each linear layer.
//
// Source   Fisher information of the model's own predictions: Amari, "Natural gradient works efficiently in
//          learning", Neural Computation 10, 1998; its Kronecker factors by layer: Martens and Grosse,
//          "Optimizing neural networks with Kronecker-factored approximate curvature", ICML 2015,
//          arXiv:1503.05671, sections 3 and 5; labels are sampled from the model, not taken from the text:
//          Kunstner et al., NeurIPS 2019, arXiv:1905.12558
// Given    a network, sequences of tokens; for each position a label y ~ p, or for each sequence a direction
//          u ~ N(0, I); the loss, a sum: −log p(y) over positions, or u · e over embeddings e
// Result   of each layer with outputs y_t = W x_t and gradients g_t: G = mean of g gᵀ, and the moment of the inputs
//          that the loss feels, Σ |g|² x xᵀ / Σ |g|². With H the mean of x xᵀ, an error D of W costs about
//          ½ · tokens / samples · scale · tr(G D H Dᵀ): nats of KL a position, or 1 − cos an embedding
// Differs  Kronecker factors take g and x, and the tokens of a sequence, for independent, which a pooling that
//          gives every token the same gradient is not. So each layer has a scale, the trace of its weight's
//          true Fisher information over that of the factors: errors without direction are predicted without
//          bias. The head's diagonal and its weights of positions are exact, p (1 − p), not a sample's square
// Cost     forward, backward, and for each layer and token outputs · inputs + outputs² + inputs² multiply-adds
// Checked  LossCurvatureTests: measured KL of small errors; the head exactly; threads change nothing

import Foundation
public import LinearAlgebra
public import Networks
public import Tensors

/// What a loss feels of one linear layer's errors.
public struct LayerCurvature: Sendable, Equatable {
  /// Tokens over which the means are taken.
  public let tokens: Int
  /// G, the mean of `g gᵀ`, `[outputs, outputs]`; nil when the layer has more outputs than the limit.
  public let output: DoubleMatrix?
  /// The diagonal of G, `[outputs]`.
  public let outputDiagonal: [Double]
  /// Second moment of the inputs with the weight |g|² for each token, `[inputs, inputs]`; zero when all
  /// gradients are.
  public let weightedInput: DoubleMatrix
  /// The trace of H: the mean of |x|².
  public let inputTrace: Double
  /// The trace of the weight's Fisher information: Σ over sequences of |Σ g xᵀ|², over the tokens.
  public let weightTrace: Double

  /// The trace of G: the mean of |g|².
  public var trace: Double { outputDiagonal.reduce(0, +) }
  /// What the factors G and H miss: `weightTrace` over the product of their traces; 1 when that is zero.
  public var scale: Double {
    trace * inputTrace > 0 ? weightTrace / (trace * inputTrace) : 1
  }
}

/// What a loss feels of the token embedding's errors.
public struct EmbeddingCurvature: Sendable, Equatable {
  /// The mean over tokens of `g gᵀ`, g the gradient of the embedding's output, `[width, width]`.
  public let gradient: DoubleMatrix
  /// How often each token occurred, `[vocabulary]`.
  public let counts: [Int]
}

/// What the KL divergence feels of the head's errors.
public struct HeadCurvature: Sendable, Equatable {
  /// The mean over positions of `p (1 − p)`, `[vocabulary]`: the diagonal of the logits' curvature.
  public let outputDiagonal: [Double]
  /// Second moment of the head's inputs, weighted by `Σ p (1 − p)` of each position, `[width, width]`.
  public let weightedInput: DoubleMatrix

  /// The mean of `Σ p (1 − p)`.
  public var trace: Double { outputDiagonal.reduce(0, +) }
}

/// The loss's curvature, layer by layer.
public struct LossCurvature: Sendable, Equatable {
  /// How it is measured.
  public struct Options: Sendable, Equatable {
    /// Sequences are taken in order until they have so many tokens; at least one.
    public var tokens: Int
    /// The seed of labels and directions.
    public var seed: UInt64
    /// Tokens of a batch. Memory holds every activation of one batch.
    public var batchTokens: Int
    /// Of layers with more outputs, only the diagonal of G is kept.
    public var outputLimit: Int
    /// Whether `weightedInput`, `inputTrace` and `weightTrace` are measured too; otherwise they are empty and 0.
    public var measuresInputs: Bool
    /// Names of the weights to measure; nil for all. Each takes
    /// 8 · (outputs² + inputs²) bytes, so a large model is measured in several passes.
    public var weights: Set<String>?

    /// Options with their defaults.
    public init(
      tokens: Int = 16384, seed: UInt64 = 0, batchTokens: Int = 2048, outputLimit: Int = 4096,
      measuresInputs: Bool = true, weights: Set<String>? = nil
    ) {
      precondition(batchTokens > 0)
      self.tokens = tokens
      self.seed = seed
      self.batchTokens = batchTokens
      self.outputLimit = outputLimit
      self.measuresInputs = measuresInputs
      self.weights = weights
    }
  }

  /// The linear layers of the branches by their weights' names.
  public let layers: [String: LayerCurvature]
  /// The token embedding.
  public let embedding: EmbeddingCurvature
  /// The head; nil for an encoder. A tied head stands here and in `embedding`.
  public let head: HeadCurvature?
  /// Tokens that were used.
  public let tokens: Int
  /// Terms of the loss: positions, or sequences.
  public let samples: Int

  /// The curvature of a language model: what the KL divergence of its predictions feels.
  ///
  /// - Parameter progress: Called with the tokens done and the tokens in all.
  public static func measure(
    _ model: any LanguageModel, set: CalibrationSet, options: Options = Options(),
    progress: (_ done: Int, _ all: Int) -> Void = { _, _ in }
  ) -> LossCurvature {
    let collector = CurvatureCollector(model, head: model.head, options: options)
    var labels = RandomStream(seed: options.seed, name: "curvature labels")
    let tokens = run(set, options, progress) { batch in
      collector.begin(batch)
      model.backpropagate(model.hidden(batch), observer: collector) { rows, logits in
        let draws = rows.map { _ in labels.unit() }
        collector.sampleLabels(&logits, draws)
      }
    }
    return collector.result(tokens: tokens, samples: tokens)
  }

  /// The curvature of an encoder: what the cosine of its embeddings feels, or half the squared distance when
  /// it does not normalize them.
  public static func measure(
    _ encoder: any TextEncoder, set: CalibrationSet, options: Options = Options(),
    progress: (_ done: Int, _ all: Int) -> Void = { _, _ in }
  ) -> LossCurvature {
    let collector = CurvatureCollector(encoder, head: nil, options: options)
    var directions = RandomStream(seed: options.seed, name: "curvature directions")
    var sequences = 0
    let tokens = run(set, options, progress) { batch in
      collector.begin(batch)
      sequences += batch.sequences.count
      let embeddings = encoder.embeddings(batch)
      let values = embeddings.values.map { _ in Float(directions.gaussian()) }
      GradientRecord.walk(
        from: embeddings,
        gradient: Matrix(rows: embeddings.rows, columns: embeddings.columns, values: values),
        observer: collector)
    }
    return collector.result(tokens: tokens, samples: sequences)
  }

  /// Batches with a tape each. Returns the tokens used.
  private static func run(
    _ set: CalibrationSet, _ options: Options, _ progress: (Int, Int) -> Void,
    _ body: (TokenBatch) -> Void
  ) -> Int {
    var sequences: [[Int32]] = []
    var all = 0
    for sequence in set.sequences where sequences.isEmpty || all + sequence.count <= options.tokens
    {
      sequences.append(sequence)
      all += sequence.count
    }
    var done = 0
    for range in CalibrationSet.batches(sequences.map(\.count), tokens: options.batchTokens) {
      let batch = TokenBatch(Array(sequences[range]), tape: GradientTape())
      body(batch)
      done += batch.tokens.count
      progress(done, all)
    }
    return all
  }

  /// What an error D of a layer's weight costs, `½ · tokens / samples · scale · tr(G D H Dᵀ)`: nats of KL a
  /// position, or 1 − cos an embedding.
  ///
  /// - Parameters:
  ///   - weight: A weight's name in `layers`.
  ///   - error: D, `[outputs, inputs]`.
  ///   - inputs: H, the mean of `x xᵀ`, `[inputs, inputs]`.
  /// - Returns: nil when the layer was not measured. Without `output`, G is taken as diagonal.
  public func predictedLoss(weight: String, error: Matrix, inputs: DoubleMatrix) -> Double? {
    guard let layer = layers[weight] else { return nil }
    let outputs = error.rows, width = error.columns
    precondition(layer.outputDiagonal.count == outputs && inputs.size == width)
    // Rows of D H, then tr(G (D H) Dᵀ) row by row of D: Σ over a, b of G[a, b] (D H)[b] · D[a].
    let sums = ParallelLoop.map(outputs) { b -> Double in
      var row = [Double](repeating: 0, count: width)
      for i in 0..<width {
        let scale = Double(error.values[b * width + i])
        for j in 0..<width { row[j] += scale * inputs.values[i * width + j] }
      }
      var sum = 0.0
      for a in layer.output == nil ? b..<b + 1 : 0..<outputs {
        var product = 0.0
        for j in 0..<width { product += row[j] * Double(error.values[a * width + j]) }
        sum += product * (layer.output?[a, b] ?? layer.outputDiagonal[b])
      }
      return sum
    }
    return 0.5 * Double(tokens) / Double(samples) * layer.scale * sums.reduce(0, +)
  }
}

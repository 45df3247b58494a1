// Sums the statistics of a loss's curvature during backward passes; formulas in LossCurvature.swift.

import LinearAlgebra
import Networks
import Tensors

/// Observes backward passes and adds up what they show of each layer.
final class CurvatureCollector: GradientObserver {
  /// The sums of one layer.
  private struct Sums {
    var output: SecondMoment?
    var diagonal: [Double]
    var weightedInput: SecondMoment?
    var tokens = 0
    /// Σ |x|², and Σ over sequences of |Σ g xᵀ|².
    var inputSquares = 0.0, weightSquares = 0.0
  }

  private let embeddingName: String
  private let headName: String?
  private var layers: [String: Sums] = [:]
  private var embedding: SecondMoment
  private var counts: [Int]
  /// Where the sequences of the batch are in the rows of its activations.
  private var sequences: [Range<Int>] = []
  private var headDiagonal: [Double]
  private var headInput: SecondMoment
  /// Square roots of Σ p (1 − p) for the rows whose head product comes next.
  private var headWeights: [Float] = []

  init(_ network: any TokenNetwork, head: Linear?, options: LossCurvature.Options) {
    embeddingName = network.embedding.weightName
    headName = head?.weightName
    embedding = SecondMoment(width: network.embedding.matrix.inputs)
    counts = [Int](repeating: 0, count: network.vocabularySize)
    headDiagonal = [Double](repeating: 0, count: head?.matrix.outputs ?? 0)
    headInput = SecondMoment(width: head?.matrix.inputs ?? 0)
    for layer in network.linearLayers
    where options.weights.map({ $0.contains(layer.weightName) }) ?? true {
      let outputs = layer.matrix.outputs
      layers[layer.weightName] = Sums(
        output: outputs <= options.outputLimit ? SecondMoment(width: outputs) : nil,
        diagonal: [Double](repeating: 0, count: outputs),
        weightedInput: options.measuresInputs ? SecondMoment(width: layer.matrix.inputs) : nil)
    }
  }

  /// The batch whose backward pass comes next.
  func begin(_ batch: TokenBatch) {
    for token in batch.tokens { counts[Int(token)] += 1 }
    sequences = batch.sequences
  }

  func wants(_ parameter: String) -> Bool {
    parameter == embeddingName || parameter == headName || layers[parameter] != nil
  }

  func receive(_ parameter: String, _ gradient: ParameterGradient) {
    switch gradient {
    case .rows(_, let gradients):
      if parameter == embeddingName { embedding.add(gradients) }
    case .product(let inputs, let outputs):
      if parameter == headName {
        headInput.add(Self.scaled(inputs, by: headWeights))
      } else {
        add(parameter, inputs: inputs, outputs: outputs)
      }
    case .vector, .matrix: break
    }
  }

  private func add(_ parameter: String, inputs: Matrix, outputs: Matrix) {
    // Taken out of the dictionary, so that its arrays are not copied.
    guard var sums = layers.removeValue(forKey: parameter) else { return }
    Self.addColumns(of: outputs, to: &sums.diagonal) { $0 * $0 }
    sums.output?.add(outputs)
    sums.tokens += outputs.rows
    defer { layers[parameter] = sums }
    guard sums.weightedInput != nil else { return }
    var lengths: [Float] = []
    for row in 0..<outputs.rows {
      let values = outputs.values.span.extracting(outputs.range(ofRow: row))
      lengths.append(dot(values, values).squareRoot())
    }
    sums.weightedInput?.add(Self.scaled(inputs, by: lengths))
    for row in 0..<inputs.rows {
      let values = inputs.values.span.extracting(inputs.range(ofRow: row))
      sums.inputSquares += Double(dot(values, values))
    }
    for sequence in sequences {
      let gradient = outputs.rows(sequence).transposedProduct(inputs.rows(sequence))
      for row in 0..<gradient.rows {
        let values = gradient.values.span.extracting(gradient.range(ofRow: row))
        sums.weightSquares += Double(dot(values, values))
      }
    }
  }

  /// Adds a function of each value to the sum of its column, row by row.
  private static func addColumns(
    of x: Matrix, to sums: inout [Double], _ term: (Double) -> Double
  ) {
    let block = 256, columns = x.columns
    ParallelLoop.parts(
      of: &sums, count: (columns + block - 1) / block,
      range: { $0 * block..<min(($0 + 1) * block, columns) }
    ) { index, part in
      for row in 0..<x.rows {
        let first = row * columns + index * block
        let values = x.values.span.extracting(first..<first + part.count)
        for i in values.indices { part[i] += term(Double(values[i])) }
      }
    }
  }

  /// Each row times its own factor.
  private static func scaled(_ x: Matrix, by factors: [Float]) -> Matrix {
    precondition(factors.count == x.rows)
    var result = x
    let columns = x.columns
    guard columns > 0 else { return x }
    ParallelLoop.overRows(of: &result.values, rowLength: columns, blockRows: 64) { rows, part in
      for (index, row) in rows.enumerated() {
        var target = part._mutatingExtracting(index * columns..<(index + 1) * columns)
        for i in target.indices { target[i] *= factors[row] }
      }
    }
    return result
  }

  /// Adds the curvature of rows of logits, samples a label for each, and replaces the logits by the gradient
  /// of −log p(label): p, less one at the label.
  ///
  /// - Parameter draws: A number in 0..<1 for each row.
  func sampleLabels(_ logits: inout Matrix, _ draws: [Double]) {
    let columns = logits.columns, rows = logits.rows
    ParallelLoop.overRows(of: &logits.values, rowLength: columns, blockRows: 8) { rows, part in
      for index in 0..<rows.count {
        var row = part._mutatingExtracting(index * columns..<(index + 1) * columns)
        RowKernels.softmax(&row, scale: 1)
      }
    }
    Self.addColumns(of: logits, to: &headDiagonal) { $0 * (1 - $0) }
    headWeights = []
    for row in 0..<rows {
      let p = logits.values.span.extracting(row * columns..<(row + 1) * columns)
      let variance: Float = 1 - dot(p, p)
      headWeights.append(max(0, variance).squareRoot())
    }
    let labels = ParallelLoop.map(rows) { row in
      Self.label(logits.values.span.extracting(row * columns..<(row + 1) * columns), draws[row])
    }
    for (row, label) in labels.enumerated() { logits.values[row * columns + label] -= 1 }
  }

  /// The first label whose cumulative probability exceeds the draw.
  private static func label(_ probabilities: Span<Float>, _ draw: Double) -> Int {
    var sum = 0.0, last = 0
    for i in probabilities.indices where probabilities[i] > 0 {
      sum += Double(probabilities[i])
      last = i
      if sum > draw { return i }
    }
    // Rounding may leave the sum below the draw.
    return last
  }

  /// The means. The sums are used up.
  func result(tokens: Int, samples: Int) -> LossCurvature {
    var measured: [String: LayerCurvature] = [:]
    // Each sum goes as its mean comes, so that no two copies of all exist.
    for name in layers.keys.sorted() {
      guard var sums = layers.removeValue(forKey: name) else { continue }
      let scale = 1 / Double(max(1, sums.tokens))
      measured[name] = LayerCurvature(
        tokens: sums.tokens, output: sums.output.take()?.mean(),
        outputDiagonal: sums.diagonal.map { $0 * scale },
        weightedInput: sums.weightedInput.take().map {
          Self.weighted($0, total: sums.diagonal.reduce(0, +))
        } ?? DoubleMatrix(size: 0),
        inputTrace: sums.inputSquares * scale, weightTrace: sums.weightSquares * scale)
    }
    let head = headName.map { _ in
      HeadCurvature(
        outputDiagonal: headDiagonal.map { $0 / Double(samples) },
        weightedInput: Self.weighted(headInput, total: headDiagonal.reduce(0, +)))
    }
    return LossCurvature(
      layers: measured, embedding: EmbeddingCurvature(gradient: embedding.mean(), counts: counts),
      head: head, tokens: tokens, samples: samples)
  }

  /// Σ w x xᵀ / Σ w.
  private static func weighted(_ moment: SecondMoment, total: Double) -> DoubleMatrix {
    let scale = total > 0 ? Double(moment.samples) / total : 0
    var result = moment.mean()
    for i in result.values.indices { result.values[i] *= scale }
    return result
  }
}

// A frozen matrix with the product of two thin trained ones beside it, merged when it is saved.
//
// Source   Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685
// Given    W [outputs, inputs] frozen, in floats or in any encoding
// Result   W + (α / r) B A with A [r, inputs] random, B [outputs, r] zero at the start. With g the gradient of y and x the
//          input: dB = (α / r) gᵀ (x Aᵀ), dA = (α / r) (g B)ᵀ x
// Differs  Beside codes the factors are stored as a low-rank repair instead of being merged: merged they would be
//          rounded away
// Checked  TrainedWeightTests: gradients against central differences; merged and adapted products agree

import Encodings
import Networks
import Tensors

/// A frozen matrix and its adapter.
final class AdaptedWeight: TrainedWeight {
  let layer: Linear
  private let base: any LinearOperator
  private let encoded: EncodedMatrix?
  private let rank: Int
  private let scale: Float
  private let right, left: TrainedParameter

  var parameters: [TrainedParameter] { [right, left] }

  /// - Parameters:
  ///   - encoded: The matrix as it is stored, when that is in codes that a repair can stand beside.
  ///   - alpha: α; the product of the factors is multiplied by α / rank.
  init(_ layer: Linear, encoded: EncodedMatrix?, rank: Int, alpha: Float, seed: UInt64) {
    self.layer = layer
    self.encoded = encoded
    base = layer.matrix
    self.rank = min(rank, base.outputs, base.inputs)
    scale = alpha / Float(self.rank)
    // Uniform within ± sqrt(3 / inputs): the variance 1 / inputs keeps the size of x.
    var stream = RandomStream(seed: seed, name: "adapter " + layer.name)
    let bound = (3 / Double(max(1, base.inputs))).squareRoot()
    right = TrainedParameter(
      layer.weightName + ":adapter-right", .adapter, rows: self.rank, columns: base.inputs,
      values: (0..<self.rank * base.inputs).map { _ in Float((2 * stream.unit() - 1) * bound) })
    left = TrainedParameter(
      layer.weightName + ":adapter-left", .adapter, rows: base.outputs, columns: self.rank,
      values: [Float](repeating: 0, count: base.outputs * self.rank))
  }

  private var a: Matrix { Matrix(rows: rank, columns: base.inputs, values: right.values) }
  private var b: Matrix { Matrix(rows: base.outputs, columns: rank, values: left.values) }

  func attach() {
    layer.matrix = AdaptedMatrix(
      base: base, left: DenseMatrix(b), right: DenseMatrix(a), scale: scale)
  }

  func detach() { layer.matrix = base }

  func receive(_ gradient: ParameterGradient) {
    switch gradient {
    case .product(let inputs, let outputs):
      let through = DenseMatrix(a).apply(to: inputs).scaled(by: scale)
      left.addGradient(outputs.transposedProduct(through).values)
      let back = DenseMatrix(b).applyTransposed(to: outputs).scaled(by: scale)
      right.addGradient(back.transposedProduct(inputs).values)
    case .matrix(let whole):
      left.addGradient(DenseMatrix(a).apply(to: whole).scaled(by: scale).values)
      right.addGradient(b.transposedProduct(whole).scaled(by: scale).values)
    case .rows, .vector: preconditionFailure("adapters stand beside linear layers")
    }
  }

  func finishGradients() {}

  func result() -> TrainedTensor {
    let factor = b.scaled(by: scale)
    if let encoded, let repaired = Repaired(encoded.encoding, rank: rank) {
      return .encoded(repaired.encode(encoded, left: factor, right: a))
    }
    var merged = base.decoded()
    merged.add(DenseMatrix(a.transposed()).apply(to: factor))
    return .floats(merged)
  }
}

/// `W + scale · left right`.
struct AdaptedMatrix: LinearOperator {
  let base: any LinearOperator
  let left, right: DenseMatrix
  let scale: Float

  var outputs: Int { base.outputs }
  var inputs: Int { base.inputs }
  var storedBits: Int { base.storedBits + left.storedBits + right.storedBits }

  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    base.decode(rows: rows, into: &target)
    let inputs = inputs, rank = right.outputs
    for (index, row) in rows.enumerated() {
      var part = target._mutatingExtracting(index * inputs..<(index + 1) * inputs)
      for k in 0..<rank {
        RowKernels.add(
          scale * left.matrix.values[row * rank + k],
          times: right.matrix.values.span.extracting(k * inputs..<(k + 1) * inputs), to: &part)
      }
    }
  }

  var multipliesDecodedRows: Bool { false }

  func product(with x: Matrix) -> Matrix {
    var result = base.product(with: x)
    result.add(left.product(with: right.product(with: x).scaled(by: scale)))
    return result
  }
}

extension Matrix {
  /// Rows and columns exchanged.
  func transposed() -> Matrix {
    Matrix(turned: values, rows: columns, columns: rows)
  }
}

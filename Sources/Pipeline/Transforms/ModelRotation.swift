// Rotations of a model's channels that leave its function as it is, after which weights have no outlying channels.
//
// Source   Ashkboos et al., "QuaRot", arXiv:2404.00456; Liu et al., "SpinQuant", arXiv:2405.16406: R1 on the residual
//          stream, R2 between the value and output layers, head by head
// Result   R1: E R; for the readers W diag(g) R with their norm's weight g now 1; Rᵀ W and b R for the writers.
//          R2: Rᵀ W_v and b_v R for each key head, W_o R for the heads that read it
// Differs  random signs by the seed, nothing is trained; R3 and R4, which cost time at run time, are left out
// Checked  TransformTests: logits stay

import Checkpoints
import JSONDocuments
import Networks
import Quantization
import Tensors

/// What is rotated.
public enum Rotation: String, Sendable, CaseIterable {
  /// The residual stream and, in each attention layer, the heads of the values.
  case all
  /// The heads of the values.
  case heads
}

/// The rotations of a model.
struct ModelRotation {
  let rotation: Rotation
  let seed: UInt64

  static let headName = "lm_head"
  static let tieKey = "tie_word_embeddings"

  /// The stream that is rotated; nil where only heads are.
  ///
  /// - Throws: When the model's stream cannot be rotated.
  func stream(_ network: any Network, path: String) throws -> RotatableStream? {
    guard rotation == .all else { return nil }
    guard let stream = (network as? any LanguageModel)?.rotatableStream else {
      throw CheckpointError(
        path: path,
        .unsupported(
          "rotating the residual stream of a \(network.family) model, whose norms subtract means "
            + "(--rotate heads rotates between values and outputs alone)"))
    }
    return stream
  }

  /// Rotates, edit by edit.
  func apply(to network: any Network, path: String, _ edits: inout TensorEdits) throws {
    if let stream = try stream(network, path: path), let model = network as? any LanguageModel {
      try rotate(stream, of: model, &edits)
    }
    for (index, sublayer) in network.sublayers.enumerated() {
      for (source, group) in zip(sublayer.sources, sublayer.groups) {
        guard case .values(let value, let heads) = source else { continue }
        rotate(value, group, heads, layer: index, &edits)
      }
    }
  }

  private func rotate(
    _ stream: RotatableStream, of model: any LanguageModel, _ edits: inout TensorEdits
  ) throws {
    var numbers = RandomStream(seed: seed, name: "rotation of the stream")
    let rotation = HadamardRotation(size: model.embedding.matrix.inputs, stream: &numbers)
    let embedding = edits.weight(model.embedding)
    let finalNorm = try edits.norm(stream.finalNorm)
    let head = rotation.applied(
      toRowsOf: (model.isTied ? embedding : edits.weight(model.head)).columnsScaled(by: finalNorm))
    edits.setNorm(stream.finalNorm, finalNorm.map { _ in 1 })
    if model.isTied {
      edits.add(Self.headName + ".weight", head, like: model.embedding)
      edits.set(Self.tieKey, to: false)
    } else {
      edits.setWeight(model.head, head)
    }
    edits.setWeight(model.embedding, rotation.applied(toRowsOf: embedding))
    for (name, layers) in stream.readers {
      let norm = try edits.norm(name)
      for linear in layers {
        edits.setWeight(
          linear, rotation.applied(toRowsOf: edits.weight(linear).columnsScaled(by: norm)))
      }
      edits.setNorm(name, norm.map { _ in 1 })
    }
    for linear in stream.writers {
      edits.setWeight(linear, rotation.appliedTransposed(to: edits.weight(linear)))
      if let bias = edits.bias(linear) {
        edits.setBias(
          linear,
          rotation.applied(toRowsOf: Matrix(rows: 1, columns: bias.count, values: bias)).values)
      }
    }
  }

  /// The value layer's rows and the columns of the layers that read them.
  private func rotate(
    _ value: Linear, _ readers: [Linear], _ heads: HeadLayout, layer: Int,
    _ edits: inout TensorEdits
  ) {
    let rotations = (0..<heads.keyHeads).map { head in
      var numbers = RandomStream(seed: seed, name: "rotation of head \(head) of branch \(layer)")
      return HadamardRotation(size: heads.size, stream: &numbers)
    }
    let weight = edits.weight(value)
    edits.setWeight(
      value,
      Matrix.stack(
        rotations.enumerated().map { head, rotation in
          rotation.appliedTransposed(
            to: weight.rows(head * heads.size..<(head + 1) * heads.size))
        }))
    if let bias = edits.bias(value) {
      edits.setBias(
        value,
        rotations.enumerated().flatMap { head, rotation in
          rotation.applied(
            toRowsOf: Matrix(
              rows: 1, columns: heads.size,
              values: Array(bias[head * heads.size..<(head + 1) * heads.size]))
          ).values
        })
    }
    for linear in readers {
      var weight = edits.weight(linear)
      for head in 0..<heads.heads {
        let rotation = rotations[head / (heads.heads / heads.keyHeads)]
        let part = rotation.applied(
          toRowsOf: weight.columns(head * heads.size..<(head + 1) * heads.size))
        weight.setColumns(from: head * heads.size, to: part)
      }
      edits.setWeight(linear, weight)
    }
  }
}

extension Matrix {
  /// A copy of some columns.
  fileprivate func columns(_ range: Range<Int>) -> Matrix {
    Matrix(
      rows: rows, columns: range.count,
      values: (0..<rows).flatMap {
        values[$0 * columns + range.lowerBound..<$0 * columns + range.upperBound]
      })
  }

  /// Replaces the columns from `start` on.
  fileprivate mutating func setColumns(from start: Int, to part: Matrix) {
    for row in 0..<rows {
      let target = row * columns + start
      values.replaceSubrange(target..<target + part.columns, with: part.row(row))
    }
  }
}

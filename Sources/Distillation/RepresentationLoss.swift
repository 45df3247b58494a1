// Losses on the inside of a network: streams behind branches, and how tokens relate to each other in a layer's queries,
// keys and values.
//
// Source   streams: Romero et al., "FitNets", ICLR 2015, arXiv:1412.6550, and Jiao et al., "TinyBERT", arXiv:1909.10351
//          (a trained projection to the teacher's width); relations: Wang et al., "MiniLMv2", ACL Findings 2021,
//          arXiv:2012.15828, equations 3 to 6
// Given    stream: student S [tokens, w], teacher T [tokens, W], projection P [W, w]
//          relation: student A and teacher B, the outputs of one projection, cut into r relation heads
// Result   stream: mean over tokens of ‖P s − t‖² / ‖t‖²;  relation: mean over tokens and heads of
//          KL(softmax(B Bᵀ / √d_B) ‖ softmax(A Aᵀ / √d_A)), each token over those before it and itself in a decoder
// Differs  Relations are taken before the rotation of queries and keys; the error of a stream is relative, so that one
//          weight fits all layers
// Checked  RepresentationLossTests: central differences of the definitions in Double

import Foundation
import JSONDocuments
import Tensors

/// A loss on the inside of the student.
public enum RepresentationLoss: Sendable, Equatable {
  /// The stream behind layers, by their numbers in student and teacher.
  case stream(student: Int, teacher: Int, weight: Double)
  /// Relations of queries, keys and values of a layer.
  case relations(student: Int, teacher: Int, heads: Int, weight: Double)

  /// The resolved options.
  var json: JSONValue {
    switch self {
    case .stream(let student, let teacher, let weight):
      [
        "kind": "stream", "student": .integer(student), "teacher": .integer(teacher),
        "weight": .number(weight),
      ]
    case .relations(let student, let teacher, let heads, let weight):
      [
        "kind": "relations", "student": .integer(student), "teacher": .integer(teacher),
        "heads": .integer(heads), "weight": .number(weight),
      ]
    }
  }
}

/// The relative squared error of a projected stream.
enum StreamLoss {
  /// The loss's sum over rows, the gradient of the student's stream and that of the projection.
  ///
  /// - Parameters:
  ///   - projection: P, `[teacher width, student width]`; nil compares the streams as they are.
  ///   - scale: Multiplies value and gradients.
  static func apply(
    student: Matrix, teacher: Matrix, projection: Matrix?, scale: Double
  ) -> (value: Double, student: Matrix, projection: Matrix?) {
    let plain = student.unrecorded
    var difference = projection.map { DenseMatrix($0).apply(to: plain) } ?? plain
    precondition(difference.columns == teacher.columns && difference.rows == teacher.rows)
    var value = 0.0
    for row in 0..<teacher.rows {
      let range = teacher.range(ofRow: row), target = teacher.values.span.extracting(range)
      let size = Double(dot(target, target)) + 1e-12
      var all = difference.values.mutableSpan
      var own = all._mutatingExtracting(range)
      for i in target.indices { own[i] -= target[i] }
      value += Double(dot(own.span, own.span)) / size
      let factor = Float(2 * scale / size)
      for i in own.indices { own[i] *= factor }
    }
    guard let projection else { return (scale * value, difference, nil) }
    return (
      scale * value, DenseMatrix(projection).applyTransposed(to: difference),
      difference.transposedProduct(plain)
    )
  }
}

/// The divergence between token relations.
enum RelationLoss {
  /// The loss's sum over tokens and heads, and the gradient of the student's matrix.
  ///
  /// - Parameters:
  ///   - sequences: Rows of each sequence.
  ///   - heads: Relation heads; both widths are multiples of it.
  ///   - isCausal: Whether a token relates to those before it alone.
  static func apply(
    student: Matrix, teacher: Matrix, sequences: [Range<Int>], heads: Int, isCausal: Bool,
    scale: Double
  ) -> (value: Double, student: Matrix) {
    let columns = student.columns, size = columns / heads
    precondition(columns % heads == 0 && teacher.columns % heads == 0)
    var gradient = Matrix(rows: student.rows, columns: columns)
    let parts = ParallelLoop.map(sequences.count) { index -> (Double, [Float]) in
      let rows = sequences[index], count = rows.count
      var value = 0.0
      var own = [Float](repeating: 0, count: count * columns)
      for head in 0..<heads {
        let a = oneHead(student, rows, head, heads), b = oneHead(teacher, rows, head, heads)
        let ofStudent = table(a, isCausal: isCausal), ofTeacher = table(b, isCausal: isCausal)
        // With R = A Aᵀ / √d and the gradient G of R: that of A is (G + Gᵀ) A / √d.
        var slopes = [Float](repeating: 0, count: count * count)
        for i in 0..<count {
          for j in 0..<(isCausal ? i + 1 : count) {
            let p = ofTeacher[i * count + j], q = ofStudent[i * count + j]
            if p > 0 { value += Double(p) * log(Double(p) / Double(max(q, 1e-30))) }
            slopes[i * count + j] += q - p
            slopes[j * count + i] += q - p
          }
        }
        let factor = Float(scale / Double(size).squareRoot())
        for i in 0..<count {
          var target = [Float](repeating: 0, count: size)
          var span = target.mutableSpan
          for j in 0..<count where slopes[i * count + j] != 0 {
            RowKernels.add(
              factor * slopes[i * count + j],
              times: a.values.span.extracting(j * size..<(j + 1) * size), to: &span)
          }
          for k in 0..<size { own[i * columns + head * size + k] = target[k] }
        }
      }
      return (value, own)
    }
    var value = 0.0
    for (index, rows) in sequences.enumerated() {
      value += parts[index].0
      gradient.values.replaceSubrange(
        rows.lowerBound * columns..<rows.upperBound * columns, with: parts[index].1)
    }
    return (scale * value, gradient)
  }

  /// One relation head of a sequence, `[tokens, size]`.
  private static func oneHead(_ matrix: Matrix, _ rows: Range<Int>, _ head: Int, _ heads: Int)
    -> Matrix
  {
    let size = matrix.columns / heads
    var values: [Float] = []
    values.reserveCapacity(rows.count * size)
    for row in rows {
      let first = row * matrix.columns + head * size
      values += matrix.values[first..<first + size]
    }
    return Matrix(rows: rows.count, columns: size, values: values)
  }

  /// softmax(A Aᵀ / √d), row by row; zero where a token does not look.
  private static func table(_ a: Matrix, isCausal: Bool) -> [Float] {
    let count = a.rows
    var table = DenseMatrix(a).apply(to: a).values
    let scale = 1 / Float(a.columns).squareRoot()
    var span = table.mutableSpan
    for i in 0..<count {
      let seen = isCausal ? i + 1 : count
      var live = span._mutatingExtracting(i * count..<i * count + seen)
      RowKernels.softmax(&live, scale: scale)
      for j in seen..<count { span[i * count + j] = 0 }
    }
    return table
  }
}

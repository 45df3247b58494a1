// The order in which groups of inputs of a matrix can go, when what remains is fitted again each time.
//
// Source   Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992; whole
//          groups: Kurtic, Frantar, Alistarh, "ZipLM", NeurIPS 2023, arXiv:2302.04089, section 3.1
// Given    H [inputs, inputs], the second moment of the inputs, damped; B [inputs, inputs] = W^T G W, W the weight
//          [outputs, inputs] and G the metric of its outputs (the identity, or what the loss feels of them); groups of
//          consecutive inputs of one size
// Method   the group S whose removal costs least, tr(B_SS (H^-1_SS)^-1), goes; then W -= W_S (H^-1_SS)^-1 H^-1_S,:, which
//          B follows from both sides, and H^-1 -= H^-1_:,S (H^-1_SS)^-1 H^-1_S,:
// Result   the groups in the order of their removal and what each added to the error: removing the first k of them is
//          the greedy choice for every k, so that one elimination serves all sizes
// Cost     3 * inputs^2 multiply-adds a removed input: 3 inputs^3 in double for all
// Differs  B stands for W, which only ever appears as W^T G W: the cost does not depend on the outputs
// Checked  GroupEliminationTests: least squares solved anew for every candidate, in Double

public import LinearAlgebra
import Tensors

/// Orders groups of inputs by the error that is left after their removal and a least-squares fit.
public struct GroupElimination: Sendable, Equatable {
  /// Groups, the first to go first.
  public let order: [Int]
  /// What each removal added to the error, in the order of removal.
  public let costs: [Double]

  /// A weight whose inputs go: H and B, each `[inputs, inputs]`.
  public struct Problem: Sendable {
    /// H, the second moment of the inputs.
    public let moment: DoubleMatrix
    /// B = W^T G W.
    public let gram: DoubleMatrix
    /// Inputs of a group, which stand together; divides their number.
    public let groupSize: Int

    /// A problem over both matrices.
    public init(moment: DoubleMatrix, gram: DoubleMatrix, groupSize: Int = 1) {
      precondition(
        moment.size == gram.size && groupSize > 0 && moment.size.isMultiple(of: groupSize))
      self.moment = moment
      self.gram = gram
      self.groupSize = groupSize
    }
  }

  /// Eliminates all groups, one after the other.
  ///
  /// - Parameters:
  ///   - problems: One, or several whose groups go together and whose errors add up, as of all layers that read the
  ///     residual stream.
  ///   - damping: Added to H's diagonal, as a share of its mean.
  /// - Throws: `FactorizationError` when a damped H is not positive definite.
  public init(
    _ problems: [Problem], damping: Double
  ) throws(FactorizationError) {
    let groups = problems.first.map { $0.moment.size / $0.groupSize } ?? 0
    precondition(damping > 0)
    precondition(problems.allSatisfy { $0.moment.size == groups * $0.groupSize })
    var states: [State] = []
    for problem in problems {
      let mean = problem.moment.diagonal.reduce(0, +) / Double(max(1, problem.moment.size))
      // Inputs that are all zero have nothing to lose.
      if mean == 0 { continue }
      states.append(
        State(
          inverse: try Self.inverse(of: problem.moment, damping: damping * mean),
          gram: problem.gram, size: problem.groupSize))
    }
    var order: [Int] = [], costs: [Double] = []
    var left = Array(0..<groups)
    while !left.isEmpty {
      let all = ParallelLoop.map(left.count) { index in
        states.reduce(0.0) { $0 + $1.cost(of: left[index]) }
      }
      let best = all.indices.min { (all[$0], left[$0]) < (all[$1], left[$1]) } ?? 0
      let group = left.remove(at: best)
      order.append(group)
      costs.append(max(0, all[best]))
      guard !left.isEmpty else { break }
      for index in states.indices { states[index].remove(group) }
    }
    self.order = order
    self.costs = costs
  }

  private static func inverse(
    of moment: DoubleMatrix, damping: Double
  ) throws(FactorizationError) -> DoubleMatrix {
    let n = moment.size
    var damped = moment
    for i in 0..<n { damped[i, i] += damping }
    var identity = DoubleMatrix(size: n)
    for i in 0..<n { identity[i, i] = 1 }
    return DoubleMatrix(size: n, values: try solve(identity.values, positive: damped))
  }

  /// H^-1 and B of what is left; rows and columns of what is gone are zero.
  private struct State {
    var inverse: DoubleMatrix
    var gram: DoubleMatrix
    let size: Int

    /// (H^-1_SS)^-1, row-major `[size, size]`.
    func pivot(of group: Int) -> [Double] {
      let first = group * size
      if size == 1 { return [1 / inverse[first, first]] }
      var block = DoubleMatrix(size: size), identity = DoubleMatrix(size: size)
      for i in 0..<size {
        identity[i, i] = 1
        for j in 0..<size { block[i, j] = inverse[first + i, first + j] }
      }
      // A part of a positive definite matrix is one; rounding may say otherwise, and then the group is as good as
      // dependent on the others: it costs nothing.
      return (try? solve(identity.values, positive: block))
        ?? [Double](repeating: 0, count: size * size)
    }

    /// tr(B_SS (H^-1_SS)^-1).
    func cost(of group: Int) -> Double {
      let first = group * size, pivot = pivot(of: group)
      var sum = 0.0
      for i in 0..<size {
        for j in 0..<size { sum += gram[first + i, first + j] * pivot[i * size + j] }
      }
      return sum
    }

    mutating func remove(_ group: Int) {
      let n = inverse.size, first = group * size, pivot = pivot(of: group)
      // F = (H^-1_SS)^-1 H^-1_S,: [size, n]: what each removed input is of the others, negated.
      var factor = [Double](repeating: 0, count: size * n)
      for i in 0..<size {
        for k in 0..<size {
          let scale = pivot[i * size + k]
          for j in 0..<n { factor[i * n + j] += scale * inverse[first + k, j] }
        }
      }
      // W -= W_S F, so B -= F^T B_S,: + B_:,S F - F^T B_SS F; with P = B_S,: - B_SS F / 2 that is F^T P + P^T F.
      var rows = [Double](repeating: 0, count: size * n)
      for i in 0..<size {
        for j in 0..<n { rows[i * n + j] = gram[first + i, j] }
        for k in 0..<size {
          let scale = gram[first + i, first + k] / 2
          for j in 0..<n { rows[i * n + j] -= scale * factor[k * n + j] }
        }
      }
      let size = size, old = Array(inverse.values[first * n..<(first + size) * n])
      Self.update(&inverse, size) { row, i, part in
        let scale = old[i * n + row]
        let source = factor.span.extracting(i * n..<(i + 1) * n)
        for j in source.indices { part[j] -= scale * source[j] }
      }
      Self.update(&gram, size) { row, i, part in
        let f = factor[i * n + row], p = rows[i * n + row]
        let left = rows.span.extracting(i * n..<(i + 1) * n)
        let right = factor.span.extracting(i * n..<(i + 1) * n)
        for j in left.indices { part[j] -= f * left[j] + p * right[j] }
      }
      for i in first..<first + size {
        for j in 0..<n {
          inverse[i, j] = 0
          inverse[j, i] = 0
          gram[i, j] = 0
          gram[j, i] = 0
        }
      }
    }

    private static func update(
      _ matrix: inout DoubleMatrix, _ size: Int,
      _ body: (_ row: Int, _ i: Int, _ part: inout MutableSpan<Double>) -> Void
    ) {
      let n = matrix.size, block = 32
      ParallelLoop.parts(
        of: &matrix.values, count: (n + block - 1) / block,
        range: { $0 * block * n..<min(n, ($0 + 1) * block) * n }
      ) { index, part in
        for row in index * block..<min(n, (index + 1) * block) {
          let start = (row - index * block) * n
          var target = part._mutatingExtracting(start..<start + n)
          for i in 0..<size { body(row, i, &target) }
        }
      }
    }
  }
}

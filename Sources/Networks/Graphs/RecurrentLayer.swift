// Recurrent layers: LSTM, GRU and the simple one, in one direction or in both.
//
// Source   Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; Gers et al., "Learning to Forget", 2000; Cho et
//          al., arXiv:1406.1078 (GRU); the order of the gates and the two GRUs as in keras/src/layers/rnn of Keras 3.15
// Given    rows of all steps of time, sample after sample: row `sample * steps + step`
// Differs  The kernel multiplies the rows of all steps at once. The recurrent kernel multiplies, step after step, the
//          state before; these states are what its group of the branch reads, found by a walk with the kernel and the
//          recurrent kernel as they are now.
// Checked  KerasRecurrentTests: outputs of Keras, gradients against differences

import Tensors

/// What a step of time computes.
enum RecurrentCell: Equatable {
  /// `h = a(x K + h R + b)`.
  case simple
  /// Gates i, f, c, o.
  case lstm
  /// Gates z, r, h; the reset gate comes before or behind the product with the recurrent kernel.
  case gru(resetsAfter: Bool)

  /// Parts of the kernels' outputs.
  var gates: Int {
    switch self {
    case .simple: 1
    case .lstm: 4
    case .gru: 3
    }
  }
}

/// A walk over time in one direction.
final class RecurrentDirection {
  let cell: RecurrentCell
  let kernel, recurrent: Linear
  let isBackward: Bool
  /// Whether a masked step gives zeros; else it gives the state before it.
  let zeroesMasked: Bool
  /// Nil where values stay as they are.
  private let activation, gateActivation: ValueFunction?
  /// Of a GRU that resets behind the product: `[2 * gates * units]`, the kernel's and the recurrent kernel's; else empty.
  fileprivate(set) var biases: [Float]
  private let biasName: String?

  init(
    _ cell: RecurrentCell, kernel: Linear, recurrent: Linear, isBackward: Bool,
    zeroesMasked: Bool, activation: ValueFunction?, gateActivation: ValueFunction?,
    biases: (name: String, values: [Float])?
  ) {
    precondition(recurrent.matrix.outputs == cell.gates * recurrent.matrix.inputs)
    self.cell = cell
    self.kernel = kernel
    self.recurrent = recurrent
    self.isBackward = isBackward
    self.zeroesMasked = zeroesMasked
    self.activation = activation
    self.gateActivation = gateActivation
    self.biases = biases?.values ?? []
    biasName = biases?.name
  }

  var units: Int { recurrent.matrix.inputs }

  var vectors: [VectorParameter] {
    biasName.map { [VectorParameter($0, self, \.biases)] } ?? []
  }

  /// The kernel's product, `[samples * steps, gates * units]`.
  func projected(_ x: Matrix) -> Matrix {
    let product = kernel.apply(x)
    guard let biasName else { return product }
    return product.adding(biases, 0..<biases.count / 2, named: biasName)
  }

  /// The states of a walk.
  struct Course {
    /// In the order of the walk, `[samples, units]` each.
    var states: [Matrix] = []
    /// What the recurrent kernel multiplied, as far as it was asked for.
    var operands: [Matrix] = []
  }

  /// Goes over time.
  ///
  /// - Parameter mask: 1 for rows that count, 0 for those that change no state; nil where all count.
  func course(
    of projected: Matrix, steps: Int, mask: [Float]? = nil, keepsOperands: Bool = false
  ) -> Course {
    let samples = projected.rows / steps
    // Where no step counts, all are told: a layer that reads nothing says nothing of its weights.
    let isKept = mask?.contains { $0 != 0 } ?? false
    var course = Course()
    var state = Matrix(rows: samples, columns: units)
    // Recorded, so that what the first step adds to it is too.
    if let tape = projected.record?.tape { state = tape.leaf(state) { _, _ in } }
    var memory = state
    for step in 0..<steps {
      let time = isBackward ? steps - 1 - step : step
      let rows = (0..<samples).map { $0 * steps + time }
      let x = projected.gathered(rows), counts = mask.map { mask in rows.map { mask[$0] } }
      let before = (state: state, memory: memory)
      if keepsOperands { course.operands.append(state.keeping(isKept ? counts : nil)) }
      switch cell {
      case .simple:
        var sum = x
        sum.add(recurrent.apply(state))
        state = activated(sum, activation)
      case .lstm:
        var sum = x
        sum.add(recurrent.apply(state))
        var next = gate(1, of: sum).times(memory)
        next.add(gate(0, of: sum).times(activated(part(2, of: sum), activation)))
        memory = next
        state = gate(3, of: sum).times(activated(memory, activation))
      case .gru(let resetsAfter):
        var product = recurrent.apply(state)
        if let biasName {
          product = product.adding(biases, biases.count / 2..<biases.count, named: biasName)
        }
        var sum = x.columns(0..<2 * units)
        sum.add(product.columns(0..<2 * units))
        let update = gate(0, of: sum), reset = gate(1, of: sum)
        var candidate = part(2, of: x)
        if resetsAfter {
          candidate.add(reset.times(part(2, of: product)))
        } else {
          let kept = reset.times(state)
          // Each gate's rows of the kernel see what they multiply: two the state, the last what is kept of it.
          if keepsOperands {
            let own = isKept ? counts : nil
            course.operands += [state.keeping(own), kept.keeping(own)]
          }
          candidate.add(part(2, of: recurrent.apply(kept)))
        }
        candidate = activated(candidate, activation)
        // z h + (1 − z) c = c + z (h − c).
        var distance = candidate.scaled(by: -1)
        distance.add(state)
        candidate.add(update.times(distance))
        state = candidate
      }
      if let counts {
        state = state.replacing(before.state, where: counts)
        memory = memory.replacing(before.memory, where: counts)
      }
      let isZeroed = counts != nil && zeroesMasked
      course.states.append(
        isZeroed
          ? state.replacing(Matrix(rows: samples, columns: units), where: counts ?? []) : state)
    }
    return course
  }

  private func part(_ index: Int, of sum: Matrix) -> Matrix {
    sum.columns(index * units..<(index + 1) * units)
  }

  private func gate(_ index: Int, of sum: Matrix) -> Matrix {
    activated(part(index, of: sum), gateActivation)
  }

  private func activated(_ x: Matrix, _ function: ValueFunction?) -> Matrix {
    function?.applied(to: x) ?? x
  }
}

/// A recurrent layer, whose result is the last state or all of them.
final class RecurrentLayer: MatrixLayer {
  /// How the results of two directions become one.
  enum Merge: String {
    case concatenation = "concat"
    case sum
    case product = "mul"
    case mean = "ave"
  }

  let directions: [RecurrentDirection]
  let steps: Int
  let returnsSequences: Bool
  let merge: Merge
  /// Whether the last column of the input is a mask of the steps.
  let isMasked: Bool

  /// - Parameters:
  ///   - directions: One, or two whose results are merged; the second one's sequence is turned around.
  ///   - steps: Of a sample.
  init(
    _ directions: [RecurrentDirection], steps: Int, returnsSequences: Bool, merge: Merge,
    isMasked: Bool
  ) {
    precondition((1...2).contains(directions.count))
    self.directions = directions
    self.steps = steps
    self.returnsSequences = returnsSequences
    self.merge = merge
    self.isMasked = isMasked
  }

  /// The kernels read the same rows; each recurrent kernel reads the states of its own direction.
  var groups: [[Linear]] { [directions.map(\.kernel)] + directions.map { [$0.recurrent] } }
  var vectors: [VectorParameter] { directions.flatMap(\.vectors) }

  /// What the kernels read, without the steps that a mask leaves out; the layer's whole input is carried.
  func start(_ x: Matrix) -> BranchState {
    let (rows, mask) = parts(of: x)
    let isKept = mask?.contains { $0 != 0 } ?? false
    return BranchState(rows.keeping(isKept ? mask : nil), carried: [x])
  }

  func step(toGroup group: Int, from previous: BranchState) -> BranchState {
    // From the first group on the kernels' products are carried, and the mask.
    var carried = previous.carried
    if group == 1 { carried = projected(carried[0]) }
    let mask = isMasked ? carried[directions.count].values : nil
    let course = directions[group - 1].course(
      of: carried[group - 1], steps: steps, mask: mask, keepsOperands: true)
    return BranchState(Matrix.stack(course.operands), carried: carried)
  }

  func output(from last: BranchState) -> Matrix { merged(last.carried) }

  func apply(_ x: Matrix) -> Matrix { merged(projected(x)) }

  private func parts(of x: Matrix) -> (rows: Matrix, mask: [Float]?) {
    guard isMasked else { return (x, nil) }
    return (x.columns(0..<x.columns - 1), x.columns(x.columns - 1..<x.columns).values)
  }

  /// The kernels' products, and the mask as a column where there is one.
  private func projected(_ x: Matrix) -> [Matrix] {
    let (rows, mask) = parts(of: x)
    return directions.map { $0.projected(rows) }
      + (mask.map { [Matrix(rows: $0.count, columns: 1, values: $0)] } ?? [])
  }

  /// From what `projected` gives to the result: `[samples * steps, channels]` or `[samples, channels]`.
  private func merged(_ projected: [Matrix]) -> Matrix {
    let mask = isMasked ? projected[directions.count].values : nil
    let results = directions.indices.map { index -> Matrix in
      var states = directions[index].course(of: projected[index], steps: steps, mask: mask).states
      guard returnsSequences else { return states[steps - 1] }
      if index == 1 { states.reverse() }
      return Matrix.interleaved(states)
    }
    guard results.count == 2 else { return results[0] }
    switch merge {
    case .concatenation: return Matrix.sideBySide(results)
    case .product: return results[0].times(results[1])
    case .sum, .mean:
      var sum = results[0]
      sum.add(results[1])
      return merge == .mean ? sum.scaled(by: 0.5) : sum
    }
  }
}

extension Matrix {
  /// Rows of steps of time, `[samples, columns]` each, sample after sample.
  fileprivate static func interleaved(_ steps: [Matrix]) -> Matrix {
    let samples = steps[0].rows, width = steps[0].columns, count = steps.count
    return sideBySide(steps).reshaped(rows: samples * count, columns: width)
  }

  /// The rows that count.
  fileprivate func keeping(_ mask: [Float]?) -> Matrix {
    guard let mask else { return self }
    return gathered(mask.indices.filter { mask[$0] != 0 })
  }

  /// Adds a part of a vector to every row.
  ///
  /// - Parameter name: The whole vector's name in the checkpoint.
  fileprivate func adding(_ vector: [Float], _ part: Range<Int>, named name: String) -> Matrix {
    let width = columns
    precondition(part.count == width)
    var result = changedCopy(with: self) { values, _ in
      for start in stride(from: 0, to: values.count, by: width) {
        for i in 0..<width { values[start + i] += vector[part.lowerBound + i] }
      }
    }
    let count = vector.count
    result.record = GradientRecord(of: [record]) { gradient, observer in
      if observer.wants(name) {
        var whole = [Float](repeating: 0, count: count)
        whole.replaceSubrange(part, with: gradient.columnSums())
        observer.receive(name, .vector(whole))
      }
      return [gradient]
    }
    return result
  }
}

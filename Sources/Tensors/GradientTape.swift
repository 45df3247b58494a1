// Reverse-mode differentiation: operations leave a record on their result, and a walk over the records in the
// reverse order of their making carries a gradient from a result back to every parameter.
//
// Source   Linnainmaa, "Taylor expansion of the accumulated rounding error", BIT 16, 1976; Griewank and
//          Walther, "Evaluating Derivatives", SIAM 2008, chapter 3
// Given    a forward pass over matrices of which some carry a record
// Result   for each parameter that an observer wants, what its gradient is made of
// Differs  Records refer to the records of their arguments; the tape itself holds none. So what a forward pass
//          has saved is freed when its last result goes, and during the walk as soon as it has been used.
// Checked  GradientTapeTests; NetworkGradientTests: both families against central differences

import Synchronization

/// The order in which the operations of one batch were recorded. Batches are independent: one tape each.
public final class GradientTape: Sendable {
  private let count = Atomic<Int>(0)
  /// Names of layers whose results are kept for losses of their own.
  private let wanted: Set<String>
  private let kept = Mutex<[String: Matrix]>([:])

  /// An empty tape.
  ///
  /// - Parameter keeping: Names of linear layers whose results `kept(_:)` gives after the forward pass.
  public init(keeping: Set<String> = []) { wanted = keeping }

  /// Keeps a layer's result if it was asked for.
  public func offer(_ name: String, _ result: Matrix) {
    if wanted.contains(name) { kept.withLock { $0[name] = result } }
  }

  /// Takes out the recorded result of a layer that was to be kept; nil when the layer did not run.
  public func takeKept(_ name: String) -> Matrix? {
    kept.withLock { $0.removeValue(forKey: name) }
  }

  fileprivate func next() -> Int { count.wrappingAdd(1, ordering: .relaxed).oldValue }

  /// A matrix at which recording starts: an embedding, or any other input.
  ///
  /// - Parameter receive: Called once during a walk with the gradient of the values.
  public func leaf(
    _ matrix: Matrix, _ receive: @escaping @Sendable (Matrix, any GradientObserver) -> Void
  ) -> Matrix {
    var result = matrix
    result.record = GradientRecord(tape: self, arguments: []) { gradient, observer in
      receive(gradient, observer)
      return []
    }
    return result
  }
}

/// Receives the gradients of parameters during a walk.
public protocol GradientObserver: AnyObject {
  /// Whether the gradient of a parameter, named as its tensor in the checkpoint, is wanted. What nobody wants
  /// is not computed.
  func wants(_ parameter: String) -> Bool
  /// A part of a parameter's gradient: the whole is the sum of all parts of the walk.
  func receive(_ parameter: String, _ gradient: ParameterGradient)
}

/// A part of the gradient of a loss with respect to one parameter.
public enum ParameterGradient: Sendable {
  /// Of a weight `[outputs, inputs]` in `y = x Wᵀ`: Σ over tokens of g xᵀ.
  ///
  /// - `inputs`: x, `[tokens, inputs]`.
  /// - `outputs`: g, the gradient of y, `[tokens, outputs]`.
  case product(inputs: Matrix, outputs: Matrix)
  /// Of some rows of an embedding: row `tokens[t]` has the sum of the rows t, `[tokens, width]`.
  case rows(tokens: [Int32], gradients: Matrix)
  /// Of a weight as a whole, `[outputs, inputs]`: where groups of outputs have inputs of their own.
  case matrix(Matrix)
  /// Of a vector.
  case vector([Float])
}

/// How a recorded matrix was made, and how a gradient of it becomes gradients of what it was made from.
///
/// An operation on recorded matrices puts a record on its result. Whoever writes a recorded matrix's values
/// must do the same, or the walk takes the change for a constant.
public final class GradientRecord: Sendable {
  /// Maps the gradient of the result to those of the arguments, in their order. A result that has no
  /// record in that place is ignored.
  public typealias Backward = @Sendable (consuming Matrix, any GradientObserver) -> [Matrix]

  private struct State: Sendable {
    var arguments: [GradientRecord?]
    var backward: Backward
  }

  /// The tape of the batch.
  public let tape: GradientTape
  private let index: Int
  private let state: Mutex<State?>

  fileprivate init(
    tape: GradientTape, arguments: [GradientRecord?], backward: @escaping Backward
  ) {
    self.tape = tape
    index = tape.next()
    state = Mutex(State(arguments: arguments, backward: backward))
  }

  /// The record of an operation.
  ///
  /// - Parameters:
  ///   - arguments: The records of the arguments; nil for those without.
  ///   - backward: Runs at most once. It must hold its matrices without their records, so that these can go.
  /// - Returns: nil when no argument has a record.
  public convenience init?(of arguments: [GradientRecord?], _ backward: @escaping Backward) {
    let recorded = arguments.compactMap { $0 }
    guard let tape = recorded.first?.tape else { return nil }
    precondition(recorded.allSatisfy { $0.tape === tape }, "an operation over two tapes")
    self.init(tape: tape, arguments: arguments, backward: backward)
  }

  /// Takes out what the record holds; it can be used once.
  private func take() -> State {
    let taken = state.withLock { state in
      defer { state = nil }
      return state
    }
    guard let taken else { preconditionFailure("the gradients of this pass were taken before") }
    return taken
  }

  /// Walks from a result back to all that it was made from.
  ///
  /// - Parameters:
  ///   - result: A recorded matrix. What leads to it is freed on the way: it can be walked once.
  ///   - gradient: The gradient of the loss with respect to the result, of the same size.
  ///   - also: Results on the way to which the loss gives a gradient of its own.
  ///   - observer: Receives the gradients of parameters, on the calling thread, in a fixed order.
  public static func walk(
    from result: Matrix, gradient: consuming Matrix,
    also: [(result: Matrix, gradient: Matrix)] = [], observer: any GradientObserver
  ) {
    precondition(gradient.rows == result.rows && gradient.columns == result.columns)
    guard let end = result.record else { preconditionFailure("the result has no record") }
    let others = also.compactMap { start in start.result.record.map { ($0, start.gradient) } }
    precondition(others.count == also.count, "a result without a record")
    let last = others.reduce(end.index) { max($0, $1.0.index) }
    var records = [GradientRecord?](repeating: nil, count: last + 1)
    var gradients = [Matrix?](repeating: nil, count: last + 1)
    records[end.index] = end
    gradients[end.index] = gradient
    for (record, gradient) in others {
      records[record.index] = record
      if gradients[record.index] == nil {
        gradients[record.index] = gradient
      } else {
        gradients[record.index]?.add(gradient)
      }
    }
    for index in stride(from: last, through: 0, by: -1) {
      guard let record = records[index], let own = gradients[index] else { continue }
      records[index] = nil
      gradients[index] = nil
      let state = record.take()
      let parts = state.backward(own, observer)
      precondition(parts.count == state.arguments.count)
      for (argument, part) in zip(state.arguments, parts) {
        guard let argument else { continue }
        let place = argument.index
        records[place] = argument
        guard var sum = gradients[place] else {
          gradients[place] = part
          continue
        }
        gradients[place] = nil
        sum.add(part)
        gradients[place] = sum
      }
    }
  }
}

extension Matrix {
  /// The same values without a record: a constant.
  public var unrecorded: Matrix {
    var result = self
    result.record = nil
    return result
  }
}

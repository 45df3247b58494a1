// The end of a language model's backward pass: the head and the loss, a few rows of logits at a time, then the
// walk over the tape.

public import Tensors

extension LanguageModel {
  /// Values of logits that exist at one time.
  private static var logitsAtOnce: Int { 1 << 22 }

  /// Carries the gradient of a loss, a sum over rows of the stream, back to every parameter.
  ///
  /// The logits never exist as a whole: memory for them is 16 MB, or 64 rows.
  ///
  /// - Parameters:
  ///   - hidden: The stream after the last branch of a batch with a tape, `[tokens, width]`. It can be
  ///     used once.
  ///   - observer: Receives the gradients of parameters; those of a tied head and its embedding under one
  ///     name, as `.product` and `.rows`.
  ///   - also: Results of the forward pass to which the loss gives gradients of its own.
  ///   - loss: Gets some rows and their logits `[rows, vocabulary]`, and replaces the logits by the
  ///     gradient of the loss. Rows come in order.
  public func backpropagate(
    _ hidden: Matrix, observer: any GradientObserver,
    also: [(result: Matrix, gradient: Matrix)] = [],
    loss: (_ rows: Range<Int>, _ logits: inout Matrix) -> Void
  ) {
    let x = normalize(hidden)
    precondition(x.record != nil, "the batch has no tape")
    let head = head
    var gradients = Matrix(rows: x.rows, columns: x.columns)
    let atOnce = max(64, Self.logitsAtOnce / max(1, head.matrix.outputs))
    for start in stride(from: 0, to: x.rows, by: atOnce) {
      let rows = start..<min(start + atOnce, x.rows)
      let part = x.unrecorded.rows(rows)
      var logits = logits(ofNormalized: part)
      let capped = logitCap == nil ? [] : logits.values
      loss(rows, &logits)
      if let cap = logitCap { SoftCap.multiplyBySlope(&logits.values, capped: capped, cap: cap) }
      if observer.wants(head.weightName) {
        observer.receive(head.weightName, .product(inputs: part, outputs: logits))
      }
      if head.bias != nil, observer.wants(head.biasName) {
        observer.receive(head.biasName, .vector(logits.columnSums()))
      }
      let own = head.matrix.applyTransposed(to: logits)
      gradients.values.replaceSubrange(
        start * x.columns..<rows.upperBound * x.columns, with: own.values)
    }
    GradientRecord.walk(from: x, gradient: gradients, also: also, observer: observer)
  }
}

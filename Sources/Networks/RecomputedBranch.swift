// Activation checkpointing: a branch keeps its input alone; the walk runs its forward pass a second time.
//
// Source   Chen et al., "Training deep nets with sublinear memory cost", 2016, arXiv:1604.06174
// Cost     One more forward pass; memory falls from every activation to one stream a branch
// Checked  NetworkGradientTests: equal bits with and without

import Synchronization
import Tensors

extension Sublayer {
  /// The branch on a recorded stream, with nothing kept of its inside.
  func recomputed(_ hidden: Matrix, _ batch: TokenBatch) -> Matrix {
    let input = hidden.unrecorded
    let plain = batch.unrecorded
    var result = run(input, plain, cache: nil, inputOf: nil)
    // SAFETY: a walk runs on the thread that started it, after the forward pass, and before weights change.
    nonisolated(unsafe) let branch: any Sublayer = self
    result.record = GradientRecord(of: [hidden.record]) { gradient, observer in
      let own = Mutex<Matrix?>(nil)
      let again = GradientTape().leaf(input) { gradient, _ in own.withLock { $0 = gradient } }
      let output = unsafe branch.run(again, plain, cache: nil, inputOf: nil)
      GradientRecord.walk(from: output, gradient: gradient, observer: observer)
      return [own.withLock { $0 } ?? Matrix(rows: input.rows, columns: input.columns)]
    }
    return result
  }
}

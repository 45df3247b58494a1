// Swift's side of the kernels that work on one row: spans in, preconditions checked, no pointers out.

import CKernels

/// Sum of products, in an order of the kernel's choice.
public func dot(_ a: Span<Float>, _ b: Span<Float>) -> Float {
  precondition(a.count == b.count)
  return unsafe a.withUnsafeBufferPointer { a in
    unsafe b.withUnsafeBufferPointer { b in
      guard let x = a.baseAddress, let y = b.baseAddress else { return 0 }
      return unsafe kernel_dot(x, y, a.count)
    }
  }
}

/// Row functions; each has the documentation of its kernel.
public enum RowKernels {
  private static func inPlace(
    _ row: inout MutableSpan<Float>, _ body: (UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    unsafe row.withUnsafeMutableBufferPointer { buffer in
      guard let start = buffer.baseAddress else { return }
      unsafe body(start, buffer.count)
    }
  }

  /// `row[i] = row[i] / sqrt(mean(row²) + epsilon) * weight[i]`: RMSNorm, arXiv:1910.07467.
  public static func rmsNorm(
    _ row: inout MutableSpan<Float>, weight: Span<Float>, epsilon: Float
  ) {
    precondition(row.count == weight.count)
    unsafe inPlace(&row) { x, n in
      let mean = unsafe kernel_sum_of_squares(x, n) / Float(n)
      let scale = 1 / (mean + epsilon).squareRoot()
      unsafe weight.withUnsafeBufferPointer { weight in
        guard let w = weight.baseAddress else { return }
        unsafe kernel_scale_by(x, scale, w, x, n)
      }
    }
  }

  /// LayerNorm with weight and bias, arXiv:1607.06450.
  public static func layerNorm(
    _ row: inout MutableSpan<Float>, weight: Span<Float>, bias: Span<Float>, epsilon: Float
  ) {
    precondition(row.count == weight.count && row.count == bias.count)
    unsafe inPlace(&row) { x, n in
      unsafe weight.withUnsafeBufferPointer { weight in
        unsafe bias.withUnsafeBufferPointer { bias in
          guard let w = weight.baseAddress, let b = bias.baseAddress else { return }
          unsafe kernel_layer_norm(x, epsilon, w, b, x, n)
        }
      }
    }
  }

  /// `gate[i] = silu(gate[i]) * up[i]`: SwiGLU, arXiv:2002.05202.
  public static func siluMultiply(_ gate: inout MutableSpan<Float>, _ up: Span<Float>) {
    precondition(gate.count == up.count)
    unsafe inPlace(&gate) { x, n in
      unsafe up.withUnsafeBufferPointer { up in
        guard let u = up.baseAddress else { return }
        unsafe kernel_silu_multiply(x, u, n)
      }
    }
  }

  /// `row[i] = row[i] * sigmoid(row[i])`.
  public static func silu(_ row: inout MutableSpan<Float>) {
    unsafe inPlace(&row) { unsafe kernel_silu($0, $1) }
  }

  /// GELU with the error function, arXiv:1606.08415.
  public static func gelu(_ row: inout MutableSpan<Float>) {
    unsafe inPlace(&row) { unsafe kernel_gelu($0, $1) }
  }

  /// GELU's tanh approximation, arXiv:1606.08415.
  public static func geluTanh(_ row: inout MutableSpan<Float>) {
    unsafe inPlace(&row) { unsafe kernel_gelu_tanh($0, $1) }
  }

  /// `row[i] = exp(scale * row[i]) / sum`.
  public static func softmax(_ row: inout MutableSpan<Float>, scale: Float) {
    unsafe inPlace(&row) { unsafe kernel_softmax($0, scale, $1) }
  }

  /// Rotates pairs `(row[i], row[i + half])` by angles given as cosines and sines, `half` of each.
  public static func rotate(
    _ row: inout MutableSpan<Float>, cosines: Span<Float>, sines: Span<Float>
  ) {
    precondition(cosines.count == sines.count && row.count >= 2 * cosines.count)
    unsafe inPlace(&row) { x, _ in
      unsafe cosines.withUnsafeBufferPointer { cosines in
        unsafe sines.withUnsafeBufferPointer { sines in
          guard let c = cosines.baseAddress, let s = sines.baseAddress else { return }
          unsafe kernel_rotate(x, c, s, cosines.count)
        }
      }
    }
  }

  /// `target[i] += scale * source[i]`.
  public static func add(
    _ scale: Float, times source: Span<Float>, to target: inout MutableSpan<Float>
  ) {
    precondition(source.count == target.count)
    unsafe inPlace(&target) { y, n in
      unsafe source.withUnsafeBufferPointer { source in
        guard let x = source.baseAddress else { return }
        unsafe kernel_axpy(scale, x, y, n)
      }
    }
  }
}

/// What two rows of logits over one vocabulary say about each other; natural logarithms, sums in Double.
public struct LogitComparison: Sendable, Equatable {
  /// log Σ exp(reference).
  public let referenceLogSum: Double
  /// log Σ exp(model).
  public let modelLogSum: Double
  /// KL(softmax(reference) ‖ softmax(model)), in nats.
  public let divergence: Double
  /// Index of the first largest logit of the reference.
  public let referenceArgmax: Int
  /// Index of the first largest logit of the model.
  public let modelArgmax: Int

  /// Compares two rows, `[vocabulary]` each.
  public init(reference: Span<Float>, model: Span<Float>) {
    precondition(reference.count == model.count && !reference.isEmpty)
    let result = unsafe reference.withUnsafeBufferPointer { a in
      unsafe model.withUnsafeBufferPointer { b in
        guard let r = a.baseAddress, let m = b.baseAddress else {
          return kernel_divergence_result()
        }
        return unsafe kernel_divergence(r, m, a.count)
      }
    }
    referenceLogSum = result.reference_log_sum
    modelLogSum = result.model_log_sum
    divergence = result.divergence
    referenceArgmax = result.reference_argmax
    modelArgmax = result.model_argmax
  }
}

/// log Σ exp(row), in Double.
public func logSumExp(_ row: Span<Float>) -> Double {
  precondition(!row.isEmpty)
  return unsafe row.withUnsafeBufferPointer { buffer in
    guard let start = buffer.baseAddress else { return -.infinity }
    return unsafe kernel_log_sum_exp(start, buffer.count)
  }
}

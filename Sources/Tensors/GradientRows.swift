// Backward passes of functions of one row. Each replaces the gradient of the result by that of the argument.
//
// Source   derivatives of RMSNorm (arXiv:1910.07467), LayerNorm (arXiv:1607.06450), SiLU and GELU
//          (arXiv:1606.08415), softmax and its cross-entropy
// Checked  GradientRowTests: central differences of the definitions in Double

import CKernels

/// Gradients of row functions; what each function is stands at `RowKernels`.
public enum RowGradients {
  /// RMSNorm: with r = 1 / sqrt(mean(x²) + ε) and t = weight ∘ gradient,
  /// `r t − x · r³ · mean(t ∘ x)`.
  public static func rmsNorm(
    _ gradient: inout MutableSpan<Float>, input: Span<Float>, weight: Span<Float>, epsilon: Float
  ) {
    precondition(gradient.count == input.count && input.count == weight.count)
    let count = Float(input.count)
    let scale = 1 / (dot(input, input) / count + epsilon).squareRoot()
    for i in weight.indices { gradient[i] *= weight[i] }
    let along = dot(gradient.span, input) / count * scale * scale * scale
    for i in input.indices { gradient[i] = scale * gradient[i] - along * input[i] }
  }

  /// Adds one row's part of the gradient of RMSNorm's weight: `gradient ∘ r x`.
  public static func addRMSNormWeight(
    _ gradient: Span<Float>, input: Span<Float>, epsilon: Float, to sum: inout MutableSpan<Double>
  ) {
    precondition(gradient.count == input.count && input.count == sum.count)
    let scale = 1 / (dot(input, input) / Float(input.count) + epsilon).squareRoot()
    for i in input.indices { sum[i] += Double(gradient[i] * input[i] * scale) }
  }

  /// LayerNorm: with n the normalized row, s the deviation and t = weight ∘ gradient,
  /// `(t − mean(t) − n · mean(t ∘ n)) / s`.
  ///
  /// - Parameter normalized: n, `(x − mean) / s`.
  /// - Parameter inverse: 1 / s.
  public static func layerNorm(
    _ gradient: inout MutableSpan<Float>, normalized: Span<Float>, inverse: Float,
    weight: Span<Float>
  ) {
    precondition(gradient.count == normalized.count && weight.count == normalized.count)
    let count = Double(normalized.count)
    var sum = 0.0
    for i in weight.indices {
      gradient[i] *= weight[i]
      sum += Double(gradient[i])
    }
    let mean = Float(sum / count)
    let along = Float(Double(dot(gradient.span, normalized)) / count)
    for i in normalized.indices {
      gradient[i] = (gradient[i] - mean - normalized[i] * along) * inverse
    }
  }

  /// `(x − mean) / s` in place, s² the variance plus ε.
  ///
  /// - Returns: 1 / s.
  public static func normalize(_ row: inout MutableSpan<Float>, epsilon: Float) -> Float {
    let count = Double(row.count)
    var sum = 0.0, squares = 0.0
    for i in row.indices { sum += Double(row[i]) }
    let mean = sum / count
    for i in row.indices { squares += (Double(row[i]) - mean) * (Double(row[i]) - mean) }
    let inverse = 1 / (squares / count + Double(epsilon)).squareRoot()
    for i in row.indices { row[i] = Float((Double(row[i]) - mean) * inverse) }
    return Float(inverse)
  }

  /// Softmax of `scale · x`: with p the result, `scale · p ∘ (gradient − Σ p gradient)`.
  public static func softmax(
    _ gradient: inout MutableSpan<Float>, probabilities: Span<Float>, scale: Float
  ) {
    precondition(gradient.count == probabilities.count)
    let mean = dot(gradient.span, probabilities)
    for i in probabilities.indices {
      gradient[i] = scale * probabilities[i] * (gradient[i] - mean)
    }
  }

  /// Cross-entropy of one label: the logits are replaced by the gradient, softmax − one at the label.
  ///
  /// - Returns: −log p(label), in nats.
  public static func crossEntropy(_ logits: inout MutableSpan<Float>, label: Int) -> Double {
    precondition(logits.indices.contains(label), "label \(label) of \(logits.count)")
    let loss = logSumExp(logits.span) - Double(logits[label])
    RowKernels.softmax(&logits, scale: 1)
    logits[label] -= 1
    return loss
  }

  /// SiLU: gradient times σ(x) (1 + x (1 − σ(x))).
  public static func silu(_ gradient: inout MutableSpan<Float>, input: Span<Float>) {
    unsafe apply(kernel_silu_gradient, &gradient, input)
  }

  /// GELU with the error function: gradient times Φ(x) + x φ(x).
  public static func gelu(_ gradient: inout MutableSpan<Float>, input: Span<Float>) {
    unsafe apply(kernel_gelu_gradient, &gradient, input)
  }

  /// GELU's tanh approximation.
  public static func geluTanh(_ gradient: inout MutableSpan<Float>, input: Span<Float>) {
    unsafe apply(kernel_gelu_tanh_gradient, &gradient, input)
  }

  private static func apply(
    _ kernel: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void,
    _ gradient: inout MutableSpan<Float>, _ input: Span<Float>
  ) {
    precondition(gradient.count == input.count)
    unsafe input.withUnsafeBufferPointer { input in
      unsafe gradient.withUnsafeMutableBufferPointer { gradient in
        guard let x = input.baseAddress, let g = gradient.baseAddress else { return }
        unsafe kernel(x, g, gradient.count)
      }
    }
  }
}

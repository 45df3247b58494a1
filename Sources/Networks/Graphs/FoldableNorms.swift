// Batch norms that can become part of the layers before them.
//
// Source   Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
//          CVPR 2018, arXiv:1712.05877, section 3.2
// Given    y = s (W x + b) + t, s and t the norm's factor and summand of each channel
// Result   (s W) x + (s b + t)
// Checked  NormFoldingTests: the same outputs, and no norm left

/// A batch norm behind a layer that nothing else reads.
public struct FoldableNorm {
  /// The layer.
  public let layer: Linear
  /// s and t, one for each of the layer's outputs.
  public let scale, shift: [Float]
  /// What the names of the norm's tensors begin with, such as `layer1.0.bn1.`.
  public let prefix: String
}

/// A network whose norms can go.
public protocol FoldableNetwork: Network {
  /// The norms that can become part of the layer before them.
  var foldableNorms: [FoldableNorm] { get }
  /// Whether its tensors alone tell its layers, so that norms may be missing.
  var isToldByTensors: Bool { get }
}

extension GraphNetwork: FoldableNetwork {
  var isToldByTensors: Bool {
    if case .tensors = sizes { true } else { false }
  }

  var foldableNorms: [FoldableNorm] {
    nodes.compactMap { node in
      guard case .plain(let layer) = node.layer, let norm = layer as? BatchNorm,
        case .matrix(let before) = nodes[node.inputs[0]].layer,
        let linear = (before as? SingleLinear)?.linear,
        nodes.count(where: { $0.inputs.contains(node.inputs[0]) }) == 1
      else { return nil }
      let (scale, shift) = norm.scaleAndShift
      return FoldableNorm(
        layer: linear, scale: scale, shift: shift,
        prefix: String(norm.names.mean.dropLast("running_mean".count)))
    }
  }
}

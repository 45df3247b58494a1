// Residual networks for small pictures: ResNet-20, 32, 44, 56, 110 … in the layout of PyTorch's state dicts.
//
// Source   He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, section 4.2: a 3 × 3
//          convolution, three groups of blocks of two with 16, 32 and 64 channels, the mean over pixels, one matrix;
//          names as in github.com/akamaster/pytorch_resnet_cifar10
// Given    `conv1`, `bn1`, `layerG.B.conv1`, `bn1`, `conv2`, `bn2`, `linear`; shortcuts without weights (option A) or
//          `layerG.B.shortcut.0` and `.1`, a convolution and its norm (option B). Sizes are those of the tensors.
//          A norm may be missing where the convolution before it has a bias: it has become part of it (NormFolding)
// Checked  ImageFamilyTests: PyTorch's logits on random small networks; accuracy of the published ones

import Checkpoints
import Tensors

/// The family of residual networks for pictures of 32 × 32.
enum ResidualNetwork: ModelFamily {
  /// The values of `model_type` that belong here.
  static let modelTypes = ["resnet-cifar"]

  /// The norms' ε, PyTorch's default.
  private static let epsilon: Float = 1e-5

  /// By the first convolution, the blocks and the last matrix.
  static func recognizes(_ checkpoint: any Checkpoint) -> Bool {
    checkpoint.shape("conv1.weight")?.count == 4 && checkpoint.holds("layer1.0.conv1.weight")
      && (checkpoint.holds("layer1.0.bn1.running_mean") || checkpoint.holds("layer1.0.conv1.bias"))
      && checkpoint.holds("linear.weight")
  }

  /// Builds the network of a checkpoint.
  static func build(_ checkpoint: any Checkpoint) throws(CheckpointError) -> any Network {
    var graph = GraphBuilder(checkpoint, input: SampleShape([32, 32, 3]))
    var value = try graph.convolution("conv1", of: 0, padding: 1)
    value = try norm("bn1", behind: "conv1", of: value, &graph)
    value = graph.activation(.relu, of: value)
    var layer = 1
    while checkpoint.holds("layer\(layer).0.conv1.weight") {
      var block = 0
      while checkpoint.holds("layer\(layer).\(block).conv1.weight") {
        value = try self.block(
          "layer\(layer).\(block)", stride: layer > 1 && block == 0 ? 2 : 1, of: value, &graph)
        block += 1
      }
      layer += 1
    }
    value = try graph.meanOfPixels(of: value)
    value = try graph.matrix("linear", of: value)
    return GraphNetwork(
      family: "resnet-cifar", graph, normalization: .imageNet,
      results: [.init(name: "output", node: value, kind: .logits)])
  }

  /// A norm, unless it has become part of the convolution before it.
  private static func norm(
    _ name: String, behind convolution: String, of value: Int, _ graph: inout GraphBuilder
  ) throws(CheckpointError) -> Int {
    let isFolded =
      graph.checkpoint.holds(convolution + ".bias") && !graph.checkpoint.holds(name + ".weight")
    return isFolded ? value : try graph.norm(name, of: value, epsilon: epsilon)
  }

  /// Two convolutions and the shortcut around them.
  private static func block(
    _ name: String, stride: Int, of start: Int, _ graph: inout GraphBuilder
  ) throws(CheckpointError) -> Int {
    var value = try graph.convolution(name + ".conv1", of: start, stride: stride, padding: 1)
    value = try norm(name + ".bn1", behind: name + ".conv1", of: value, &graph)
    value = graph.activation(.relu, of: value)
    value = try graph.convolution(name + ".conv2", of: value, padding: 1)
    value = try norm(name + ".bn2", behind: name + ".conv2", of: value, &graph)
    var shortcut = start
    if graph.checkpoint.holds(name + ".shortcut.0.weight") {
      shortcut = try graph.convolution(name + ".shortcut.0", of: start, stride: stride, padding: 0)
      shortcut = try norm(
        name + ".shortcut.1", behind: name + ".shortcut.0", of: shortcut, &graph)
    } else if stride > 1 || graph.shape(value) != graph.shape(start) {
      shortcut = try graph.paddedShortcut(name, from: start, stride: stride, like: value)
    }
    value = try graph.sum(name, [value, shortcut])
    return graph.activation(.relu, of: value)
  }
}

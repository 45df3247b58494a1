// Keras's layers over windows of images and signals: convolutions and pooling.

import Checkpoints
import JSONDocuments
import Tensors

extension KerasLayers {
  /// One or two sizes, as (y, x); for signals y is 1.
  func pair(
    _ layer: KerasLayer, _ key: String, default standard: (y: Int, x: Int) = (1, 1)
  ) throws(CheckpointError) -> (y: Int, x: Int) {
    guard let value = layer.configuration[key], !value.isNull else { return standard }
    let sizes = value.array?.compactMap(\.integer) ?? [value.integer].compactMap { $0 }
    guard (1...2).contains(sizes.count), sizes.allSatisfy({ (1...1 << 20).contains($0) }) else {
      throw wrong(layer, "\(key) \(value.compactText)", "one or two sizes")
    }
    if layer.kind.hasSuffix("1D") { return (1, sizes[0]) }
    return (sizes[0], sizes[sizes.count - 1])
  }

  /// A window over a layer's input: an image, or a signal as an image of one row.
  func geometry(
    _ layer: KerasLayer, _ input: Int, kernel: (y: Int, x: Int), stride: (y: Int, x: Int),
    dilation: (y: Int, x: Int) = (1, 1)
  ) throws(CheckpointError) -> PatchGeometry {
    let isSignal = layer.kind.hasSuffix("1D"), shape = graph.shape(input).dimensions
    guard shape.count == (isSignal ? 2 : 3) else {
      throw wrong(layer, "an input of \(graph.shape(input))", isSignal ? "2 sizes" : "3 sizes")
    }
    let height = isSignal ? 1 : shape[0], width = shape[shape.count - 2]
    var padding = (top: 0, bottom: 0, left: 0, right: 0)
    switch layer.configuration["padding"]?.string ?? "valid" {
    case "valid": break
    case "same":
      let y = PatchGeometry.samePadding(
        height, kernel: kernel.y, stride: stride.y, dilation: dilation.y)
      let x = PatchGeometry.samePadding(
        width, kernel: kernel.x, stride: stride.x, dilation: dilation.x)
      padding = (y.before, y.after, x.before, x.after)
    case "causal" where isSignal: padding.left = (kernel.x - 1) * dilation.x
    case let other: throw wrong(layer, "the padding '\(other)'", "valid or same")
    }
    guard
      let geometry = PatchGeometry(
        height: height, width: width, channels: shape[shape.count - 1], kernel: kernel,
        stride: stride, dilation: dilation, padding: padding)
    else {
      throw wrong(
        layer, "a window of \(kernel.y) x \(kernel.x) on \(graph.shape(input))", "one that fits")
    }
    return geometry
  }

  func shape(_ layer: KerasLayer, _ geometry: PatchGeometry, _ channels: Int) -> SampleShape {
    layer.kind.hasSuffix("1D")
      ? SampleShape([geometry.outWidth, channels])
      : SampleShape([geometry.outHeight, geometry.outWidth, channels])
  }

  mutating func convolution(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let filters = try size(layer, "filters"), kernel = try pair(layer, "kernel_size")
    let geometry = try geometry(
      layer, input, kernel: kernel, stride: try pair(layer, "strides"),
      dilation: try pair(layer, "dilation_rate"))
    let groups = layer.configuration["groups"]?.integer ?? 1
    guard groups >= 1, geometry.channels % groups == 0, filters % groups == 0 else {
      throw wrong(layer, "\(groups) groups", "a divisor of channels and filters")
    }
    let isSignal = layer.kind.hasSuffix("1D"), own = geometry.channels / groups
    let linear = try linear(
      layer, shape: isSignal ? [kernel.x, own, filters] : [kernel.y, kernel.x, own, filters],
      axes: isSignal ? [2, 0, 1] : [3, 0, 1, 2], biasCount: filters,
      windows: ImageWindows(geometry, groups: groups))
    return graph.add(
      layer.name, .matrix(SingleLinear(linear)), [input], shape(layer, geometry, filters))
  }

  /// One window a channel, and for separable convolutions the matrix behind it.
  mutating func depthwise(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let isSeparable = layer.kind == "SeparableConv2D", kernel = try pair(layer, "kernel_size")
    let geometry = try geometry(
      layer, input, kernel: kernel, stride: try pair(layer, "strides"),
      dilation: try pair(layer, "dilation_rate"))
    let multiplier = layer.configuration["depth_multiplier"]?.integer ?? 1
    guard (1...1 << 10).contains(multiplier) else {
      throw wrong(layer, "depth_multiplier \(multiplier)", "1 to 1024")
    }
    let inner = geometry.channels * multiplier
    let part =
      isSeparable || weights.find("depthwise_kernel", of: layer) != nil
      ? "depthwise_kernel" : "kernel"
    let linear = try linear(
      layer, kernel: part, shape: [kernel.y, kernel.x, geometry.channels, multiplier],
      axes: [2, 3, 0, 1], rowAxes: 2, biasCount: isSeparable ? nil : inner,
      windows: ImageWindows(geometry, groups: geometry.channels))
    let windows = graph.add(
      layer.name, .matrix(SingleLinear(linear)), [input], shape(layer, geometry, inner))
    guard isSeparable else { return windows }
    let filters = try size(layer, "filters")
    let pointwise = try self.linear(
      layer, kernel: "pointwise_kernel", shape: [1, 1, inner, filters], axes: [3, 0, 1, 2],
      biasCount: filters)
    return graph.add(
      layer.name + "/pointwise", .matrix(SingleLinear(pointwise)), [windows],
      shape(layer, geometry, filters))
  }

  mutating func pooling(_ layer: KerasLayer, _ input: Int) throws(CheckpointError) -> Int {
    let kind: Pooling = layer.kind.contains("Max") ? .largest : .mean(countsPadding: false)
    let sizes = graph.shape(input).dimensions, isSignal = layer.kind.hasSuffix("1D")
    if layer.kind == "GlobalAveragePooling1D", let mask = masks[input] {
      guard sizes.count == 2, layer.configuration["keepdims"]?.bool != true else {
        throw wrong(layer, "keepdims of masked steps", "none")
      }
      return graph.add(
        layer.name, .plain(MaskedMean(steps: sizes[0])), [input, mask], SampleShape([sizes[1]]))
    }
    if layer.kind.hasPrefix("Global") {
      let whole = isSignal ? (y: 1, x: sizes[0]) : (y: sizes[0], x: sizes.count > 1 ? sizes[1] : 1)
      let geometry = try geometry(layer, input, kernel: whole, stride: (1, 1))
      let keeps = layer.configuration["keepdims"]?.bool ?? false
      return graph.add(
        layer.name, .plain(WindowPooling(geometry, kind)), [input],
        keeps ? shape(layer, geometry, geometry.channels) : SampleShape([geometry.channels]))
    }
    let window = try pair(layer, "pool_size", default: isSignal ? (1, 2) : (2, 2))
    let geometry = try geometry(
      layer, input, kernel: window, stride: try pair(layer, "strides", default: window))
    return graph.add(
      layer.name, .plain(WindowPooling(geometry, kind)), [input],
      shape(layer, geometry, geometry.channels))
  }
}

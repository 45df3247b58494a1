import CKernels

/// How a window moves over channels-last images, `[height, width, channels]`: convolutions and pooling.
///
/// A one-dimensional signal is an image of one row.
public struct PatchGeometry: Sendable, Equatable {
  /// The image's sizes.
  public let height, width, channels: Int
  /// The window's sizes, at least 1 each.
  public let kernelHeight, kernelWidth: Int
  /// Steps from one pixel of the output to the next.
  public let strideY, strideX: Int
  /// Steps between the window's pixels.
  public let dilationY, dilationX: Int
  /// Pixels outside the image that the first window begins with.
  public let padTop, padLeft: Int
  /// The output's sizes.
  public let outHeight, outWidth: Int

  /// A window over an image.
  ///
  /// - Parameter padding: Pixels outside the image before and after it.
  /// - Returns: Nil when the window does not fit into the padded image, or a size is out of range.
  public init?(
    height: Int, width: Int, channels: Int, kernel: (y: Int, x: Int),
    stride: (y: Int, x: Int) = (1, 1),
    dilation: (y: Int, x: Int) = (1, 1),
    padding: (top: Int, bottom: Int, left: Int, right: Int) = (0, 0, 0, 0)
  ) {
    let limit = 1...1 << 20
    guard
      [height, width, channels, kernel.y, kernel.x, stride.y, stride.x, dilation.y, dilation.x]
        .allSatisfy(
          limit.contains),
      [padding.top, padding.bottom, padding.left, padding.right].allSatisfy((0...1 << 20).contains)
    else { return nil }
    let roomY = height + padding.top + padding.bottom - (kernel.y - 1) * dilation.y - 1
    let roomX = width + padding.left + padding.right - (kernel.x - 1) * dilation.x - 1
    guard roomY >= 0, roomX >= 0 else { return nil }
    (self.height, self.width, self.channels) = (height, width, channels)
    (kernelHeight, kernelWidth) = kernel
    (strideY, strideX) = stride
    (dilationY, dilationX) = dilation
    (padTop, padLeft) = (padding.top, padding.left)
    outHeight = roomY / stride.y + 1
    outWidth = roomX / stride.x + 1
  }

  /// The padding that Keras and TensorFlow call "same": ⌈size / stride⌉ pixels come out, and where an odd number
  /// of zeros is needed the larger half stands behind.
  public static func samePadding(
    _ size: Int, kernel: Int, stride: Int, dilation: Int
  ) -> (before: Int, after: Int) {
    let out = (size + stride - 1) / stride
    let needed = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return (needed / 2, needed - needed / 2)
  }

  /// Pixels of an image, and of an output.
  public var pixels: Int { height * width }
  /// Pixels of an output.
  public var outPixels: Int { outHeight * outWidth }
  /// Pixels of the window.
  public var windowPixels: Int { kernelHeight * kernelWidth }
  /// Whether each window is one pixel of the image, in the image's order.
  public var isIdentity: Bool {
    windowPixels == 1 && outHeight == height && outWidth == width && padTop == 0 && padLeft == 0
  }

  var kernel: kernel_patches {
    kernel_patches(
      height: height, width: width, channels: channels, kernel_height: kernelHeight,
      kernel_width: kernelWidth, stride_y: strideY, stride_x: strideX, dilation_y: dilationY,
      dilation_x: dilationX, pad_top: padTop, pad_left: padLeft, out_height: outHeight,
      out_width: outWidth)
  }

  /// Adds the windows of some channels of one image to its pixels.
  func fold(
    _ windows: Span<Float>, firstChannel: Int, count: Int, into image: inout MutableSpan<Float>
  ) {
    var patches = kernel
    unsafe windows.withUnsafeBufferPointer { windows in
      unsafe image.withUnsafeMutableBufferPointer { image in
        guard let from = windows.baseAddress, let to = image.baseAddress else { return }
        unsafe kernel_fold(from, &patches, firstChannel, count, to)
      }
    }
  }

  /// The images in a matrix of pixels, `[images * pixels, channels]`.
  func images(in x: Matrix) -> Int {
    precondition(
      x.columns == channels && x.rows % pixels == 0,
      "\(x.rows) x \(x.columns) are no images of \(height) x \(width) x \(channels)")
    return x.rows / pixels
  }
}

/// What pooling makes of a window.
public enum Pooling: Sendable {
  /// The largest value.
  case largest
  /// The mean, of the pixels inside the image or of the whole window.
  case mean(countsPadding: Bool)

  var kernel: kernel_pooling {
    switch self {
    case .largest: KERNEL_POOL_MAX
    case .mean(let countsPadding):
      countsPadding ? KERNEL_POOL_MEAN_WITH_PADDING : KERNEL_POOL_MEAN
    }
  }
}

extension Matrix {
  /// The windows of images, `[images * outPixels, kernelHeight * kernelWidth * channels]`: what a convolution
  /// multiplies. With groups of channels, those of a pixel's groups one after the other as rows.
  public func patches(_ geometry: PatchGeometry, groups: Int = 1) -> Matrix {
    let images = geometry.images(in: self), count = geometry.channels / groups
    if geometry.isIdentity, groups == 1 { return unrecorded }
    var result = Matrix(
      unwrittenRows: images * geometry.outPixels * groups, columns: geometry.windowPixels * count)
    let length = result.columns * groups
    ParallelLoop.overRows(of: &result.values, rowLength: length, blockRows: 64) { rows, part in
      if groups == 1 {
        unfold(geometry, rows, group: 0, of: 1, into: &part)
        return
      }
      var own = [Float](repeating: 0, count: rows.count * length / groups)
      for group in 0..<groups {
        var span = own.mutableSpan
        unfold(geometry, rows, group: group, of: groups, into: &span)
        for row in 0..<rows.count {
          for column in 0..<length / groups {
            part[row * length + group * (length / groups) + column] =
              own[row * (length / groups) + column]
          }
        }
      }
    }
    return result
  }

  /// The windows of some output pixels, counted over all images, to the start of `target`.
  func unfold(
    _ geometry: PatchGeometry, _ rows: Range<Int>, group: Int, of groups: Int,
    into target: inout MutableSpan<Float>
  ) {
    let count = geometry.channels / groups, length = geometry.windowPixels * count
    let imageLength = geometry.pixels * geometry.channels, outPixels = geometry.outPixels
    precondition(
      target.count >= rows.count * length
        && rows.upperBound <= values.count / imageLength * outPixels)
    var patches = geometry.kernel
    unsafe values.span.withUnsafeBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, var to = target.baseAddress else { return }
        var row = rows.lowerBound
        while row < rows.upperBound {
          let image = row / outPixels
          let pixels = min(rows.upperBound, (image + 1) * outPixels) - row
          unsafe kernel_unfold(
            from + image * imageLength, &patches, group * count, count, row - image * outPixels,
            pixels, to)
          unsafe to += pixels * length
          row += pixels
        }
      }
    }
  }

  /// Adds windows to the pixels that `patches` reads them from: the gradient of the images.
  public func folded(_ geometry: PatchGeometry, groups: Int = 1) -> Matrix {
    let count = geometry.channels / groups, length = geometry.windowPixels * count
    precondition(columns == length && rows % (geometry.outPixels * groups) == 0)
    let images = rows / (geometry.outPixels * groups)
    var result = Matrix(rows: images * geometry.pixels, columns: geometry.channels)
    let imageLength = geometry.pixels * geometry.channels
    let source = values.span, patchLength = geometry.outPixels * groups * length
    ParallelLoop.overRows(of: &result.values, rowLength: imageLength, blockRows: 1) { index, part in
      let own = source.extracting(
        index.lowerBound * patchLength..<(index.lowerBound + 1) * patchLength)
      if groups == 1 {
        geometry.fold(own, firstChannel: 0, count: count, into: &part)
        return
      }
      for group in 0..<groups {
        var rows: [Float] = []
        rows.reserveCapacity(patchLength / groups)
        for pixel in 0..<geometry.outPixels {
          for column in 0..<length { rows.append(own[(pixel * groups + group) * length + column]) }
        }
        geometry.fold(rows.span, firstChannel: group * count, count: count, into: &part)
      }
    }
    return result
  }

  /// Images after pooling, `[images * outPixels, channels]`, with a record of the way back.
  public func pooled(_ geometry: PatchGeometry, _ kind: Pooling) -> Matrix {
    let images = geometry.images(in: self)
    let input = unrecorded
    var result = Matrix(unwrittenRows: images * geometry.outPixels, columns: columns)
    let imageLength = geometry.pixels * columns
    ParallelLoop.overRows(
      of: &result.values, rowLength: geometry.outPixels * columns, blockRows: 1
    ) { index, part in
      let own = input.values.span.extracting(
        index.lowerBound * imageLength..<(index.lowerBound + 1) * imageLength)
      var patches = geometry.kernel
      unsafe own.withUnsafeBufferPointer { own in
        unsafe part.withUnsafeMutableBufferPointer { part in
          guard let from = own.baseAddress, let to = part.baseAddress else { return }
          unsafe kernel_pool(from, &patches, kind.kernel, to)
        }
      }
    }
    result.record = GradientRecord(of: [record]) { gradient, _ in
      [input.poolingGradient(gradient, geometry, kind)]
    }
    return result
  }

  private func poolingGradient(
    _ gradient: Matrix, _ geometry: PatchGeometry, _ kind: Pooling
  ) -> Matrix {
    var result = Matrix(rows: rows, columns: columns)
    let imageLength = geometry.pixels * columns, outLength = geometry.outPixels * columns
    ParallelLoop.overRows(of: &result.values, rowLength: imageLength, blockRows: 1) { index, part in
      let image = values.span.extracting(
        index.lowerBound * imageLength..<(index.lowerBound + 1) * imageLength)
      let own = gradient.values.span.extracting(
        index.lowerBound * outLength..<(index.lowerBound + 1) * outLength)
      var patches = geometry.kernel
      unsafe image.withUnsafeBufferPointer { image in
        unsafe own.withUnsafeBufferPointer { own in
          unsafe part.withUnsafeMutableBufferPointer { part in
            guard let x = image.baseAddress, let g = own.baseAddress, let to = part.baseAddress
            else {
              return
            }
            unsafe kernel_pool_gradient(x, g, &patches, kind.kernel, to)
          }
        }
      }
    }
    return result
  }
}

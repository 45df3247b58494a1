// Convolutions as products of patches with a matrix `[outputs, kernelHeight * kernelWidth * channels]`: the weights
// are packed into panels once, and each thread unfolds only the pixels of its own block.
//
// Source   Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing",
//          2006, section 4: unfolding
// Checked  PatchTests: the sum over the window in Double; PyTorch's and Keras's layers in GraphFixtureTests

import CKernels

extension LinearOperator {
  /// The convolution of images `[images * pixels, channels]` with this matrix: `[images * outPixels, outputs]`.
  ///
  /// - Parameters:
  ///   - groups: Groups of channels, each seen by its own `outputs / groups` rows; it divides both.
  ///   - bias: `[outputs]`, or nil.
  public func apply(
    toPatchesOf x: Matrix, _ geometry: PatchGeometry, groups: Int = 1, bias: [Float]? = nil
  ) -> Matrix {
    precondition(
      geometry.channels % groups == 0 && outputs % groups == 0
        && inputs == geometry.windowPixels * geometry.channels / groups,
      "\(inputs) inputs for \(geometry) in \(groups) groups")
    if geometry.isIdentity, groups == 1 { return apply(to: x.unrecorded, bias: bias) }
    guard multipliesDecodedRows else {
      if groups == 1 { return apply(to: x.patches(geometry), bias: bias) }
      return DenseMatrix(decoded()).apply(toPatchesOf: x, geometry, groups: groups, bias: bias)
    }
    if groups == geometry.channels, groups == outputs { return depthwise(x, geometry, bias: bias) }
    let images = geometry.images(in: x), inputs = inputs, outputs = outputs
    let width = PanelProduct.width, own = outputs / groups
    let panels = (own + width - 1) / width, panelLength = inputs * width
    var packed = [Float](unwritten: groups * panels * panelLength)
    ParallelLoop.overRows(of: &packed, rowLength: panelLength, blockRows: 1) { index, panel in
      let group = index.lowerBound / panels, first = index.lowerBound % panels * width
      let rows = group * own + first..<group * own + min(first + width, own)
      var scratch: [Float] = []
      withRows(rows, scratch: &scratch) { weights in
        PanelProduct.pack(
          rows: weights, stride: inputs, count: rows.count, depth: inputs, into: &panel)
      }
    }
    var result = Matrix(unwrittenRows: images * geometry.outPixels, columns: outputs)
    // A block of windows stays in the second-level cache, and is a multiple of the tile's 12 and 24 rows.
    let blockRows = max(24, min(240, (1 << 16) / inputs / 24 * 24))
    ParallelLoop.overRows(of: &result.values, rowLength: outputs, blockRows: blockRows) {
      rows, part in
      var scratch = [Float](unwritten: rows.count * inputs)
      for group in 0..<groups {
        var windows = scratch.mutableSpan
        x.unfold(geometry, rows, group: group, of: groups, into: &windows)
        for panel in 0..<panels {
          let first = panel * width, start = (group * panels + panel) * panelLength
          PanelProduct.multiply(
            windows.span, leftStride: inputs, rows: rows.count,
            panel: packed.span.extracting(start..<start + panelLength), depth: inputs, into: &part,
            resultOffset: group * own + first, resultStride: outputs,
            columns: min(width, own - first))
        }
      }
      if let bias { part.add(bias, toRowsOf: outputs) }
    }
    return result
  }

  /// One window a channel, without unfolding.
  private func depthwise(_ x: Matrix, _ geometry: PatchGeometry, bias: [Float]?) -> Matrix {
    let images = geometry.images(in: x), channels = geometry.channels
    let rows = decoded()
    var weight = [Float](repeating: 0, count: rows.values.count)
    for channel in 0..<channels {
      for pixel in 0..<inputs {
        weight[pixel * channels + channel] = rows.values[channel * inputs + pixel]
      }
    }
    var result = Matrix(unwrittenRows: images * geometry.outPixels, columns: channels)
    let imageLength = geometry.pixels * channels
    ParallelLoop.overRows(
      of: &result.values, rowLength: geometry.outPixels * channels, blockRows: 1
    ) { index, part in
      let own = x.values.span.extracting(
        index.lowerBound * imageLength..<(index.lowerBound + 1) * imageLength)
      var patches = geometry.kernel
      unsafe own.withUnsafeBufferPointer { own in
        unsafe weight.span.withUnsafeBufferPointer { weight in
          unsafe part.withUnsafeMutableBufferPointer { part in
            guard let from = own.baseAddress, let w = weight.baseAddress, let to = part.baseAddress
            else { return }
            unsafe kernel_depthwise(from, &patches, w, 0, geometry.outPixels, to)
          }
        }
      }
      if let bias { part.add(bias, toRowsOf: channels) }
    }
    return result
  }
}

extension MutableSpan<Float> {
  /// Adds a vector to each row.
  mutating func add(_ bias: [Float], toRowsOf columns: Int) {
    for row in 0..<count / columns {
      for column in 0..<columns { self[row * columns + column] += bias[column] }
    }
  }
}

extension Matrix {
  /// `x[row, c] = x[row, c] * scale[c] + shift[c]`; the record is the caller's.
  public mutating func scaleAndShift(_ scale: [Float], _ shift: [Float]) {
    precondition(scale.count == columns && shift.count == columns)
    guard !values.isEmpty else { return }
    let columns = columns
    ParallelLoop.overRows(of: &values, rowLength: columns, blockRows: 1024) { rows, part in
      unsafe part.withUnsafeMutableBufferPointer { part in
        unsafe scale.span.withUnsafeBufferPointer { scale in
          unsafe shift.span.withUnsafeBufferPointer { shift in
            guard let x = part.baseAddress, let s = scale.baseAddress, let t = shift.baseAddress
            else { return }
            unsafe kernel_scale_shift(x, rows.count, columns, s, t)
          }
        }
      }
    }
  }
}

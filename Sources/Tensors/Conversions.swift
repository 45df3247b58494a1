import CKernels

/// Widens stored elements to floats. `bytes` holds whole elements of `dtype`; `output` has room.
public func widen(_ bytes: RawSpan, as dtype: DType, into output: inout MutableSpan<Float>) {
  let count = bytes.byteCount / dtype.byteCount
  precondition(count <= output.count)
  guard count > 0 else { return }
  unsafe bytes.withUnsafeBytes { source in
    unsafe output.withUnsafeMutableBufferPointer { target in
      guard let from = source.baseAddress, let to = target.baseAddress else { return }
      switch dtype {
      case .float32: unsafe UnsafeMutableRawPointer(to).copyMemory(from: from, byteCount: count * 4)
      case .float16: unsafe kernel_f16_to_f32(from.assumingMemoryBound(to: UInt16.self), to, count)
      case .bfloat16:
        unsafe kernel_bf16_to_f32(from.assumingMemoryBound(to: UInt16.self), to, count)
      case .float64: unsafe kernel_f64_to_f32(from.assumingMemoryBound(to: Double.self), to, count)
      case .int64: unsafe convert(from, Int64.self, to, count)
      case .int32: unsafe convert(from, Int32.self, to, count)
      case .int16: unsafe convert(from, Int16.self, to, count)
      case .int8: unsafe convert(from, Int8.self, to, count)
      case .uint64: unsafe convert(from, UInt64.self, to, count)
      case .uint32: unsafe convert(from, UInt32.self, to, count)
      case .uint16: unsafe convert(from, UInt16.self, to, count)
      case .uint8, .bool: unsafe convert(from, UInt8.self, to, count)
      }
    }
  }
}

private func convert<Integer: FixedWidthInteger>(
  _ source: UnsafeRawPointer, _: Integer.Type, _ target: UnsafeMutablePointer<Float>, _ count: Int
) {
  let size = MemoryLayout<Integer>.size
  for i in 0..<count {
    unsafe target[i] = Float(source.loadUnaligned(fromByteOffset: i * size, as: Integer.self))
  }
}

/// Floats as the two-byte patterns of `dtype` (float16 or bfloat16), rounded to nearest even.
public func narrow(_ values: Span<Float>, to dtype: DType) -> [UInt16] {
  precondition(dtype == .float16 || dtype == .bfloat16)
  return [UInt16](capacity: values.count) { output in
    output.append(repeating: 0, count: values.count)
    var target = output.mutableSpan
    unsafe values.withUnsafeBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        if dtype == .float16 {
          unsafe kernel_f32_to_f16(from, to, source.count)
        } else {
          unsafe kernel_f32_to_bf16(from, to, source.count)
        }
      }
    }
  }
}

/// The values of two-byte patterns of `dtype` (float16 or bfloat16).
public func widen(_ patterns: [UInt16], as dtype: DType) -> [Float] {
  [Float](capacity: patterns.count) { output in
    output.append(repeating: 0, count: patterns.count)
    var span = output.mutableSpan
    unsafe widen(patterns.span.bytes, as: dtype, into: &span)
  }
}

extension Tensor {
  /// A tensor with the same values in another floating type; the same tensor when it has it already.
  public func converted(to target: DType) -> Tensor {
    guard target != dtype else { return self }
    let all = converted(elements: 0..<count, to: target)
    return all.reshaped(shape)
  }

  /// Some elements, counted in row-major order, as a vector of another floating type.
  public func converted(elements: Range<Int>, to target: DType) -> Tensor {
    let shape = [elements.count]
    switch target {
    case .float16, .bfloat16:
      let patterns =
        withFloatsInPlace(elements: elements) { narrow($0, to: target) }
        ?? {
          let values = floats(elements: elements)
          return narrow(values.span, to: target)
        }()
      return Tensor(target, shape: shape, copying: patterns)
    case .float64:
      return Tensor(target, shape: shape, copying: floats(elements: elements).map(Double.init))
    default:
      precondition(target == .float32, "conversion to \(target)")
      return Tensor(.float32, shape: shape, copying: floats(elements: elements))
    }
  }
}

/// How many of the values are infinite or NaN.
public func countNotFinite(_ values: Span<Float>) -> Int {
  unsafe values.withUnsafeBufferPointer { buffer in
    guard let start = buffer.baseAddress else { return 0 }
    return unsafe kernel_count_not_finite(start, buffer.count)
  }
}

// Swift's side of the kernels for packed integer codes and their grids.

import CKernels

/// Unpacks `count` codes of `bits` bits, least significant bit first.
public func unpackCodes(_ bytes: RawSpan, bits: Int, count: Int, into codes: inout [UInt8]) {
  precondition((1...8).contains(bits) && bytes.byteCount >= (count * bits + 7) / 8)
  precondition(codes.count >= count)
  unsafe bytes.withUnsafeBytes { source in
    unsafe codes.withUnsafeMutableBufferPointer { target in
      guard let from = source.baseAddress, let to = target.baseAddress else { return }
      unsafe kernel_unpack_codes(from.assumingMemoryBound(to: UInt8.self), bits, to, count)
    }
  }
}

/// `output[i] = scale * (codes[i] - zero)`.
public func decodeGroup(
  _ codes: Span<UInt8>, scale: Float, zero: Float, into output: inout MutableSpan<Float>
) {
  precondition(codes.count <= output.count)
  unsafe codes.withUnsafeBufferPointer { codes in
    unsafe output.withUnsafeMutableBufferPointer { output in
      guard let from = codes.baseAddress, let to = output.baseAddress else { return }
      unsafe kernel_decode_group(from, scale, zero, to, codes.count)
    }
  }
}

/// One uniform grid: `value = scale · (code − zero)`, codes 0…top. A grid of scale 0 holds only zero.
public struct UniformGrid: Sendable, Equatable {
  /// The step; may be negative; exactly a half.
  public var scale: Float
  /// The code of zero, an integer.
  public var zero: Float
  /// The largest code, an integer.
  public var top: Float

  /// A grid.
  public init(scale: Float, zero: Float, top: Float) {
    self.scale = scale
    self.zero = zero
    self.top = top
  }

  /// 1 / scale, or 0 for a grid that holds only zero.
  public var inverse: Float { scale == 0 ? 0 : 1 / scale }

  /// Σ weight · (value − nearest grid point)².
  public func error(of values: Span<Float>, weights: Span<Float>) -> Float {
    precondition(values.count == weights.count)
    return unsafe values.withUnsafeBufferPointer { values in
      unsafe weights.withUnsafeBufferPointer { weights in
        guard let x = values.baseAddress, let w = weights.baseAddress else { return 0 }
        return unsafe kernel_grid_error(x, w, scale, inverse, zero, top, values.count)
      }
    }
  }
}

/// Rounds a column of values, each to its own grid.
///
/// - Parameters:
///   - values: One value a row.
///   - scales, inverses, zeros: The rows' grids.
///   - quantized: Receives the grid points.
///   - codes: Receives the codes.
public func roundColumn(
  _ values: Span<Float>, scales: Span<Float>, inverses: Span<Float>, zeros: Span<Float>, top: Float,
  quantized: inout MutableSpan<Float>, codes: inout MutableSpan<UInt8>
) {
  let count = values.count
  precondition(
    scales.count == count && inverses.count == count && zeros.count == count
      && quantized.count == count && codes.count == count)
  unsafe values.withUnsafeBufferPointer { x in
    unsafe scales.withUnsafeBufferPointer { s in
      unsafe inverses.withUnsafeBufferPointer { r in
        unsafe zeros.withUnsafeBufferPointer { z in
          unsafe quantized.withUnsafeMutableBufferPointer { q in
            unsafe codes.withUnsafeMutableBufferPointer { c in
              guard let x = x.baseAddress, let s = s.baseAddress, let r = r.baseAddress,
                let z = z.baseAddress, let q = q.baseAddress, let c = c.baseAddress
              else { return }
              unsafe kernel_round_column(x, s, r, z, top, q, c, count)
            }
          }
        }
      }
    }
  }
}

/// Rounds a column of values to integer multiples of a step.
///
/// - Parameters:
///   - values: One value a row.
///   - step: The step; not 0.
///   - divisor: Multiplies what is left of each value.
///   - codes: Receives the integers, below 2²² in size.
///   - errors: Receives (value − code · step) · divisor.
public func roundIntegers(
  _ values: Span<Float>, step: Float, divisor: Float, codes: inout MutableSpan<Int32>,
  errors: inout MutableSpan<Float>
) {
  let count = values.count
  precondition(codes.count == count && errors.count == count)
  unsafe values.withUnsafeBufferPointer { x in
    unsafe codes.withUnsafeMutableBufferPointer { c in
      unsafe errors.withUnsafeMutableBufferPointer { e in
        guard let x = x.baseAddress, let c = c.baseAddress, let e = e.baseAddress else { return }
        unsafe kernel_round_integers(x, step, 1 / step, divisor, c, e, count)
      }
    }
  }
}

// A view of numbers that need not lie in row-major order: transposed, broadcast, or of the other byte order.

public import Tensors

/// Elements at `offset + Σ index·stride`, in bytes; checked when it is made, copied when it is used.
public struct StridedView: Sendable {
  /// The element type.
  public let dtype: DType
  /// The dimensions, outermost first.
  public let shape: [Int]
  /// Bytes of the tensor, which may be more than it has in the file.
  public let byteCount: Int
  private let storage: StoredBytes
  /// The first byte of the first element.
  private let offset: Int
  /// One walk for each dimension, or finer: how many steps, and bytes from one to the next.
  private let walks: [(count: Int, step: Int)]
  private let isBigEndian: Bool

  /// A view, or nil when it reaches beyond `range` of the storage.
  ///
  /// - Parameters:
  ///   - strides: For each dimension the elements from one index to the next, not negative.
  ///   - offset: The first element, counted from the start of the range.
  ///   - walk: The dimensions to walk where they are finer than the shape's; their product is the same.
  public init?(
    dtype: DType, shape: [Int], strides: [Int], offset: Int = 0, walk: [Int]? = nil,
    storage: StoredBytes, range: Range<Int>, isBigEndian: Bool = false
  ) {
    let counts = walk ?? shape
    guard counts.count == strides.count, let count = elementCount(of: shape),
      elementCount(of: counts) == count, offset >= 0, let byteCount = dtype.byteCount(of: shape)
    else { return nil }
    self.byteCount = byteCount
    let size = dtype.byteCount
    var last = offset
    for (dimension, stride) in zip(counts, strides) {
      guard stride >= 0 else { return nil }
      if count == 0 { continue }
      let (reach, overflow) = (dimension - 1).multipliedReportingOverflow(by: stride)
      let (sum, wrapped) = last.addingReportingOverflow(reach)
      guard !overflow, !wrapped else { return nil }
      last = sum
    }
    let available = range.count / size
    guard count == 0 ? offset <= available : last < available else { return nil }
    self.dtype = dtype
    self.shape = shape
    self.storage = storage
    self.offset = count == 0 ? range.lowerBound : range.lowerBound + offset * size
    walks = count == 0 ? [] : zip(counts, strides).map { ($0, $1 * size) }
    self.isBigEndian = isBigEndian && size > 1
  }

  /// A view of elements in row-major order that fill the range.
  public init?(
    dtype: DType, shape: [Int], storage: StoredBytes, range: Range<Int>, isBigEndian: Bool = false
  ) {
    self.init(
      dtype: dtype, shape: shape, strides: Self.rowMajorStrides(shape), storage: storage,
      range: range, isBigEndian: isBigEndian)
    guard byteCount == range.count else { return nil }
  }

  /// Elements from one index to the next, for each dimension of an array in row-major order.
  public static func rowMajorStrides(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for index in shape.indices.dropLast().reversed() {
      strides[index] =
        strides[index + 1].multipliedReportingOverflow(
          by: max(1, shape[index + 1])
        ).partialValue
    }
    return strides
  }

  /// Whether the elements lie as a tensor has them, so that they need no copy.
  public var isInPlace: Bool {
    guard !isBigEndian else { return false }
    var expected = dtype.byteCount
    for walk in walks.reversed() where walk.count != 1 {
      guard walk.step == expected else { return false }
      expected *= walk.count
    }
    return true
  }

  /// The tensor: a view of the storage, or a copy in row-major order.
  public func tensor() -> Tensor {
    if byteCount == 0 || isInPlace {
      return Tensor(
        dtype: dtype, shape: shape, storage: storage, range: offset..<offset + byteCount)
    }
    let copy = StoredBytes(count: byteCount) { target in
      storage.withBytes(0..<storage.count) { source in
        unsafe source.withUnsafeBytes { source in
          unsafe target.withUnsafeMutableBytes { target in unsafe gather(source, into: target) }
        }
      }
    }
    return Tensor(dtype: dtype, shape: shape, storage: copy, range: 0..<byteCount)
  }

  /// Copies runs of the innermost dimension, counting the outer ones like an odometer.
  private func gather(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer)
  {
    let size = dtype.byteCount
    let inner = walks.last ?? (1, size)
    let outer = walks.dropLast()
    var indices = [Int](repeating: 0, count: outer.count)
    var from = offset
    var to = 0
    while to < target.count {
      if inner.step == size {
        let run = unsafe UnsafeRawBufferPointer(rebasing: source[from..<from + inner.count * size])
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[to..<to + run.count])
          .copyMemory(from: run)
      } else {
        for index in 0..<inner.count {
          for byte in 0..<size {
            unsafe target[to + index * size + byte] = source[from + index * inner.step + byte]
          }
        }
      }
      to += inner.count * size
      var dimension = outer.count - 1
      while dimension >= 0 {
        indices[dimension] += 1
        from += outer[dimension].step
        if indices[dimension] < outer[dimension].count { break }
        from -= outer[dimension].count * outer[dimension].step
        indices[dimension] = 0
        dimension -= 1
      }
    }
    guard isBigEndian else { return }
    for start in stride(from: 0, to: target.count, by: size) {
      for byte in 0..<size / 2 {
        unsafe target.swapAt(start + byte, start + size - 1 - byte)
      }
    }
  }
}

extension DType {
  /// Bytes of a tensor of this shape; nil when there is no such tensor.
  func byteCount(of shape: [Int]) -> Int? {
    guard let count = elementCount(of: shape) else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: byteCount)
    return overflow ? nil : bytes
  }
}

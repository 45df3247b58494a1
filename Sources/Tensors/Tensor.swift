/// Numbers of one type in row-major order: a view of mapped or owned bytes that is never written.
public struct Tensor: Sendable {
  /// How the elements are stored.
  public let dtype: DType
  /// The dimensions, outermost first; empty for a scalar.
  public let shape: [Int]
  private let storage: StoredBytes
  private let range: Range<Int>

  /// A view of `storage[range]`. The range must hold exactly the shape's elements.
  public init(dtype: DType, shape: [Int], storage: StoredBytes, range: Range<Int>) {
    precondition(
      elementCount(of: shape).map { $0 * dtype.byteCount } == range.count
        && range.lowerBound >= 0 && range.upperBound <= storage.count,
      "\(range.count) bytes for \(shape) \(dtype)")
    self.dtype = dtype
    self.shape = shape
    self.storage = storage
    self.range = range
  }

  /// A tensor of our own memory, copied from an array whose element type has the dtype's layout.
  public init<Element: BitwiseCopyable>(_ dtype: DType, shape: [Int], copying elements: [Element]) {
    let storage = StoredBytes(copying: elements)
    self.init(dtype: dtype, shape: shape, storage: storage, range: 0..<storage.count)
  }

  /// The same bytes with other dimensions, which have as many elements.
  public func reshaped(_ shape: [Int]) -> Tensor {
    Tensor(dtype: dtype, shape: shape, storage: storage, range: range)
  }

  /// The number of elements.
  public var count: Int { range.count / dtype.byteCount }
  /// The number of bytes.
  public var byteCount: Int { range.count }
  /// The product of all dimensions but the last; 1 for a vector or a scalar.
  public var rows: Int { shape.dropLast().reduce(1, *) }
  /// The last dimension; 1 for a scalar.
  public var columns: Int { shape.last ?? 1 }

  /// Tells the system that the file behind the tensor need not stay in memory; nothing changes but how soon it is read.
  public func releasePages() { storage.releasePages() }

  /// Calls `body` with the stored bytes, little-endian.
  public func withBytes<Result, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try storage.withBytes(range, body)
  }

  /// All elements as floats. Integers beyond 2^24 are rounded.
  public func floats() -> [Float] { floats(elements: 0..<count) }

  /// Some elements, counted in row-major order, as floats.
  public func floats(elements: Range<Int>) -> [Float] {
    [Float](capacity: elements.count) { output in
      output.append(repeating: 0, count: elements.count)
      var span = output.mutableSpan
      readFloats(elements: elements, into: &span)
    }
  }

  /// Writes some elements as floats to the start of `output`.
  public func readFloats(elements: Range<Int>, into output: inout MutableSpan<Float>) {
    let size = dtype.byteCount
    let bytes =
      range.lowerBound + elements.lowerBound * size..<range.lowerBound + elements.upperBound * size
    precondition(bytes.upperBound <= range.upperBound && elements.count <= output.count)
    storage.withBytes(bytes) { widen($0, as: dtype, into: &output) }
  }

  /// All elements as integers; nil when the tensor stores floats.
  public func integers() -> [Int]? {
    guard !dtype.isFloat else { return nil }
    return withBytes { bytes in
      (0..<count).map { index in
        let offset = index * dtype.byteCount
        return switch dtype {
        case .int64: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Int64.self))
        case .uint64:
          Int(
            truncatingIfNeeded: unsafe bytes.unsafeLoadUnaligned(
              fromByteOffset: offset, as: UInt64.self))
        case .int32: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Int32.self))
        case .uint32: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
        case .int16: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Int16.self))
        case .uint16: Int(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
        case .int8: Int(unsafe bytes.unsafeLoad(fromByteOffset: offset, as: Int8.self))
        default: Int(unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self))
        }
      }
    }
  }

  /// Calls `body` with some elements in place, when they are float32 and lie on a multiple of 4 bytes;
  /// returns nil without calling it otherwise.
  public func withFloatsInPlace<Result>(
    elements: Range<Int>, _ body: (Span<Float>) -> Result
  ) -> Result? {
    guard dtype == .float32 else { return nil }
    let bytes =
      range.lowerBound + elements.lowerBound * 4..<range.lowerBound + elements.upperBound * 4
    return storage.withBytes(bytes) { span -> Result? in
      unsafe span.withUnsafeBytes { raw -> Result? in
        guard let start = raw.baseAddress else { return body(Span()) }
        guard UInt(bitPattern: start) % 4 == 0 else { return nil }
        let floats = unsafe raw.assumingMemoryBound(to: Float.self)
        return body(unsafe Span(_unsafeElements: floats))
      }
    }
  }
}

extension Tensor {
  /// A copy with rows in another order.
  ///
  /// - Parameter rows: For each row of the result, the row of this tensor; elements of a vector count as rows.
  public func selectingRows(_ rows: [Int]) -> Tensor {
    let own = shape.count <= 1 ? count : self.rows
    let rowBytes = own == 0 ? 0 : byteCount / own
    var newShape = shape.count <= 1 ? [rows.count] : shape
    if shape.count > 1 { newShape.replaceSubrange(0..<shape.count - 1, with: [rows.count]) }
    let storage = StoredBytes(count: rows.count * rowBytes) { target in
      withBytes { source in
        unsafe source.withUnsafeBytes { source in
          unsafe target.withUnsafeMutableBytes { target in
            for (index, row) in rows.enumerated() {
              let from = unsafe UnsafeRawBufferPointer(
                rebasing: source[row * rowBytes..<(row + 1) * rowBytes])
              unsafe UnsafeMutableRawBufferPointer(
                rebasing: target[index * rowBytes..<(index + 1) * rowBytes]
              ).copyMemory(from: from)
            }
          }
        }
      }
    }
    return Tensor(
      dtype: dtype, shape: newShape, storage: storage, range: 0..<rows.count * rowBytes)
  }
}

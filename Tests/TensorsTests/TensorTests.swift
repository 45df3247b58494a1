import Tensors
import TestSupport
import Testing

@Suite struct TensorTests {
  @Test func elementCounts() {
    #expect(elementCount(of: []) == 1)
    #expect(elementCount(of: [3, 0, 5]) == 0)
    #expect(elementCount(of: [3, 4, 5]) == 60)
    #expect(elementCount(of: [3, -1]) == nil)
    #expect(elementCount(of: [-1, 0]) == nil)
    #expect(elementCount(of: [1 << 32, 1 << 31]) == nil)
    #expect(elementCount(of: [1 << 32, 1 << 32, 0]) == nil)
    #expect(elementCount(of: [.max, 1]) == .max)
    #expect(elementCount(of: [.max, 2]) == nil)
  }

  /// The same small numbers in every type.
  @Test(arguments: DType.allCases) func everyTypeReads(_ dtype: DType) {
    let numbers = dtype == .bool ? [0, 1, 1] : [0, 1, 100]
    let tensor =
      switch dtype {
      case .float64: Tensor(dtype, shape: [3], copying: numbers.map { Double($0) })
      case .float32: Tensor(dtype, shape: [3], copying: numbers.map { Float($0) })
      case .float16: Tensor(dtype, shape: [3], copying: numbers.map { Float16($0).bitPattern })
      case .bfloat16:
        Tensor(
          dtype, shape: [3], copying: numbers.map { UInt16(Float($0).bitPattern >> 16) })
      case .int64: Tensor(dtype, shape: [3], copying: numbers.map { Int64($0) })
      case .int32: Tensor(dtype, shape: [3], copying: numbers.map { Int32($0) })
      case .int16: Tensor(dtype, shape: [3], copying: numbers.map { Int16($0) })
      case .int8: Tensor(dtype, shape: [3], copying: numbers.map { Int8($0) })
      case .uint64: Tensor(dtype, shape: [3], copying: numbers.map { UInt64($0) })
      case .uint32: Tensor(dtype, shape: [3], copying: numbers.map { UInt32($0) })
      case .uint16: Tensor(dtype, shape: [3], copying: numbers.map { UInt16($0) })
      case .uint8, .bool: Tensor(dtype, shape: [3], copying: numbers.map { UInt8($0) })
      }
    #expect(tensor.byteCount == 3 * dtype.byteCount)
    #expect(tensor.floats() == numbers.map { Float($0) })
    #expect(tensor.floats(elements: 1..<3) == numbers[1...].map { Float($0) })
    #expect(tensor.floats(elements: 3..<3) == [])
    #expect(tensor.integers() == (dtype.isFloat ? nil : numbers))
  }

  @Test func signedIntegersKeepTheirSign() {
    #expect(Tensor(.int8, shape: [2], copying: [-128, 127] as [Int8]).integers() == [-128, 127])
    #expect(Tensor(.int64, shape: [1], copying: [Int64.min]).integers() == [.min])
    #expect(Tensor(.int16, shape: [1], copying: [-2] as [Int16]).floats() == [-2])
  }

  @Test func conversionsBetweenFloats() {
    let tensor = Tensor(.float32, shape: [1, 3], copying: [1.5, -0.1, 70000] as [Float])
    #expect(tensor.converted(to: .float64).floats() == tensor.floats())
    #expect(
      tensor.converted(to: .float16).floats() == [1.5, Float(Float16(-0.1)), .infinity])
    #expect(tensor.converted(to: .bfloat16).floats() == [1.5, -0.10009765625, 70144])
  }

  @Test func floatsInPlaceOnlyWhereTheyLie() {
    let bytes = StoredBytes(copying: [1, 2, 3, 4] as [Float])
    let tensor = Tensor(dtype: .float32, shape: [3], storage: bytes, range: 4..<16)
    #expect(tensor.withFloatsInPlace(elements: 1..<3) { [$0[0], $0[1]] } == [3, 4])
    let shifted = Tensor(dtype: .float32, shape: [3], storage: bytes, range: 2..<14)
    #expect(shifted.withFloatsInPlace(elements: 0..<1) { _ in true } == nil)
    let halves = Tensor(dtype: .float16, shape: [6], storage: bytes, range: 4..<16)
    #expect(halves.withFloatsInPlace(elements: 0..<1) { _ in true } == nil)
  }
}

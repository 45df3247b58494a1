import Encodings
import Tensors
import TestSupport
import Testing

@Suite struct PlainFloatsTests {
  @Test(arguments: [
    ("f32", DType.float32), ("f16", .float16), ("bf16", .bfloat16), ("f64", .float64),
  ])
  func namesAndLayout(_ name: String, _ dtype: DType) throws {
    let encoding = try #require(EncodingRegistry.encoding(named: name))
    #expect(encoding.name == name)
    #expect(
      encoding.parts(outputs: 3, inputs: 5) == [
        EncodedPart(suffix: "", dtype: dtype, shape: [3, 5])
      ])
    #expect(encoding.bitsPerWeight(outputs: 3, inputs: 5) == Double(8 * dtype.byteCount))
  }

  @Test(arguments: [DType.float32, .float16, .bfloat16, .float64])
  func rowsAreTheTensors(_ dtype: DType) {
    var stream = RandomStream(test: "plain floats")
    let matrix = stream.matrix(rows: 70, columns: 9)
    let tensor = Tensor(.float32, shape: [70, 9], copying: matrix.values).converted(to: dtype)
    let plain = FloatMatrix(tensor)
    #expect(plain.decoded().values == tensor.floats())
    #expect(plain.storedBits == 70 * 9 * 8 * dtype.byteCount)
    #expect(plain.withRowsInPlace(3..<5) { _ in } == (dtype == .float32))
    if dtype == .float32 { #expect(FloatMatrix(matrix).decoded() == matrix) }
  }

  /// A float32 tensor that lies between the multiples of 4 bytes is decoded and not used in place.
  @Test func misalignedRows() {
    let values: [Float] = [1, 2, 3, 4, 5, 6]
    let raw = values.withUnsafeBytes { [0, 0] + [UInt8]($0) }
    let tensor = Tensor(
      dtype: .float32, shape: [2, 3], storage: StoredBytes(copying: raw), range: 2..<26)
    let matrix = FloatMatrix(tensor)
    #expect(!matrix.withRowsInPlace(0..<2) { _ in })
    #expect(matrix.apply(to: Matrix(rows: 1, columns: 3, values: [1, 1, 1])).values == [6, 15])
  }
}

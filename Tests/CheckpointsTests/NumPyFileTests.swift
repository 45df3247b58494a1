import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite struct NumPyFileTests {
  @Test func theSameBytesAsNumPy() throws {
    let folder = try TemporaryFolder()
    let matrix = Matrix(rows: 3, columns: 5, values: (0..<15).map { Float($0) / 4 - 1 })
    try NumPyFile.write(matrix, to: folder.file("m.npy"))
    let theirs = try FilePath.read(TestData.fixtures + "/safetensors/matrix.npy")
    #expect(try FilePath.read(folder.file("m.npy")) == theirs)
  }

  @Test(arguments: [(0, 0), (1, 1), (1, 100_000), (12345, 7)])
  func headersFillBlocks(_ rows: Int, _ columns: Int) throws {
    let folder = try TemporaryFolder()
    try NumPyFile.write(Matrix(rows: rows, columns: columns), to: folder.file("m.npy"))
    let bytes = try FilePath.read(folder.file("m.npy"))
    let header = Int(bytes[8]) + 256 * Int(bytes[9])
    #expect((10 + header) % 64 == 0 && bytes.count == 10 + header + 4 * rows * columns)
    #expect(bytes[9 + header] == 0x0A)
    let text = String(decoding: bytes[10..<10 + header], as: UTF8.self)
    #expect(
      text.hasPrefix(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows), \(columns)), }"))
  }
}

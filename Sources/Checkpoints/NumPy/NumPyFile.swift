// Writes NumPy's array format, version 1.0.
//
// Source   https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

public import Tensors

/// `.npy` files.
public enum NumPyFile {
  /// Writes a float32 matrix in row-major order.
  public static func write(_ matrix: Matrix, to path: String) throws(FileError) {
    var file = try OutputFile(path: path)
    try file.write(NumPyHeader.bytes(dtype: .float32, shape: [matrix.rows, matrix.columns]))
    try file.write(unsafe matrix.values.span.bytes)
    try file.finish()
  }

  /// Writes a float32 array in row-major order, one row of its first dimension at a time.
  ///
  /// - Parameter row: The values of a row.
  public static func write(
    shape: [Int], to path: String, row: (Int) throws -> [Float]
  ) throws {
    var file = try OutputFile(path: path)
    try file.write(NumPyHeader.bytes(dtype: .float32, shape: shape))
    for index in 0..<shape[0] {
      let values = try row(index)
      precondition(values.count == shape.dropFirst().reduce(1, *))
      try file.write(unsafe values.span.bytes)
    }
    try file.finish()
  }
}

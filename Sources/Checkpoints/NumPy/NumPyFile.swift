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
}

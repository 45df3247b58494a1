// Writes NumPy's array format, version 1.0.
//
// Source   https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

public import Tensors

/// `.npy` files.
public enum NumPyFile {
  /// Writes a float32 matrix in row-major order.
  public static func write(_ matrix: Matrix, to path: String) throws(FileError) {
    var header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (\(matrix.rows), \(matrix.columns)), }"
    // Magic (6), version (2), length (2), header and newline together fill a multiple of 64 bytes.
    let used = (10 + header.utf8.count + 1) % 64
    header += String(repeating: " ", count: (64 - used) % 64) + "\n"
    var file = try OutputFile(path: path)
    try file.write([0x93] + Array("NUMPY".utf8) + [1, 0])
    try file.write([UInt8(header.utf8.count & 0xFF), UInt8(header.utf8.count >> 8)])
    try file.write(header)
    try file.write(unsafe matrix.values.span.bytes)
    try file.finish()
  }
}

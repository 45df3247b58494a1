// Writes NumPy archives.
//
// Source   the NumPy format; see ZipWriter.swift
// Types    bfloat16 is stored as two bytes of no type ('<V2'), as the ml_dtypes package does

public import Tensors

/// Writes one `.npz`, array after array, each array's data on a multiple of 64 bytes.
public struct NumPyArchiveWriter: ~Copyable {
  private var archive: ZipWriter

  /// Starts a file, which appears under its name when it is finished.
  public init(path: String) throws(FileError) { archive = try ZipWriter(path: path) }

  /// Appends an array; no two have one name.
  ///
  /// - Throws: `CheckpointError` for a name that no archive may have, `FileError`.
  public mutating func write(_ name: String, _ tensor: Tensor) throws {
    let header = NumPyHeader.bytes(dtype: tensor.dtype, shape: tensor.shape)
    try archive.write(name + ".npy", header: header, tensor)
  }

  /// Completes the file under its name.
  public consuming func finish() throws(FileError) { try archive.finish() }
}

extension NumPyHeader {
  /// The header of an array in row-major order, which fills a multiple of 64 bytes.
  static func bytes(dtype: DType, shape: [Int]) -> [UInt8] {
    let dimensions = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
    var text =
      "{'descr': '\(typeWord(dtype))', 'fortran_order': False, 'shape': (\(dimensions)), }"
    let used = (10 + text.utf8.count + 1) % 64
    text += String(repeating: " ", count: (64 - used) % 64) + "\n"
    return magic + [1, 0] + little(text.utf8.count, 2) + Array(text.utf8)
  }

  private static func typeWord(_ dtype: DType) -> String {
    switch dtype {
    case .float64: "<f8"
    case .float32: "<f4"
    case .float16: "<f2"
    case .bfloat16: "<V2"
    case .int64: "<i8"
    case .int32: "<i4"
    case .int16: "<i2"
    case .int8: "|i1"
    case .uint64: "<u8"
    case .uint32: "<u4"
    case .uint16: "<u2"
    case .uint8: "|u1"
    case .bool: "|b1"
    }
  }
}

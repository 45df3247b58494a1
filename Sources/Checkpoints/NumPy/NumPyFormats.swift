// NumPy's files as checkpoints: one array (.npy), or an archive of named arrays (.npz).

import Tensors

/// NumPy array files.
public enum NumPyArrayFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "NumPy array"

  /// The magic bytes, or the name.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    start.starts(with: NumPyHeader.magic) || path.hasSuffix(".npy")
  }

  /// Opens a file: one tensor, named after the file.
  public static func open(_ path: String) throws -> any Checkpoint {
    let bytes = try StoredBytes(mapping: path)
    let name = FilePath.name(of: path)
    let view: StridedView
    do throws(CheckpointError.Problem) {
      view = try NumPyArray.view(of: bytes, range: 0..<bytes.count)
    } catch {
      throw CheckpointError(path: path, error)
    }
    return try TensorFile(
      path: path, formatName: formatName,
      tensors: [
        FoundTensor(name: name.hasSuffix(".npy") ? String(name.dropLast(4)) : name, view)
      ], byteCount: bytes.count)
  }
}

/// Archives of NumPy arrays.
public enum NumPyArchiveFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "NumPy archive"

  /// A zip archive by this name, or one whose first entry is an array.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    if path.hasSuffix(".npz") { return true }
    guard ZipArchive.recognizes(start), start.count >= 30 else { return false }
    let length = Int(start[26]) + 256 * Int(start[27])
    return start[30...].prefix(length).suffix(4).elementsEqual(".npy".utf8)
  }

  /// Opens an archive. Stored arrays stay where they are; deflated ones are inflated once to check them,
  /// and again each time that they are used.
  public static func open(_ path: String) throws -> any Checkpoint {
    let archive = try ZipArchive(path: path)
    var tensors: [FoundTensor] = []
    var skipped: [String] = []
    for entry in archive.entries {
      guard entry.name.hasSuffix(".npy") else {
        skipped.append(entry.name)
        continue
      }
      tensors.append(try tensor(String(entry.name.dropLast(4)), entry, of: archive))
    }
    return try TensorFile(
      path: path, formatName: formatName, tensors: tensors, skipped: skipped,
      byteCount: archive.bytes.count)
  }

  private static func tensor(
    _ name: String, _ entry: ZipArchive.Entry, of archive: ZipArchive
  ) throws(CheckpointError) -> FoundTensor {
    do throws(CheckpointError.Problem) {
      guard entry.isDeflated else {
        return FoundTensor(
          name: name, try NumPyArray.view(of: archive.bytes, range: entry.range))
      }
      let limit = DecodedLimit.bytes(fileBytes: archive.bytes.count)
      guard entry.byteCount <= limit else {
        throw .tooLarge(what: "the array inflates to", bytes: entry.byteCount, limit: limit)
      }
      var start: [UInt8] = []
      let wanted = NumPyHeader.byteLimit + 12
      do throws(CheckpointError) {
        try archive.check(entry) { piece in
          let count = min(wanted - start.count, piece.byteCount)
          unsafe piece.extracting(0..<count).withUnsafeBytes {
            unsafe start.append(contentsOf: $0)
          }
        }
      } catch {
        throw error.problem
      }
      // The header is read from the entry's start, which is all that is kept of it.
      let header = try NumPyHeader(
        of: StoredBytes(copying: start), range: 0..<start.count)
      try NumPyArray.checkSize(header, available: entry.byteCount - header.byteCount)
      return FoundTensor(name: name, dtype: header.dtype, shape: header.shape) {
        let bytes = archive.inflated(entry)
        guard let view = try? NumPyArray.view(of: bytes, range: 0..<bytes.count) else {
          preconditionFailure("\(archive.path): '\(entry.name)' changed while it was in use")
        }
        return view.tensor()
      }
    } catch {
      throw CheckpointError(path: archive.path, tensor: name, error)
    }
  }
}

/// An array with its header.
enum NumPyArray {
  /// A view of the array that fills `range`.
  static func view(
    of bytes: StoredBytes, range: Range<Int>
  ) throws(CheckpointError.Problem) -> StridedView {
    let header = try NumPyHeader(of: bytes, range: range)
    let data = range.lowerBound + header.byteCount..<range.upperBound
    try checkSize(header, available: data.count)
    var strides = StridedView.rowMajorStrides(header.shape)
    if header.isColumnMajor {
      strides = StridedView.rowMajorStrides(header.shape.reversed()).reversed()
    }
    guard
      let view = StridedView(
        dtype: header.dtype, shape: header.shape, strides: strides, storage: bytes, range: data,
        isBigEndian: header.isBigEndian)
    else { throw .badShape(header.shape) }
    return view
  }

  /// The data is exactly what the shape needs.
  static func checkSize(
    _ header: NumPyHeader, available: Int
  ) throws(CheckpointError.Problem) {
    let needed = header.dataByteCount
    guard needed <= available else {
      throw .truncated(
        needed: UInt64(header.byteCount) + UInt64(needed), available: header.byteCount + available)
    }
    guard needed == available else {
      throw .unusedBytes(from: needed, to: available)
    }
  }
}

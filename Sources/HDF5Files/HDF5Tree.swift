// The datasets of an HDF5 file as tensors, by their paths.

import Checkpoints
import Tensors

/// What a file holds: tensors by path, attributes by object, and what was left out.
struct HDF5Tree {
  let path: String
  private(set) var tensors: [FoundTensor] = []
  /// Texts by `OBJECT NUL ATTRIBUTE`; the root is the empty object.
  private(set) var attributes: [String: [String]] = [:]
  /// Datasets that are no tensors, with the reason.
  private(set) var skipped: [String] = []

  /// Reads a file that lies in some bytes.
  ///
  /// - Throws: `CheckpointError` for what is damaged or cannot be read, `FileError` when the reader
  ///   process cannot be started.
  init(path: String, bytes: StoredBytes, range: Range<Int>) throws {
    self.path = path
    let answer = try HDF5Answer(of: bytes, range: range, path: path)
    for record in answer.records {
      do throws(CheckpointError.Problem) {
        try add(record, bytes, range, memory: answer.memory)
      } catch {
        throw CheckpointError(path: path, tensor: record.name.isEmpty ? nil : record.name, error)
      }
    }
  }

  private mutating func add(
    _ record: HDF5Record, _ bytes: StoredBytes, _ range: Range<Int>, memory: StoredBytes
  ) throws(CheckpointError.Problem) {
    switch record.kind {
    case .error: throw .hdf5(record.text)
    case .refused: throw .unsupported(record.text)
    case .tooLarge:
      throw .tooLarge(
        what: "its elements take", bytes: record.byteCount,
        limit: DecodedLimit.bytes(fileBytes: range.count))
    case .chunked: throw .damaged(what: "chunks that nobody asked for", offset: 0)
    case .skipped, .alias: skipped.append("\(record.name) (\(record.text))")
    case .attribute: attributes[record.name] = record.strings
    case .inFile:
      guard record.offset <= range.count, record.byteCount <= range.count - record.offset else {
        throw .badOffsets(
          begin: record.offset, end: record.offset.addingReportingOverflow(record.byteCount).0,
          available: range.count)
      }
      let start = range.lowerBound + record.offset
      tensors.append(try tensor(record, bytes, start..<start + record.byteCount))
    case .decoded:
      guard record.offset <= memory.count, record.byteCount <= memory.count - record.offset else {
        throw .badOffsets(begin: record.offset, end: record.offset, available: memory.count)
      }
      tensors.append(
        try tensor(record, memory, record.offset..<record.offset + record.byteCount))
    }
  }

  private func tensor(
    _ record: HDF5Record, _ storage: StoredBytes, _ range: Range<Int>
  ) throws(CheckpointError.Problem) -> FoundTensor {
    guard
      let view = StridedView(
        dtype: record.dtype, shape: record.shape, storage: storage, range: range,
        isBigEndian: record.isBigEndian)
    else { throw .badShape(record.shape) }
    return FoundTensor(name: record.name, view)
  }

  /// The one text of an attribute; nil when it has none.
  func text(_ attribute: String, of object: String = "") -> String? {
    attributes[object + "\0" + attribute]?.first
  }

  /// The texts of an attribute, which Keras spreads over several (`name0`, `name1` …) when they are
  /// many: an attribute holds 64 KB. Nil when there is none.
  func texts(_ attribute: String, of object: String) -> [String]? {
    if let texts = attributes[object + "\0" + attribute] { return texts }
    var all: [String]?
    var index = 0
    while let part = attributes[object + "\0" + attribute + String(index)] {
      all = (all ?? []) + part
      index += 1
    }
    return all
  }
}

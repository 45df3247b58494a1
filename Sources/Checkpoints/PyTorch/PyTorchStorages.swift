// Where the bytes of a pickle's storages are.

import Tensors

/// Finds a storage's bytes and makes tensors of them.
protocol PyTorchStorages {
  /// A tensor over its storage, checked against the storage's end.
  ///
  /// - Parameter copies: What views that are not in row-major order will take when they are used.
  func tensor(
    _ name: String, _ tensor: PickledTensor, _ storage: PickledStorage, of machine: PickleMachine,
    _ copies: inout DecodedBudget
  ) throws(CheckpointError.Problem) -> FoundTensor
}

extension PyTorchStorages {
  /// The view of a tensor in its storage's bytes.
  fileprivate func view(
    _ tensor: PickledTensor, _ storage: PickledStorage, in bytes: StoredBytes, _ range: Range<Int>,
    isBigEndian: Bool, _ copies: inout DecodedBudget
  ) throws(CheckpointError.Problem) -> StridedView {
    let offset = tensor.offset.addingReportingOverflow(storage.offset)
    guard tensor.shape.count == tensor.strides.count,
      tensor.dtype.byteCount(of: tensor.shape) != nil
    else { throw .badShape(tensor.shape) }
    guard !offset.overflow,
      let view = StridedView(
        dtype: tensor.dtype, shape: tensor.shape, strides: tensor.strides,
        offset: offset.partialValue, storage: bytes, range: range, isBigEndian: isBigEndian)
    else { throw .beyondStorage(offset: tensor.offset, shape: tensor.shape, bytes: range.count) }
    if !view.isInPlace {
      try copies.take(view.byteCount, "the views that are not in row-major order take")
    }
    return view
  }

  /// The bytes of a storage have exactly the size that the pickle says.
  fileprivate func check(
    _ storage: PickledStorage, bytes: Int
  ) throws(CheckpointError.Problem) {
    let (expected, overflow) = storage.count.multipliedReportingOverflow(
      by: storage.dtype?.byteCount ?? 1)
    guard !overflow, expected == bytes else {
      throw .sizeMismatch(
        shape: [storage.count], bytes: bytes, expected: overflow ? Int.max : expected)
    }
  }
}

/// Storages that are entries of an archive.
struct ArchiveStorages: PyTorchStorages {
  let archive: ZipArchive
  let folder: String
  let isBigEndian: Bool

  func tensor(
    _ name: String, _ tensor: PickledTensor, _ storage: PickledStorage, of machine: PickleMachine,
    _ copies: inout DecodedBudget
  ) throws(CheckpointError.Problem) -> FoundTensor {
    let entryName = folder + "data/" + (machine.reader.text(storage.key) ?? "")
    guard let entry = archive[entryName] else { throw .missingEntry(entryName) }
    try check(storage, bytes: entry.byteCount)
    let (isBigEndian, archive) = (isBigEndian, archive)
    guard entry.isDeflated else {
      return FoundTensor(
        name: name,
        try view(
          tensor, storage, in: archive.bytes, entry.range, isBigEndian: isBigEndian, &copies))
    }
    // torch stores; who packed the archive anew pays by inflating a storage for each use.
    let contents: (storage: StoredBytes, range: Range<Int>)
    do throws(CheckpointError) {
      contents = try archive.contents(of: entry)
    } catch {
      throw error.problem
    }
    _ = try view(
      tensor, storage, in: contents.storage, contents.range, isBigEndian: isBigEndian, &copies)
    return FoundTensor(name: name, dtype: tensor.dtype, shape: tensor.shape) {
      var unbounded = DecodedBudget(fileBytes: Int.max / 2)
      let bytes = archive.inflated(entry)
      guard
        let view = try? view(
          tensor, storage, in: bytes, 0..<bytes.count, isBigEndian: isBigEndian, &unbounded)
      else { preconditionFailure("\(archive.path): '\(entryName)' changed while it was in use") }
      return view.tensor()
    }
  }
}

/// Storages that follow the pickles of an old file.
struct LegacyStorages: PyTorchStorages {
  private let bytes: StoredBytes
  private var ranges: [String: Range<Int>] = [:]

  /// Finds the storages in the order of the list of their keys; the machine stands behind that list.
  init(
    keys: PickleValue, of machine: inout PickleMachine
  ) throws(CheckpointError.Problem) {
    bytes = machine.reader.bytes
    guard case .list(let index) = keys else {
      throw machine.damaged("no list of storages behind it")
    }
    var byKey: [String: PickledStorage] = [:]
    for storage in machine.storages {
      guard let key = machine.reader.text(storage.key) else {
        throw machine.damaged("a storage's key that is no text")
      }
      if let other = byKey[key], other.count != storage.count || other.dtype != storage.dtype {
        throw machine.damaged("a storage of two sizes")
      }
      try machine.budget.take(128 + key.utf8.count, PickleMachine.valuesTake)
      byKey[key] = storage
    }
    for value in machine.containers[Int(index)] {
      let key = try machine.string(value)
      guard let storage = byKey[key] else {
        throw machine.damaged("a storage that no tensor names")
      }
      let start = machine.reader.offset
      guard try machine.reader.integer(8) == UInt64(storage.count) else {
        throw .damaged(
          what: "the storage has another size than the pickle says, \(storage.count)",
          offset: start)
      }
      let size = storage.count.multipliedReportingOverflow(by: storage.dtype?.byteCount ?? 1)
      guard !size.overflow else { throw .badShape([storage.count]) }
      let range = try machine.reader.claim(UInt64(size.partialValue))
      guard ranges.updateValue(range, forKey: key) == nil else {
        throw machine.damaged("a storage that stands in the file twice")
      }
    }
    guard machine.reader.available == 0 else {
      throw .unusedBytes(from: machine.reader.offset, to: bytes.count)
    }
  }

  func tensor(
    _ name: String, _ tensor: PickledTensor, _ storage: PickledStorage, of machine: PickleMachine,
    _ copies: inout DecodedBudget
  ) throws(CheckpointError.Problem) -> FoundTensor {
    guard let key = machine.reader.text(storage.key), let range = ranges[key] else {
      throw .missingEntry("storage " + (machine.reader.text(storage.key) ?? "?"))
    }
    return FoundTensor(
      name: name,
      try view(tensor, storage, in: bytes, range, isBigEndian: false, &copies))
  }
}

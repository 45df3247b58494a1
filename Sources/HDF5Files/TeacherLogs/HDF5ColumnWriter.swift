// Writes columns as chunked datasets that grow. Chunks are shuffled and deflated here, on all threads, and handed to
// libhdf5 as they are to lie in the file: the bytes depend on no number of threads and on no clock.
//
// Source   https://docs.hdfgroup.org/hdf5/v1_10: reference manual, H5Dwrite_chunk, H5Pset_obj_track_times

import CHDF5
import Checkpoints
import Glibc
import Tensors

/// Writes one file of columns.
struct HDF5ColumnWriter: ~Copyable {
  /// A column to come.
  struct Column {
    let name: String
    let dtype: DType
    /// The dimensions behind the first.
    let width: [Int]
    /// Rows of a chunk.
    let chunkRows: Int

    var rowBytes: Int { width.reduce(dtype.byteCount, *) }
  }

  private struct State {
    let column: Column
    let dataset: hid_t
    var pending: [UInt8] = []
    var chunks = 0
    var rows = 0
    var hash = ContentHash()
  }

  private let path: String
  private var file: hid_t = -1
  private var states: [State] = []
  private var indices: [String: Int] = [:]

  /// Starts a file at `path`, which the caller renames.
  init(path: String, columns: [Column], attributes: [(String, String)]) throws {
    self.path = path
    file = try HDF5Library.withLock { () throws(CheckpointError) in
      let file = try HDF5Writing.createFile(path, path: path)
      for (name, text) in attributes {
        try HDF5Writing.attribute(of: file, name, text, path: path)
      }
      return file
    }
    for column in columns {
      let file = file
      let dataset = HDF5Library.withLock { Self.create(column, in: file) }
      guard dataset >= 0 else { throw failure(column.name) }
      indices[column.name] = states.count
      states.append(State(column: column, dataset: dataset))
    }
  }

  private static func create(_ column: Column, in file: hid_t) -> hid_t {
    let type = HDF5Writing.elementType(column.dtype)
    let size = [0] + column.width.map { hsize_t($0) }
    let limit = [chdf5_unlimited()] + column.width.map { hsize_t($0) }
    let chunk = [column.chunkRows] + column.width
    let space = unsafe H5Screate_simple(Int32(size.count), size, limit)
    let creation = H5Pcreate(chdf5_dataset_creation())
    H5Pset_obj_track_times(creation, false)
    unsafe H5Pset_chunk(creation, Int32(chunk.count), chunk.map { hsize_t($0) })
    if column.dtype.byteCount > 1 { H5Pset_shuffle(creation) }
    H5Pset_deflate(creation, 9)
    defer {
      H5Pclose(creation)
      H5Sclose(space)
      H5Tclose(type)
    }
    return unsafe H5Dcreate2(file, column.name, type, space, 0, creation, 0)
  }

  /// Appends rows to columns.
  mutating func append(_ parts: [String: [UInt8]]) throws {
    var ready: [(state: Int, row: Int, bytes: [UInt8])] = []
    for (name, bytes) in parts {
      guard let index = indices[name] else { preconditionFailure("no column '\(name)'") }
      states[index].pending += bytes
      unsafe states[index].hash.update(bytes.span.bytes)
    }
    for index in states.indices {
      let size = states[index].column.chunkRows * states[index].column.rowBytes
      var start = 0
      while states[index].pending.count - start >= size {
        ready.append(
          (
            index, states[index].chunks * states[index].column.chunkRows,
            Array(states[index].pending[start..<start + size])
          ))
        states[index].chunks += 1
        start += size
      }
      states[index].rows += start / max(1, states[index].column.rowBytes)
      states[index].pending.removeFirst(start)
    }
    try write(ready)
  }

  private func write(_ chunks: [(state: Int, row: Int, bytes: [UInt8])]) throws {
    let states = states
    let streams = ParallelLoop.map(chunks.count) { index in
      Deflate.deflate(
        numbers: HDF5Column.shuffled(
          chunks[index].bytes,
          elementBytes: states[chunks[index].state].column.dtype.byteCount))
    }
    for (chunk, stream) in zip(chunks, streams) {
      let state = states[chunk.state]
      let isWritten = HDF5Library.withLock {
        let rows = chunk.row + state.column.chunkRows
        let size = [hsize_t(rows)] + state.column.width.map { hsize_t($0) }
        let offset = [hsize_t(chunk.row)] + state.column.width.map { _ in hsize_t(0) }
        errno = 0
        return unsafe H5Dset_extent(state.dataset, size) >= 0
          && H5Dwrite_chunk(state.dataset, 0, 0, offset, stream.count, stream) >= 0
      }
      guard isWritten else { throw failure(state.column.name) }
    }
  }

  /// Writes what is left, and completes the file.
  ///
  /// - Returns: The hash of each column's bytes.
  mutating func finish() throws -> [String: String] {
    var rest: [(state: Int, row: Int, bytes: [UInt8])] = []
    for index in states.indices where !states[index].pending.isEmpty {
      let column = states[index].column
      var bytes = states[index].pending
      states[index].rows += bytes.count / column.rowBytes
      bytes += [UInt8](
        repeating: 0, count: column.chunkRows * column.rowBytes - bytes.count)
      rest.append((index, states[index].chunks * column.chunkRows, bytes))
    }
    try write(rest)
    let states = states, file = file
    self.states = []
    self.file = -1
    let isClosed = HDF5Library.withLock {
      errno = 0
      var isWell = true
      for state in states {
        let size = [hsize_t(state.rows)] + state.column.width.map { hsize_t($0) }
        isWell = unsafe H5Dset_extent(state.dataset, size) >= 0 && isWell
        isWell = H5Dclose(state.dataset) >= 0 && isWell
      }
      return H5Fclose(file) >= 0 && isWell
    }
    guard isClosed else { throw failure(nil) }
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0, fsync(descriptor) == 0 else {
      throw FileError(path: path, operation: "write", code: errno)
    }
    close(descriptor)
    return Dictionary(uniqueKeysWithValues: states.map { ($0.column.name, $0.hash.digits) })
  }

  /// What the system says, where it said something; else what the library says.
  private func failure(_ column: String?) -> any Error {
    let code = errno
    let error = HDF5Library.withLock { HDF5Writing.error(path, column) }
    guard [ENOSPC, EDQUOT, EFBIG, EIO].contains(code) else { return error }
    return FileError(path: path, operation: "write", code: code)
  }

  deinit {
    guard file >= 0 else { return }
    let states = states, file = file
    HDF5Library.withLock {
      for state in states { _ = H5Dclose(state.dataset) }
      _ = H5Fclose(file)
    }
  }
}

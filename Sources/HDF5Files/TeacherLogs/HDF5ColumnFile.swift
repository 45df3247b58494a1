// A file of columns, read in pieces by many threads. Chunks that were inflated stay for a while.

import Checkpoints
import Synchronization
import Tensors

/// An HDF5 file whose datasets are columns.
final class HDF5ColumnFile: Sendable {
  let path: String
  let columns: [String: HDF5Column]
  /// Texts of the root's attributes.
  let attributes: [String: String]
  let bytes: StoredBytes

  private struct Key: Hashable {
    let column: String
    let chunk: Int
  }

  private struct Cache {
    var chunks: [Key: (bytes: [UInt8], use: Int)] = [:]
    var size = 0
    var uses = 0
  }

  private let cache = Mutex(Cache())
  /// Bytes of inflated chunks that are kept: windows in random order do not inflate a chunk each.
  private static let cacheLimit = 256 << 20

  /// Walks the file in a process of its own.
  init(path: String) throws {
    self.path = path
    let bytes = try StoredBytes(mapping: path)
    self.bytes = bytes
    let answer = try HDF5Answer(
      of: bytes, range: 0..<bytes.count, path: path, listsChunks: true)
    var columns: [String: HDF5Column] = [:]
    var attributes: [String: String] = [:]
    for record in answer.records {
      if record.kind == .attribute, record.name.hasPrefix("\0") {
        attributes[String(record.name.dropFirst())] = record.strings.first
      }
      do throws(CheckpointError.Problem) {
        if let column = try HDF5Column(record, file: bytes, memory: answer.memory) {
          columns[column.name] = column
        }
      } catch {
        throw CheckpointError(path: path, tensor: record.name.isEmpty ? nil : record.name, error)
      }
    }
    self.columns = columns
    self.attributes = attributes
  }

  /// Rows of a column and what is wanted of them.
  struct Request {
    let column: HDF5Column
    let rows: Range<Int>
  }

  /// Inflates what requests need, on all threads.
  func prepare(_ requests: [Request]) {
    var keys: [(Key, HDF5Column)] = []
    for request in requests where !request.rows.isEmpty {
      guard case .chunks(let rows, _, _) = request.column.storage else { continue }
      for chunk in request.rows.lowerBound / rows...(request.rows.upperBound - 1) / rows {
        keys.append((Key(column: request.column.name, chunk: chunk), request.column))
      }
    }
    keys = cache.withLock { cache in keys.filter { cache.chunks[$0.0] == nil } }
    ParallelLoop.run(keys.count) { index in
      _ = try? self.chunk(keys[index].0, keys[index].1)
    }
  }

  private func chunk(_ key: Key, _ column: HDF5Column) throws(CheckpointError) -> [UInt8] {
    let kept = cache.withLock { cache -> [UInt8]? in
      cache.uses += 1
      cache.chunks[key]?.use = cache.uses
      return cache.chunks[key]?.bytes
    }
    if let kept { return kept }
    guard let decoded = column.decode(chunk: key.chunk, of: bytes) else {
      throw CheckpointError(
        path: path, tensor: column.name,
        .damaged(
          what: "chunk \(key.chunk) does not inflate to its size; fetch or log it again",
          offset: column.offset(ofChunk: key.chunk)))
    }
    cache.withLock { cache in
      guard cache.chunks.updateValue((decoded, cache.uses), forKey: key) == nil else { return }
      cache.size += decoded.count
      while cache.size > Self.cacheLimit, cache.chunks.count > 1,
        let oldest = cache.chunks.min(by: { $0.value.use < $1.value.use })
      {
        cache.chunks[oldest.key] = nil
        cache.size -= oldest.value.bytes.count
      }
    }
    return decoded
  }

  /// The bytes of some rows, which must be there.
  func read(_ column: HDF5Column, _ rows: Range<Int>) throws(CheckpointError) -> [UInt8] {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= column.rows)
    let size = column.rowBytes
    switch column.storage {
    case .piece(let source, let range):
      let start = range.lowerBound
      return source.withBytes(start + rows.lowerBound * size..<start + rows.upperBound * size) {
        span in unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
      }
    case .chunks(let height, _, _):
      var result: [UInt8] = []
      result.reserveCapacity(rows.count * size)
      var row = rows.lowerBound
      while row < rows.upperBound, size > 0 {
        let chunk = row / height
        let end = min(rows.upperBound, (chunk + 1) * height)
        let bytes = try self.chunk(Key(column: column.name, chunk: chunk), column)
        result += bytes[(row - chunk * height) * size..<(end - chunk * height) * size]
        row = end
      }
      return result
    }
  }
}

extension HDF5Column {
  /// Where a chunk's bytes start in the file.
  func offset(ofChunk chunk: Int) -> Int {
    guard case .chunks(_, _, let places) = storage else { return 0 }
    return places[chunk].range.lowerBound
  }
}

extension HDF5ColumnFile {
  /// Bytes of the columns before they were deflated.
  var columnBytes: Int { columns.values.reduce(0) { $0 + $1.rows * $1.rowBytes } }

  /// Whether a file has a text in an attribute of its root; false for everything that is no HDF5 file.
  static func has(_ attribute: String, _ path: String) throws -> Bool {
    guard FilePath.kind(of: path) == .file else { return false }
    let bytes = try StoredBytes(mapping: path)
    let start = ByteReader(bytes).array(0..<min(bytes.count, 2056))
    guard HDF5Format.recognizes(start, path: "") else { return false }
    return (try? HDF5ColumnFile(path: path))?.attributes[attribute] != nil
  }

  /// Compares every column with the hash of what was written.
  func check(_ hashes: [String: String]) throws {
    for column in columns.values.sorted(by: { $0.name < $1.name }) {
      let hash = try hash(of: column)
      guard let expected = hashes[column.name], expected == hash else {
        throw CheckpointError(
          path: path, tensor: column.name,
          .hashMismatch(found: hash, expected: hashes[column.name] ?? "none"))
      }
    }
  }

  private func hash(of column: HDF5Column) throws -> String {
    var hash = ContentHash()
    let step = max(1, (8 << 20) / max(1, column.rowBytes))
    for first in stride(from: 0, to: column.rows, by: step) {
      let rows = first..<min(first + step, column.rows)
      prepare([.init(column: column, rows: rows)])
      let bytes = try read(column, rows)
      unsafe hash.update(bytes.span.bytes)
    }
    return hash.digits
  }
}

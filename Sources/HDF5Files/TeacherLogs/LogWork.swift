// The work folder of a log: chunks, each a file that appears when it is complete, so that a crash loses at most the chunk
// that was being filled; and the steps in which the finished log gets its name.
//
//   LOG.h5.partial/  lock, key, chunks/000000.safetensors …, result, finished

import Checkpoints
import Glibc
import Tensors

/// A log in the making.
final class LogWork {
  /// The output.
  let path: String
  /// Whether an interrupted run of the same work came to its end: the log stands under its name.
  let isFinished: Bool
  /// Chunks that are complete.
  private(set) var chunkCount = 0
  private let force: Bool
  private let folder: String
  private var lock: Int32 = -1

  /// Where the log is written before it has its name.
  var resultPath: String { FilePath.join(folder, "result") }
  private var finishedPath: String { FilePath.join(folder, "finished") }

  /// Starts a log, or goes on with one that was interrupted.
  ///
  /// - Parameters:
  ///   - key: Everything that the log depends on; only the same work is resumed.
  ///   - force: Replace an existing output.
  init(path: String, key: String, force: Bool) throws {
    self.path = path
    self.force = force
    folder = path + ".partial"
    let parent = FilePath.folder(of: path)
    guard FilePath.kind(of: parent) == .folder else {
      throw FileError(path: parent, operation: "create", code: ENOENT)
    }
    let wholeKey = ContentHash.of(Array(key.utf8))
    let keyPath = FilePath.join(folder, "key")
    let storedKey = (try? FilePath.read(keyPath)).map { String(decoding: $0, as: UTF8.self) }
    if FilePath.kind(of: path) != nil {
      // The rename is the last step but one: the work folder without its result says that it happened.
      if storedKey == wholeKey, FilePath.kind(of: FilePath.join(folder, "finished")) != nil,
        FilePath.kind(of: FilePath.join(folder, "result")) == nil
      {
        isFinished = true
        try FilePath.remove(folder)
        return
      }
      guard force else { throw CheckpointError(path: path, .outputExists) }
    }
    isFinished = false
    try FilePath.makeFolder(folder)
    lock = unsafe open(
      FilePath.join(folder, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0o644 as mode_t)
    guard lock >= 0 else { throw FileError(path: folder, operation: "create", code: errno) }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      throw CheckpointError(path: path, .outputBusy)
    }
    if storedKey != wholeKey {
      for name in try FilePath.names(in: folder) where name != "lock" {
        try FilePath.remove(FilePath.join(folder, name))
      }
      try OutputFile.write(wholeKey, to: keyPath)
    }
    try FilePath.makeFolder(FilePath.join(folder, "chunks"))
    try FilePath.remove(resultPath)
    try FilePath.remove(finishedPath)
    while FilePath.kind(of: chunkPath(chunkCount)) == .file { chunkCount += 1 }
  }

  deinit { if lock >= 0 { close(lock) } }

  /// The file of a chunk.
  func chunkPath(_ index: Int) -> String {
    let digits = String(index)
    return FilePath.join(
      FilePath.join(folder, "chunks"),
      String(repeating: "0", count: max(0, 6 - digits.count)) + digits + ".safetensors")
  }

  /// Writes the next chunk.
  func add(_ write: (String) throws -> Void) throws {
    try write(chunkPath(chunkCount))
    chunkCount += 1
  }

  /// Removes all traces of work that failed for good: bad input leaves nothing behind.
  func abandon() { try? FilePath.remove(folder) }

  /// Gives the finished log at `resultPath` its name.
  func publish() throws {
    if FilePath.kind(of: path) != nil {
      guard force else { throw CheckpointError(path: path, .outputExists) }
      try FilePath.remove(path)
    }
    try OutputFile.write("", to: finishedPath)
    try FilePath.rename(resultPath, to: path)
    try FilePath.remove(folder)
  }
}

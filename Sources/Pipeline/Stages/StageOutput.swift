// Where a stage writes: a work folder beside the output that survives an interruption, and a result that
// gets its name in one step.

import Checkpoints
import Glibc
import JSONDocuments
import Tensors

/// The work folder `OUTPUT.partial` of a stage.
///
/// It holds the key of the work, so that only the same work resumes in it, finished layers, and the
/// result as it grows. One process at a time works in it.
final class StageOutput {
  let path: String
  let workPath: String
  private let lock: Int32
  private(set) var wasResumed = false

  private var keyPath: String { FilePath.join(workPath, "key") }
  private var layersPath: String { FilePath.join(workPath, "layers") }
  /// The folder or file that becomes the output.
  var resultPath: String { FilePath.join(workPath, "result") }

  /// Opens the work folder for an output.
  ///
  /// - Parameters:
  ///   - key: The hash of everything that the result depends on.
  ///   - force: Replace an existing output.
  /// - Returns: Nil when the output stands finished: an interrupted run of this work got that far.
  init?(path: String, key: String, force: Bool) throws {
    let path = FilePath.withoutTrailingSlash(path)
    self.path = path
    workPath = path + ".partial"
    let parent = FilePath.folder(of: path)
    guard FilePath.kind(of: parent) == .folder else {
      throw FileError(path: parent, operation: "create", code: ENOENT)
    }
    let keyPath = FilePath.join(workPath, "key")
    let storedKey = (try? FilePath.read(keyPath)).map { String(decoding: $0, as: UTF8.self) }
    if FilePath.kind(of: path) != nil {
      // The rename is the last step but one: the work folder without its result says that it happened.
      if storedKey == key, FilePath.kind(of: FilePath.join(workPath, "result")) == nil,
        FilePath.kind(of: FilePath.join(workPath, "finished")) != nil
      {
        try FilePath.remove(workPath)
        return nil
      }
      guard force else { throw CheckpointError(path: path, .outputExists) }
    }
    try FilePath.makeFolder(workPath)
    lock = unsafe open(
      FilePath.join(workPath, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0o644 as mode_t)
    guard lock >= 0 else { throw FileError(path: workPath, operation: "create", code: errno) }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      close(lock)
      throw CheckpointError(path: path, .outputBusy)
    }
    if storedKey == key {
      wasResumed = true
    } else {
      for name in try FilePath.names(in: workPath) where name != "lock" {
        try FilePath.remove(FilePath.join(workPath, name))
      }
      try OutputFile.write(key, to: keyPath)
    }
    try FilePath.makeFolder(layersPath)
    try FilePath.remove(resultPath)
    try FilePath.remove(FilePath.join(workPath, "finished"))
  }

  deinit { close(lock) }

  /// A file that stands for work done before the layers.
  func notePath(_ name: String) -> String { FilePath.join(workPath, name) }

  /// The file of a finished layer, named by its place in the work and the attempt to meet a goal.
  func layerPath(_ index: Int, attempt: Int = 0) -> String {
    let digits = String(index)
    return FilePath.join(
      layersPath,
      (attempt == 0 ? "" : "attempt-\(attempt)-")
        + String(repeating: "0", count: max(0, 6 - digits.count)) + digits + ".safetensors")
  }

  /// Gives the result its name and removes the work folder.
  func finish(force: Bool) throws {
    if FilePath.kind(of: path) != nil {
      guard force else { throw CheckpointError(path: path, .outputExists) }
      try FilePath.remove(path)
    }
    try OutputFile.write("", to: FilePath.join(workPath, "finished"))
    try FilePath.rename(resultPath, to: path)
    try FilePath.remove(workPath)
  }

  /// Removes all traces of work that failed for good: bad input leaves nothing behind.
  func abandon() {
    try? FilePath.remove(workPath)
  }
}

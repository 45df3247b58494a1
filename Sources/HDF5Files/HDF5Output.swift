// An HDF5 file in the making: groups, attributes and datasets.

import CHDF5
import Checkpoints
import Tensors

import Glibc

/// A file that appears under its name when it is finished, and otherwise leaves nothing.
struct HDF5Output: ~Copyable {
  let path: String
  private let temporaryPath: String
  private var file: hid_t = -1
  private var isFinished = false

  init(path: String) throws(CheckpointError) {
    self.path = path
    temporaryPath = path + ".partial"
    let temporaryPath = temporaryPath
    file = try HDF5Library.withLock { () throws(CheckpointError) in
      try HDF5Writing.createFile(temporaryPath, path: path)
    }
  }

  /// A group, with those that it lies in.
  func group(_ name: String) throws(CheckpointError) {
    let (file, path) = (file, path)
    try HDF5Library.withLock { () throws(CheckpointError) in
      guard HDF5Writing.group(in: file, name) else { throw HDF5Writing.error(path, name) }
    }
  }

  /// An attribute of the root, or of a group.
  func attribute(_ name: String, _ text: String, of group: String = "/") throws(CheckpointError) {
    let (file, path) = (file, path)
    try HDF5Library.withLock { () throws(CheckpointError) in
      let object = unsafe H5Oopen(file, group, 0)
      guard object >= 0 else { throw HDF5Writing.error(path, group) }
      defer { H5Oclose(object) }
      try HDF5Writing.attribute(of: object, name, text, path: path)
    }
  }

  /// A list of texts as an attribute.
  func attribute(
    _ name: String, texts: [String], of group: String
  ) throws(CheckpointError) {
    let (file, path) = (file, path)
    try HDF5Library.withLock { () throws(CheckpointError) in
      let object = unsafe H5Oopen(file, group, 0)
      guard object >= 0 else { throw HDF5Writing.error(path, group) }
      defer { H5Oclose(object) }
      try HDF5Writing.attribute(of: object, name, texts: texts, path: path)
    }
  }

  /// A tensor at a path, with the groups that it lies in.
  func dataset(
    _ link: String, _ tensor: Tensor, named name: String,
    _ options: HDF5Writer.Options = HDF5Writer.Options()
  ) throws(CheckpointError) {
    let (file, path) = (file, path)
    try HDF5Library.withLock { () throws(CheckpointError) in
      guard HDF5Writing.dataset(in: file, link, tensor, options) else {
        throw HDF5Writing.error(path, name)
      }
    }
  }

  /// Completes the file under its name.
  consuming func finish() throws {
    let file = file
    self.file = -1
    let path = path
    try HDF5Library.withLock { () throws(CheckpointError) in
      guard H5Fclose(file) >= 0 else { throw HDF5Writing.error(path, nil) }
    }
    let descriptor = unsafe open(temporaryPath, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0, fsync(descriptor) == 0 else {
      throw FileError(path: path, operation: "write", code: errno)
    }
    close(descriptor)
    try FilePath.rename(temporaryPath, to: path)
    isFinished = true
  }

  deinit {
    guard !isFinished else { return }
    if file >= 0 {
      let file = file
      HDF5Library.withLock { _ = H5Fclose(file) }
    }
    _ = unsafe unlink(temporaryPath)
  }
}

import Glibc
public import Tensors

/// A file that appears under its name only when it is complete: written beside it, synced, renamed.
public struct OutputFile: ~Copyable {
  /// The final name.
  public let path: String
  private let temporaryPath: String
  private(set) var descriptor: Int32
  private var buffer: [UInt8] = []
  /// Bytes written so far.
  public private(set) var byteCount = 0

  private static let bufferLimit = 1 << 20

  /// Starts a file. A temporary file that an interrupted run left behind is replaced.
  public init(path: String) throws(FileError) {
    self.path = path
    temporaryPath = path + ".partial"
    descriptor = unsafe open(
      temporaryPath, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644 as mode_t)
    guard descriptor >= 0 else { throw FileError(path: path, operation: "create", code: errno) }
    buffer.reserveCapacity(Self.bufferLimit)
  }

  /// Appends bytes.
  public mutating func write(_ bytes: RawSpan) throws(FileError) {
    byteCount += bytes.byteCount
    if bytes.byteCount >= Self.bufferLimit {
      try flush()
      try writeAll(bytes)
      return
    }
    unsafe bytes.withUnsafeBytes { unsafe buffer.append(contentsOf: $0) }
    if buffer.count >= Self.bufferLimit { try flush() }
  }

  /// Appends an array of bytes.
  public mutating func write(_ bytes: [UInt8]) throws(FileError) {
    try write(unsafe bytes.span.bytes)
  }

  /// Appends a text.
  public mutating func write(_ text: String) throws(FileError) {
    try write(Array(text.utf8))
  }

  /// Hands everything to the system.
  mutating func flush() throws(FileError) {
    guard !buffer.isEmpty else { return }
    try writeAll(unsafe buffer.span.bytes)
    buffer.removeAll(keepingCapacity: true)
  }

  /// Counts bytes that were written at their places behind the rest, and goes on after them.
  mutating func continueWriting(after bytes: Int) throws(FileError) {
    byteCount += bytes
    guard lseek(descriptor, off_t(byteCount), SEEK_SET) >= 0 else {
      throw FileError(path: path, operation: "write", code: errno)
    }
  }

  private func writeAll(_ bytes: RawSpan) throws(FileError) {
    var offset = 0
    while offset < bytes.byteCount {
      let written = unsafe bytes.extracting(offset..<bytes.byteCount).withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
      }
      if written < 0 {
        if errno == EINTR { continue }
        throw FileError(path: path, operation: "write", code: errno)
      }
      offset += written
    }
  }

  /// Syncs the file and gives it its name.
  public consuming func finish() throws(FileError) {
    try flush()
    guard fsync(descriptor) == 0 else {
      throw FileError(path: path, operation: "write", code: errno)
    }
    // Until the name is given, the deinitializer closes and removes the temporary file.
    guard unsafe rename(temporaryPath, path) == 0 else {
      throw FileError(path: path, operation: "create", code: errno)
    }
    close(descriptor)
    descriptor = -1
    syncFolder(of: path)
  }

  deinit {
    guard descriptor >= 0 else { return }
    close(descriptor)
    _ = unsafe unlink(temporaryPath)
  }

  /// Writes a whole small file.
  public static func write(_ text: String, to path: String) throws(FileError) {
    try write(Array(text.utf8), to: path)
  }

  /// Writes a whole small file.
  public static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    var file = try OutputFile(path: path)
    try file.write(bytes)
    try file.finish()
  }
}

/// Makes a rename in the folder of `path` durable. Some file systems cannot; then nothing is lost but that.
func syncFolder(of path: String) {
  let folder = FilePath.folder(of: path)
  let descriptor = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard descriptor >= 0 else { return }
  fsync(descriptor)
  close(descriptor)
}

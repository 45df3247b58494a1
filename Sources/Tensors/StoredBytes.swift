import Glibc

/// Bytes that stay where they are: a file mapped read-only, or memory of our own.
///
/// A mapped file that another process truncates raises SIGBUS; the threat model says so.
@safe public final class StoredBytes: @unchecked Sendable {
  // SAFETY: the buffer is written only in the initializers and freed only in deinit, after the last
  // reference is gone; in between it is read-only, so that any thread may read it.
  private let buffer: UnsafeRawBufferPointer
  private let isMapped: Bool

  /// The number of bytes.
  public var count: Int { unsafe buffer.count }

  /// Maps the whole file at `path`, which must be a regular file.
  ///
  /// - Throws: `FileError` with the path and the system's reason.
  public convenience init(mapping path: String) throws(FileError) {
    // A pipe without a writer would otherwise make the call wait for one.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError(path: path, operation: "open", code: errno) }
    defer { close(descriptor) }
    try self.init(mapping: descriptor, path: path)
  }

  /// Maps the whole of an open file, which may be closed afterwards.
  ///
  /// - Parameter path: What errors call it.
  public init(mapping descriptor: Int32, path: String) throws(FileError) {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw FileError(path: path, operation: "read", code: errno)
    }
    let kind = status.st_mode & S_IFMT
    guard kind == S_IFREG else {
      throw kind == S_IFDIR
        ? FileError(path: path, operation: "read", code: EISDIR)
        : FileError(path: path, operation: "map", code: ENODEV)
    }
    let count = Int(status.st_size)
    isMapped = count > 0
    guard count > 0 else {
      unsafe buffer = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    let start = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let start = unsafe start, unsafe start != MAP_FAILED else {
      throw FileError(path: path, operation: "map", code: errno)
    }
    unsafe buffer = UnsafeRawBufferPointer(start: start, count: count)
  }

  /// Memory of `count` bytes, filled by `body`, aligned to 64 bytes.
  public init(count: Int, filledBy body: (inout MutableRawSpan) -> Void) {
    isMapped = false
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
    var span = unsafe MutableRawSpan(_unsafeBytes: memory)
    body(&span)
    unsafe buffer = UnsafeRawBufferPointer(memory)
  }

  /// A copy of an array's elements, as they lie in memory.
  public convenience init<Element: BitwiseCopyable>(copying elements: [Element]) {
    self.init(count: elements.count * MemoryLayout<Element>.stride) { target in
      unsafe elements.withUnsafeBytes { source in
        unsafe target.withUnsafeMutableBytes { unsafe $0.copyMemory(from: source) }
      }
    }
  }

  deinit {
    guard let start = unsafe buffer.baseAddress else { return }
    if isMapped {
      _ = unsafe munmap(UnsafeMutableRawPointer(mutating: start), buffer.count)
    } else {
      unsafe buffer.deallocate()
    }
  }

  /// Calls `body` with the bytes in `range`, which must lie inside.
  public func withBytes<Result, Failure: Error>(
    _ range: Range<Int>, _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "bytes \(range) of \(count)")
    defer { extendLifetime(self) }
    return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: buffer[range])))
  }

  /// Tells the system that the pages of a mapped file need not stay in memory; they come back when they are read.
  public func releasePages() {
    guard isMapped, let start = unsafe buffer.baseAddress else { return }
    unsafe madvise(UnsafeMutableRawPointer(mutating: start), count, MADV_DONTNEED)
  }

  /// Tells the system that the whole file will be read soon, from front to back.
  public func adviseSequentialReading() {
    guard isMapped, let start = unsafe buffer.baseAddress else { return }
    unsafe madvise(UnsafeMutableRawPointer(mutating: start), count, MADV_WILLNEED)
  }
}

/// Why a file could not be opened, read or written: the system's word on it.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file, as the caller named it.
  public let path: String
  /// What was tried: `open`, `read`, `write`, `create` …
  public let operation: String
  /// The system's error number.
  public let code: Int32

  /// An error with the system's number.
  public init(path: String, operation: String, code: Int32) {
    self.path = path
    self.operation = operation
    self.code = code
  }

  /// One line without a full stop.
  public var description: String {
    let reason = unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
    return "\(path): cannot \(operation): \(reason.prefix(1).lowercased() + reason.dropFirst())"
  }
}

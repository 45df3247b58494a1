import Glibc
public import Tensors

/// Paths and the few questions to the file system that the project asks.
public enum FilePath {
  /// What a path leads to.
  public enum Kind: Sendable, Equatable {
    /// A regular file.
    case file
    /// A folder.
    case folder
    /// Something else: a device, a pipe.
    case other
  }

  /// `folder/name`.
  public static func join(_ folder: String, _ name: String) -> String {
    if name.hasPrefix("/") { return name }
    return folder.isEmpty || folder == "."
      ? name : folder.hasSuffix("/") ? folder + name : folder + "/" + name
  }

  /// The part before the last `/`; `.` when there is none.
  public static func folder(of path: String) -> String {
    let path = withoutTrailingSlash(path)
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The part after the last `/`.
  public static func name(of path: String) -> String {
    let path = withoutTrailingSlash(path)
    guard let slash = path.lastIndex(of: "/") else { return path }
    return String(path[path.index(after: slash)...])
  }

  /// The path without slashes at its end.
  public static func withoutTrailingSlash(_ path: String) -> String {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path
  }

  /// What stands at the path; nil when nothing does.
  public static func kind(of path: String) -> Kind? {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .folder
    default: return .other
    }
  }

  /// Bytes of a file; nil when there is none.
  public static func byteCount(of path: String) -> Int? {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    return Int(status.st_size)
  }

  /// The names in a folder, sorted by their bytes.
  public static func names(in folder: String) throws(FileError) -> [String] {
    guard let stream = unsafe opendir(folder) else {
      throw FileError(path: folder, operation: "open", code: errno)
    }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { field in
        unsafe field.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// Makes a folder and those above it; it may exist.
  public static func makeFolder(_ path: String) throws(FileError) {
    if kind(of: path) == .folder { return }
    let parent = folder(of: path)
    if parent != path, parent != "." { try makeFolder(parent) }
    guard unsafe mkdir(path, 0o755) == 0 || errno == EEXIST else {
      throw FileError(path: path, operation: "create", code: errno)
    }
  }

  /// Removes a file, or a folder with all that is in it; links are removed, not followed.
  public static func remove(_ path: String) throws(FileError) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return }
    if status.st_mode & S_IFMT == S_IFDIR {
      for name in try names(in: path) { try remove(join(path, name)) }
      guard unsafe rmdir(path) == 0 else {
        throw FileError(path: path, operation: "remove", code: errno)
      }
    } else {
      guard unsafe unlink(path) == 0 else {
        throw FileError(path: path, operation: "remove", code: errno)
      }
    }
  }

  /// Gives a finished file or folder its name.
  public static func rename(_ from: String, to: String) throws(FileError) {
    guard unsafe Glibc.rename(from, to) == 0 else {
      throw FileError(path: to, operation: "create", code: errno)
    }
    syncFolder(of: to)
  }

  /// Copies a file, as a second name of the same bytes where the file system can.
  public static func copy(_ from: String, to: String) throws(FileError) {
    if unsafe link(from, to) == 0 { return }
    try OutputFile.write(try read(from), to: to)
  }

  /// The bytes of a whole file.
  public static func read(_ path: String) throws(FileError) -> [UInt8] {
    if let kind = kind(of: path), kind == .other { return try readStream(path) }
    let bytes = try StoredBytes(mapping: path)
    return bytes.withBytes(0..<bytes.count) { span in
      unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
    }
  }

  /// What a pipe or a device gives until it ends.
  private static func readStream(_ path: String) throws(FileError) -> [UInt8] {
    var bytes: [UInt8] = []
    try forEachPiece(of: path) { piece in
      unsafe piece.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }
    return bytes
  }

  /// Reads a file from front to back in pieces of at most 1 MB.
  static func forEachPiece(of path: String, _ body: (RawSpan) -> Void) throws(FileError) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, operation: "open", code: errno) }
    defer { close(descriptor) }
    var block = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = unsafe Glibc.read(descriptor, &block, block.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError(path: path, operation: "read", code: errno)
      }
      if count == 0 { return }
      unsafe body(block.span.bytes.extracting(0..<count))
    }
  }
}

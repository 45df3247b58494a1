import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct StoredBytesTests {
  @Test func aMissingFileIsNamed() {
    let error = #expect(throws: FileError.self) { try StoredBytes(mapping: "/nowhere/at all") }
    #expect(error == FileError(path: "/nowhere/at all", operation: "open", code: ENOENT))
    #expect(
      error.map(String.init(describing:))
        == "/nowhere/at all: cannot open: no such file or directory")
  }

  @Test func aFolderIsNoFile() throws {
    let folder = try TemporaryFolder()
    #expect(throws: FileError(path: folder.path, operation: "read", code: EISDIR)) {
      try StoredBytes(mapping: folder.path)
    }
  }

  /// Opening a pipe that nobody writes to must not wait.
  @Test func aPipeCannotBeMapped() throws {
    let folder = try TemporaryFolder()
    try #require(mkfifo(folder.file("pipe"), 0o600) == 0)
    #expect(throws: FileError(path: folder.file("pipe"), operation: "map", code: ENODEV)) {
      try StoredBytes(mapping: folder.file("pipe"))
    }
  }

  @Test func anEmptyFileHasNoBytes() throws {
    let folder = try TemporaryFolder()
    try Data().write(to: URL(filePath: folder.file("empty")))
    let bytes = try StoredBytes(mapping: folder.file("empty"))
    #expect(bytes.count == 0)
    #expect(bytes.withBytes(0..<0) { $0.byteCount } == 0)
    bytes.adviseSequentialReading()
  }

  @Test func aFileIsItsBytes() throws {
    let folder = try TemporaryFolder()
    let content = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    try Data(content).write(to: URL(filePath: folder.file("bytes")))
    let bytes = try StoredBytes(mapping: folder.file("bytes"))
    try FileManager.default.removeItem(atPath: folder.file("bytes"))
    #expect(bytes.count == content.count)
    #expect(
      bytes.withBytes(5000..<5004) { $0.withUnsafeBytes { Array($0) } }
        == Array(content[5000..<5004]))
  }

  @Test func ownMemoryIsAligned() {
    for count in [0, 1, 63, 64, 1000] {
      let bytes = StoredBytes(copying: [UInt8](repeating: 3, count: count))
      #expect(bytes.count == count)
      bytes.withBytes(0..<count) { span in
        span.withUnsafeBytes { raw in
          #expect(raw.allSatisfy { $0 == 3 })
          if let start = raw.baseAddress { #expect(UInt(bitPattern: start) % 64 == 0) }
        }
      }
    }
  }
}

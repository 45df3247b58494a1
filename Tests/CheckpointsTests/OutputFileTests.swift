import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct OutputFileTests {
  private struct GivenUp: Error {}

  @Test func unfinishedFilesLeaveNothing() throws {
    let folder = try TemporaryFolder()
    do {
      var file = try OutputFile(path: folder.file("out"))
      try file.write("abc")
      #expect(try FilePath.names(in: folder.path) == ["out.partial"])
    }
    #expect(try FilePath.names(in: folder.path) == [])
    #expect(throws: GivenUp.self) {
      var file = try OutputFile(path: folder.file("out"))
      try file.write([UInt8](repeating: 1, count: 3 << 20))
      throw GivenUp()
    }
    #expect(try FilePath.names(in: folder.path) == [])
  }

  /// What stood under the name stays until the new file is complete.
  @Test func finishedFilesReplace() throws {
    let folder = try TemporaryFolder()
    try OutputFile.write("old", to: folder.file("out"))
    var file = try OutputFile(path: folder.file("out"))
    try file.write("new")
    #expect(try FilePath.read(folder.file("out")) == Array("old".utf8))
    try file.finish()
    #expect(try FilePath.read(folder.file("out")) == Array("new".utf8))
    #expect(try FilePath.names(in: folder.path) == ["out"])
  }

  @Test func leftoversOfAnInterruptedRunAreReplaced() throws {
    let folder = try TemporaryFolder()
    try Data(repeating: 7, count: 1000).write(to: URL(filePath: folder.file("out.partial")))
    try OutputFile.write("short", to: folder.file("out"))
    #expect(try FilePath.read(folder.file("out")) == Array("short".utf8))
    #expect(try FilePath.names(in: folder.path) == ["out"])
  }

  /// Pieces of all sizes around the buffer's million bytes, in their order.
  @Test func piecesOfAllSizes() throws {
    let folder = try TemporaryFolder()
    var expected: [UInt8] = []
    var file = try OutputFile(path: folder.file("out"))
    for (index, size) in [0, 1, 1000, (1 << 20) - 1002, 1, 1 << 20, 5, (1 << 20) + 1, 3]
      .enumerated()
    {
      let piece = (0..<size).map { UInt8(truncatingIfNeeded: $0 * 31 + index) }
      try file.write(piece)
      expected += piece
      #expect(file.byteCount == expected.count)
    }
    try file.finish()
    #expect(try FilePath.read(folder.file("out")) == expected)
  }

  @Test func namesThatCannotBeGiven() throws {
    let folder = try TemporaryFolder()
    let missing = folder.file("none/out")
    #expect(throws: FileError(path: missing, operation: "create", code: ENOENT)) {
      try OutputFile.write("x", to: missing)
    }
    // A folder of the name: found when the file is complete; the temporary file goes.
    try FilePath.makeFolder(folder.file("taken"))
    #expect(throws: FileError(path: folder.file("taken"), operation: "create", code: EISDIR)) {
      try OutputFile.write("x", to: folder.file("taken"))
    }
    #expect(try FilePath.names(in: folder.path) == ["taken"])
  }
}

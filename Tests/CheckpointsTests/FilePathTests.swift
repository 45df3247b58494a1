import Checkpoints
import TestSupport
import Testing

@Suite struct FilePathTests {
  @Test func partsOfPaths() {
    #expect(FilePath.join("a", "b") == "a/b")
    #expect(FilePath.join("a/", "b") == "a/b")
    #expect(FilePath.join(".", "b") == "b")
    #expect(FilePath.join("a", "/b") == "/b")
    for (path, folder, name) in [
      ("a/b", "a", "b"), ("a", ".", "a"), ("/a", "/", "a"), ("/a/b//", "/a", "b"), ("a/", ".", "a"),
    ] {
      #expect(FilePath.folder(of: path) == folder, "\(path)")
      #expect(FilePath.name(of: path) == name, "\(path)")
    }
    #expect(FilePath.withoutTrailingSlash("/") == "/")
  }

  @Test func foldersAreMadeAndRemoved() throws {
    let folder = try TemporaryFolder()
    try FilePath.makeFolder(folder.file("a/b/c"))
    try FilePath.makeFolder(folder.file("a/b/c"))
    try OutputFile.write("x", to: folder.file("a/b/f"))
    #expect(FilePath.kind(of: folder.file("a/b")) == .folder)
    #expect(FilePath.kind(of: folder.file("a/b/f")) == .file)
    #expect(FilePath.kind(of: "/dev/null") == .other)
    #expect(FilePath.byteCount(of: folder.file("a/b/f")) == 1)
    #expect(try FilePath.names(in: folder.file("a/b")) == ["c", "f"])
    try FilePath.rename(folder.file("a/b"), to: folder.file("d"))
    try FilePath.remove(folder.file("a"))
    try FilePath.remove(folder.file("d"))
    try FilePath.remove(folder.file("d"))
    #expect(try FilePath.names(in: folder.path) == [])
    #expect(FilePath.kind(of: folder.file("a")) == nil)
    #expect(try FilePath.read("/dev/null") == [])
  }
}

import TestSupport
import Testing

@testable import Checkpoints

/// A download that stopped: every reader says so in a line, and reads nothing.
@Suite struct TruncatedFileTests {
  @Test(arguments: [
    "pytorch/views.pt", "pytorch/views-legacy.pt", "pytorch/training.pt", "pytorch/script.pt",
    "numpy/arrays.npz", "numpy/arrays-deflated.npz", "numpy/version1.npy",
    "llama-c/legacy-untied.bin",
    "llama-c/version1-tied.bin", "llama-c/version2-untied.bin", "llama-c/ternary.bin",
  ]) func everySixteenth(_ name: String) throws {
    let path = TestData.fixtures + "/" + name
    let bytes = try FilePath.read(path)
    let folder = try TemporaryFolder()
    let format = try #require(
      CheckpointFormats.all.first { $0.recognizes(Array(bytes.prefix(4096)), path: path) })
    for step in 0..<16 {
      let file = folder.file("m" + name.suffix(4))
      try FileMutations.replaceFile(at: file, with: Array(bytes.prefix(bytes.count * step / 16)))
      let error = openingError(format, file)
      #expect(error != nil, "\(step)/16 of \(name)")
      #expect(error?.path == file && error?.description.contains("\n") == false)
    }
    // One byte less, too.
    try FileMutations.replaceFile(at: folder.file("m"), with: Array(bytes.dropLast()))
    #expect(openingError(format, folder.file("m")) != nil)
  }
}

import Foundation
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

@Suite struct NumPyTests {
  static let fixtures = TestData.fixtures + "/numpy/"

  /// All types in both byte orders and both orders of dimensions, bit for bit as NumPy reads them.
  @Test(arguments: ["arrays.npz", "arrays-deflated.npz"]) func archives(_ name: String) throws {
    let found = try NumPyArchiveFormat.open(Self.fixtures + name)
    #expect(differences(found, try safetensors(Self.fixtures + "arrays.safetensors")) == [])
  }

  @Test(arguments: 1...3) func versions(_ version: Int) throws {
    let found = try NumPyArrayFormat.open(Self.fixtures + "version\(version).npy")
    #expect(found.tensorNames == ["version\(version)"])
    let tensor = try #require(found.tensor("version\(version)"))
    #expect(tensor.shape == [2, 3] && tensor.floats() == [0, 1, 2, 3, 4, 5])
  }

  /// Two bytes of no type are what ml_dtypes' bfloat16 is saved as.
  @Test func brainFloats() throws {
    let tensor = try NumPyArrayFormat.open(Self.fixtures + "bfloat16.npy").tensor("bfloat16")
    #expect(tensor?.dtype == .bfloat16)
    #expect(tensor?.floats() == [1, -2.5, 2_986_344_448])
  }

  @Test(arguments: [
    (
      "objects.npy",
      CheckpointError.Problem.unsupported(
        "an array of Python objects (type '|O'), which is a pickle,")
    ),
    ("texts.npy", .unsupported("the NumPy type '<U2'")),
    ("structured.npy", .unsupported("a structured NumPy array")),
  ]) func refusals(_ name: String, _ problem: CheckpointError.Problem) {
    #expect(openingError(NumPyArrayFormat.self, Self.fixtures + name)?.problem == problem)
  }

  private static func file(_ header: String, data: Int, version: UInt8 = 1) -> [UInt8] {
    NumPyHeader.magic + [version, 0, UInt8(header.utf8.count & 255), UInt8(header.utf8.count >> 8)]
      + Array(header.utf8) + [UInt8](repeating: 0, count: data)
  }

  private static func problem(_ bytes: [UInt8]) -> CheckpointError.Problem? {
    do throws(CheckpointError.Problem) {
      _ = try NumPyArray.view(of: StoredBytes(copying: bytes), range: 0..<bytes.count)
      return nil
    } catch {
      return error
    }
  }

  @Test func hostileHeaders() {
    func header(_ shape: String, type: String = "<f4") -> String {
      "{'descr': '\(type)', 'fortran_order': False, 'shape': \(shape), }\n"
    }
    #expect(Self.problem(Self.file(header("(2, 3)"), data: 24)) == nil)
    #expect(Self.problem(Self.file(header("()"), data: 4)) == nil)
    #expect(
      Self.problem(Self.file(header("(2, 3)"), data: 28)) == .unusedBytes(from: 24, to: 28))
    let long = header("(9223372036854775807,)")
    #expect(Self.problem(Self.file(long, data: 8)) == .badShape([.max]))
    #expect(Self.problem(Self.file(header("(-1,)"), data: 8)) == .badShape([-1]))
    #expect(
      Self.problem(Self.file(header("(4611686018427387904, 4, 0)", type: "<i1"), data: 0))
        == .badShape([1 << 62, 4, 0]))
    #expect(
      Self.problem(Self.file(header("(2305843009213693951, 0)", type: "<f8"), data: 0)) == nil)
    #expect(
      Self.problem(Self.file(header("(2, 3)", type: "<V4"), data: 24))
        == .unsupported("the NumPy type '<V4'"))
    #expect(
      Self.problem(Self.file(header(String(repeating: "(", count: 9000)), data: 0))
        == .damaged(what: "the header is nested too deep", offset: 67))
    #expect(
      Self.problem(Self.file("{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", data: 4))
        == .damaged(what: "the header has other keys", offset: 10))
    #expect(
      Self.problem(NumPyHeader.magic + [2, 0, 255, 255, 255, 255])
        == .headerTooLarge(bytes: 0xFFFF_FFFF, limit: 10_000))
    #expect(
      Self.problem(NumPyHeader.magic + [9, 0, 0, 0])
        == .unsupported("version 9.0 of the NumPy format"))
  }

  /// A thousand zeros to one: what such an archive claims is refused before it is inflated.
  @Test func deflatedBombs() throws {
    let folder = try TemporaryFolder()
    let claim = 1 << 30
    let archive = HostileArchive.bytes([
      .init(
        name: "a.npy", method: 8, stored: [UInt8](repeating: 0, count: 2 << 20), byteCount: claim)
    ])
    try Data(archive).write(to: URL(filePath: folder.file("bomb.npz")))
    #expect(
      openingError(NumPyArchiveFormat.self, folder.file("bomb.npz"))?.problem
        == .tooLarge(
          what: "the array inflates to", bytes: claim, limit: archive.count + (64 << 20)))
  }

  /// All types, written and read: the same bytes, each on a multiple of 64 in the file.
  @Test func archivesAreReadBack() throws {
    let source = try safetensors(TestData.fixtures + "/safetensors/all-types.safetensors")
    let folder = try TemporaryFolder()
    var writer = try NumPyArchiveWriter(path: folder.file("a.npz"))
    for name in source.keys.sorted() {
      try writer.write(name.contains("quoted") ? "naïve 名" : name, try #require(source[name]))
    }
    try writer.finish()
    var expected = source
    expected["naïve 名"] = expected.removeValue(forKey: "naïve \"quoted\" \\ 名")
    let found = try NumPyArchiveFormat.open(folder.file("a.npz"))
    #expect(differences(found, expected) == [])
    let archive = try ZipArchive(path: folder.file("a.npz"))
    for entry in archive.entries {
      try archive.check(entry)
      let header = try NumPyHeader(of: archive.bytes, range: entry.range)
      #expect((entry.range.lowerBound + header.byteCount) % 64 == 0)
    }
    #expect(throws: CheckpointError.self) {
      var writer = try NumPyArchiveWriter(path: folder.file("b.npz"))
      try writer.write("../b", try #require(source["scalar"]))
    }
    #expect(try FilePath.names(in: folder.path) == ["a.npz"])
  }
}

import Foundation
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

@Suite struct ZipArchiveTests {
  typealias Entry = HostileArchive.Entry

  private static func open(_ bytes: [UInt8]) -> Result<ZipArchive, CheckpointError> {
    Result { () throws(CheckpointError) in
      try ZipArchive(path: "a", bytes: StoredBytes(copying: bytes))
    }
  }

  private static func problem(_ bytes: [UInt8]) -> CheckpointError.Problem? {
    if case .failure(let error) = open(bytes) { error.problem } else { nil }
  }

  private static let two = [
    Entry(name: "a/b", stored: [1, 2, 3]), Entry(name: "c", stored: [4, 5]),
  ]

  @Test func entries() throws {
    let archive = try Self.open(HostileArchive.bytes(Self.two)).get()
    #expect(archive.entries.map(\.name) == ["a/b", "c"])
    let entry = try #require(archive["a/b"])
    let contents = try archive.contents(of: entry)
    #expect(ByteReader(contents.storage).array(contents.range) == [1, 2, 3])
    #expect(archive["d"] == nil)
    #expect(Self.problem(HostileArchive.bytes([])) == nil)
  }

  @Test(arguments: ["../a", "/a", "a/../b", "..", "a\\b", "a\0b", ""])
  func namesThatLeadOut(_ name: String) {
    #expect(
      Self.problem(HostileArchive.bytes([Entry(name: name, stored: [1])]))
        == .unsafeEntryName(name))
  }

  @Test func hostileDirectories() {
    func with(_ edit: (inout [Entry]) -> Void) -> CheckpointError.Problem? {
      var entries = Self.two
      edit(&entries)
      return Self.problem(HostileArchive.bytes(entries))
    }
    #expect(with { $0[1].name = "a/b" } == .duplicateEntry("a/b"))
    #expect(
      with { $0[1].localName = "d" }
        == .damaged(what: "the header of the entry 'c' has another name", offset: 66))
    #expect(with { $0[1].flags = 1 } == .unsupported("the encrypted entry 'c'"))
    #expect(with { $0[1].method = 12 } == .unsupported("compression method 12 of the entry 'c'"))
    #expect(
      with { $0[1].byteCount = 3 }
        == .damaged(what: "the entry 'c' of 2 bytes claims to hold 3", offset: 118))
    #expect(
      with { $0[1] = Entry(name: "c", method: 8, stored: [3, 0], byteCount: 1 << 20) }
        == .damaged(what: "the entry 'c' of 2 bytes claims to hold 1048576", offset: 118))
    #expect(
      with { $0[1].header = 1 << 30 }
        == .truncated(needed: 1 << 30, available: 187))
    #expect(
      with { $0[1].header = 1 } == .damaged(what: "no header of the entry 'c'", offset: 1))
    // Both entries are the first one's bytes: the way of the archives that inflate without end.
    #expect(
      with { $0[1] = Entry(name: "a/b", stored: [1, 2, 3], header: 0) }
        == .damaged(what: "the archive's entries 'a/b' and 'a/b' share bytes", offset: 33))
    #expect(
      Self.problem(HostileArchive.bytes(Self.two, count: 3))
        == .damaged(what: "the archive's directory claims 3 entries in 96 bytes", offset: 165))
    #expect(
      Self.problem(HostileArchive.bytes(Self.two, count: 1))
        == .damaged(what: "the archive's directory goes on after its last entry", offset: 118))
  }

  /// Inflated bytes must be the stored number of bytes and have the stored checksum.
  @Test func damagedStreams() throws {
    var bytes = try FilePath.read(TestData.fixtures + "/numpy/arrays-deflated.npz")
    let archive = try Self.open(bytes).get()
    let entry = try #require(archive["truth.npy"])
    try archive.check(entry)
    bytes[entry.range.lowerBound + 5] ^= 4
    let damaged = try Self.open(bytes).get()
    #expect(throws: CheckpointError(path: "a", .damagedEntry("truth.npy"))) {
      try damaged.check(entry)
    }
  }

  /// Every prefix of an archive is refused, none crashes.
  @Test(arguments: ["numpy/arrays.npz", "pytorch/views.pt"]) func prefixes(_ name: String) throws {
    let bytes = try FilePath.read(TestData.fixtures + "/" + name)
    for count in stride(from: 0, to: bytes.count, by: 7) {
      #expect(Self.problem(Array(bytes.prefix(count))) != nil)
    }
  }
}

import Checkpoints
import Foundation
import TestSupport
import Tensors
import Testing

@testable import HDF5Files

/// Damaged HDF5 files. libhdf5 may crash on them: in a process of its own, which gives an error.
@Suite(.serialized) struct HDF5FuzzTests {
  static let fixtures = TestData.fixtures + "/hdf5/"

  private static func problem(_ bytes: [UInt8], _ folder: TemporaryFolder) throws
    -> CheckpointError?
  {
    try FileMutations.replaceFile(at: folder.file("m.h5"), with: bytes)
    return openingError(HDF5Format.self, folder.file("m.h5"))
  }

  @Test(arguments: ["tree.h5", "tree-1.10.h5", "keras-model.h5", "keras3.keras"])
  func truncation(_ name: String) throws {
    let folder = try TemporaryFolder()
    let bytes = try FilePath.read(Self.fixtures + name)
    for step in 0..<16 {
      let error = try Self.problem(Array(bytes.prefix(bytes.count * step / 16)), folder)
      #expect(error != nil, "\(step)/16")
      #expect(error?.description.contains("\n") == false)
    }
  }

  @Test func messages() throws {
    let folder = try TemporaryFolder()
    #expect(try Self.problem([], folder)?.problem == .truncated(needed: 8, available: 0))
    #expect(
      try Self.problem(Array("no file of HDF5".utf8), folder)?.problem
        == .hdf5("unable to open file: file signature not found"))
    let tree = try FilePath.read(Self.fixtures + "tree.h5")
    let half = try #require(try Self.problem(Array(tree.prefix(20_000)), folder))
    #expect(half.description.contains("truncated file: eof = 20000"), "\(half)")
  }

  /// What the child may not do: its parent's files, descriptors and memory are as they were.
  @Test func descriptorsStayAsTheyWere() throws {
    func descriptors() throws -> Int { try FilePath.names(in: "/proc/self/fd").count }
    let folder = try TemporaryFolder()
    var bytes = try FilePath.read(Self.fixtures + "tree.h5")
    let before = try descriptors()
    for round in 0..<20 {
      if round == 10 { for index in 600..<3000 { bytes[index] = 0xFF } }
      _ = try Self.problem(bytes, folder)
    }
    #expect(try descriptors() <= before + 2)
  }

  @Test(.timeLimit(.minutes(60))) func mutations() throws {
    let seeds = try [
      "tree.h5", "tree-1.10.h5", "keras-model.h5", "unknown-filter.h5", "virtual.h5",
    ]
    .map { try FilePath.read(Self.fixtures + $0) }
    let words = [
      "OHDR", "OCHK", "TREE", "SNOD", "HEAP", "GCOL", "FRHP", "FHDB", "BTHD", "BTLF", "FADB",
      "EAHD",
      "\u{89}HDF\r\n\u{1A}\n", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
      "\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}",
      "\u{1}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
      "\u{0}\u{8}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}", "\u{FF}\u{FF}\u{FF}\u{7F}",
    ].map { $0.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) } }
    let before = FileMutations.peakAddressSpace()
    let started = ContinuousClock.now
    let count = FileMutations.count(default: 1_500)
    let (broken, accepted) = try FileMutations.run(
      HDF5Format.self, seeds: seeds, words: words, count: count, name: "hdf5")
    #expect(broken == nil)
    #expect(accepted > 0 && accepted < count, "\(accepted) of \(count) accepted")
    let grown = FileMutations.peakAddressSpace() - before
    #expect(grown < (FileMutations.isLongRun ? 160 << 20 : 1 << 30), "\(grown) bytes")
    if FileMutations.isLongRun {
      print(
        "hdf5: \(count) inputs, \(accepted) accepted, +\(grown >> 20) MB,"
          + " \(ContinuousClock.now - started)")
    }
  }
}

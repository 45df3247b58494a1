import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@testable import HDF5Files

/// Logs from strangers: an error in one line, never a crash, whatever the bytes.
@Suite(.serialized) struct TeacherLogFuzzTests {
  private static func problem(_ path: String) -> String? {
    do {
      let log = try TeacherLog(path: path)
      _ = try log.windows(0..<log.windowCount)
      return nil
    } catch let error as CheckpointError {
      return "\(error)"
    } catch {
      return "another error: \(error)"
    }
  }

  private static func put(_ value: UInt32, at index: Int, _ bytes: inout [UInt8]) {
    for byte in 0..<4 { bytes[4 * index + byte] = UInt8(truncatingIfNeeded: value >> (8 * byte)) }
  }

  /// Each lie that a column can tell, and the words that name it.
  @Test(
    arguments: [
      ("nothing changed", nil),
      ("NaN", "'log_sum_exp of window 0': found numbers that are infinite"),
      ("token", "'tokens of window 0': found rank 65000 of 300"),
      ("twice", "'top of window 0': found an id twice"),
      ("hole", "'top of window 0': found an id twice or behind"),
      ("counts", "'top_count of window 0': found more samples than were drawn"),
      ("tail", "'tail_high of window 0': found an end before"),
      ("tail rank", "'tail_high of window 0': found rank"),
      ("ids", "'ids': found id 1, expected every id below 300 once"),
      ("id beyond", "'ids': found id 300"),
      ("window", "'windows': found window 0 of 4096 tokens"),
      ("rows", "'windows': found window 0 of"), ("sizes", "'windows': found"),
      ("short", "'entropy': has shape [8], the configuration says"),
      ("missing", "'entropy': the checkpoint has no such tensor"),
      ("mass", "'other_mass of window 0': found a probability outside 0…1"),
      ("list", "'true of window 0': found a token that is not in the list"),
      ("hidden", "'hidden_1 of window 0': found hidden states that are infinite"),
    ] as [(String, String?)]) func lies(_ lie: String, _ words: String?) throws
  {
    let folder = try TemporaryFolder()
    let path = folder.file("l.h5")
    let manifest = SampleLogs.manifest(source: lie == "mass" ? .api : .model, hidden: [1])
    try SampleLogs.write(manifest, to: path) { columns in
      switch lie {
      case "NaN": Self.put(Float.nan.bitPattern, at: 0, &columns["log_sum_exp"]!)
      case "token": columns["tokens"]!.replaceSubrange(0..<2, with: [0xE8, 0xFD])
      case "twice": columns["top"]!.replaceSubrange(2..<4, with: columns["top"]![0..<2])
      case "hole": columns["top"]!.replaceSubrange(0..<2, with: [0xFF, 0xFF])
      case "counts": columns["top_count"]![0] = 21
      case "tail": columns["tail_high"] = columns["tail_high"]!.map { _ in 0x80 }
      case "tail rank":
        columns["tail_high"] = columns["tail_high"]!.map { $0 & 0x7F | 0x40 }
      case "ids": Self.put(1, at: 0, &columns["ids"]!)
      case "id beyond": Self.put(300, at: 299, &columns["ids"]!)
      case "window": Self.put(4096, at: 0, &columns["windows"]!)
      case "rows": Self.put(.max, at: 2, &columns["windows"]!)
      case "sizes": Self.put(1, at: 3, &columns["windows"]!)
      case "short": columns["entropy"] = Array(columns["entropy"]!.prefix(16))
      case "missing": columns["entropy"] = nil
      case "mass": Self.put(Float(1.5).bitPattern, at: 0, &columns["other_mass"]!)
      case "list": columns["true"] = columns["true"]!.map { _ in 0xFF }
      case "hidden": columns["hidden_1"]!.replaceSubrange(0..<2, with: [0xFF, 0xFF])
      default: break
      }
    }
    let found = Self.problem(path)
    if let words {
      #expect(found?.hasPrefix(path + ": " + words) == true, "\(found ?? "accepted")")
    } else {
      #expect(found == nil)
    }
  }

  @Test(arguments: [
    ("", "the header is damaged"), ("{}", "'version' is missing"),
    (#"{"version":9}"#, "version 9 of teacher logs"), ("[1]", "'version' is missing"),
  ]) func manifests(_ text: String, _ words: String) throws {
    let folder = try TemporaryFolder()
    try SampleLogs.write(SampleLogs.manifest(), to: folder.file("l.h5"), text: text) { _ in }
    let found = Self.problem(folder.file("l.h5"))
    #expect(found?.contains(words) == true, "\(found ?? "accepted")")
  }

  /// Files that are no logs.
  @Test func foreign() throws {
    let folder = try TemporaryFolder()
    #expect(
      Self.problem(TestData.fixtures + "/hdf5/keras-weights.h5")?.contains(
        "an HDF5 file without the attribute 'condense_teacher_log'") == true)
    try FileMutations.replaceFile(at: folder.file("empty"), with: [])
    #expect(Self.problem(folder.file("empty"))?.contains("truncated") == true)
    try FileMutations.replaceFile(at: folder.file("text"), with: Array("no log".utf8))
    #expect(Self.problem(folder.file("text"))?.contains("file signature not found") == true)
    #expect(try !TeacherLog.isLog(folder.file("text")))
    #expect(throws: FileError.self) { try TeacherLog(path: folder.file("absent")) }
  }

  private static func seeds(_ folder: borrowing TemporaryFolder) throws -> [[UInt8]] {
    try [SampleLogs.manifest(hidden: [1]), SampleLogs.manifest(samples: 0, source: .api)].map {
      let path = folder.file("seed.h5")
      try SampleLogs.write(
        SampleLogs.windows($0, count: 12, seed: "fuzz"), $0, to: path)
      defer { try? FilePath.remove(path) }
      return try FilePath.read(path)
    }
  }

  @Test func truncation() throws {
    let folder = try TemporaryFolder()
    for bytes in try Self.seeds(folder) {
      for step in 0..<16 {
        try FileMutations.replaceFile(
          at: folder.file("l.h5"), with: Array(bytes.prefix(bytes.count * step / 16)))
        let found = Self.problem(folder.file("l.h5"))
        #expect(found != nil && found?.contains("\n") == false, "\(step)/16")
      }
    }
  }

  @Test(.timeLimit(.minutes(60))) func mutations() throws {
    let folder = try TemporaryFolder()
    let seeds = try Self.seeds(folder)
    let words = ["OHDR", "OCHK", "TREE", "SNOD", "HEAP", "FRHP", "\u{FF}\u{FF}\u{FF}\u{7F}"].map {
      $0.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
    }
    var stream = RandomStream(test: "teacher log fuzz")
    let count = FileMutations.count(default: 400)
    var accepted = 0
    for round in 0..<count {
      var bytes = seeds[round % seeds.count]
      for _ in 0...stream.integer(below: 4) {
        FileMutations.mutate(&bytes, &stream, words: words)
      }
      try FileMutations.replaceFile(at: folder.file("l.h5"), with: bytes)
      let found = Self.problem(folder.file("l.h5"))
      if found == nil { accepted += 1 }
      let isLine = found.map {
        !$0.contains("\n") && $0.utf8.count < 5000 && !$0.hasPrefix("another")
      }
      try #require(isLine ?? true, "round \(round): \(found ?? "")")
    }
    #expect(accepted > 0 && accepted < count, "\(accepted) of \(count) accepted")
  }
}
